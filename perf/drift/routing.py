"""Rules, routes and neighbours: what leads to a pod, and what a pod sends away."""

from __future__ import annotations

from collections.abc import Iterator

from perf.drift.item import FAMILIES, Change, Family, Item, Shell, Shown, Thing

_TO_PODS = "by routes all that goes to the node's pods"
_FROM_POD = "by routes all that the pod sends beyond the node"
_NOBODY = "what comes for no pod is sent round"
_TO_POD = "by routes all that goes to the pod"
_FROM_PODS = "by routes all that the ENI's pods send beyond the node"


def items() -> tuple[Item, ...]:
    return tuple(
        one
        for family in FAMILIES
        for part in (_rules, _pod_routes, _eni_routes, _neighbours)
        for one in part(family)
    )


def _rules(of: Family) -> Iterator[Item]:
    rows: tuple[tuple[str, Change, str, str], ...] = (
        ("512", Change.DELETED, "{ip} rule del priority 512", _TO_PODS),
        (
            "512",
            Change.IMPOSTOR,
            "{ip} rule del priority 512; {ip} rule add priority 512 lookup 77",
            _TO_PODS,
        ),
        ("1024", Change.DELETED, "{ip} rule del priority 1024", _NOBODY),
        (
            "1024",
            Change.IMPOSTOR,
            "{ip} rule del priority 1024; {ip} rule add priority 1024 iif [eni] lookup main",
            _NOBODY,
        ),
        ("2048", Change.DELETED, "{ip} rule del priority 2048 from [pod]", _FROM_POD),
        (
            "2048",
            Change.IMPOSTOR,
            "{ip} rule del priority 2048 from [pod]; {ip} rule add priority 2048 from [pod] lookup 1999",
            _FROM_POD,
        ),
        ("2048", Change.ADDED, "{ip} rule add priority 2048 from [spare] lookup [table]", "nobody"),
    )
    for priority, change, text, harms in rows:
        look = f"{of.ip} rule show | grep '^{priority}:' | sort"
        yield _item(f"rule-{priority}", Thing.RULE, change, (text, look), harms, of)


def _pod_routes(of: Family) -> Iterator[Item]:
    look = "{ip} route show table 512"
    rows = (
        ("pod-route", Change.DELETED, "{ip} route del [pod] table 512", _TO_POD),
        (
            "pod-route",
            Change.ALTERED,
            "{ip} route replace [pod] dev [other] table 512",
            _TO_POD,
        ),
        (
            "pod-route",
            Change.IMPOSTOR,
            "{ip} route replace unreachable [pod] table 512",
            _TO_POD,
        ),
        ("pod-route", Change.ADDED, "{ip} route add [spare] dev [link] table 512", "whoever has the address"),
        ("pod-routes-all", Change.DELETED, "{ip} route flush table 512", _TO_PODS),
    )
    for name, change, text, harms in rows:
        yield _item(name, Thing.ROUTE, change, (text, look), harms, of)


def _eni_routes(of: Family) -> Iterator[Item]:
    look = "{ip} route show table [table]"
    nowhere = "240.0.0.0/4" if of.word == "v4" else "::/96"
    onlink = "onlink" if of.word == "v4" else ""
    default = "{ip} route del default table [table]"
    rows = [
        ("eni-default-route", Change.DELETED, default, _FROM_PODS),
        (
            "eni-default-route",
            Change.ALTERED,
            f"{default}; {{ip}} route add default via [wrong] dev [eni] table [table] {onlink}",
            _FROM_PODS,
        ),
        (
            "eni-default-route",
            Change.IMPOSTOR,
            f"{default}; {{ip}} route add unreachable default table [table]",
            _FROM_PODS,
        ),
        (
            "eni-nowhere-route",
            Change.DELETED,
            f"{{ip}} route del unreachable {nowhere} table [table]",
            "nobody: what a pod sends there is dropped late",
        ),
        (
            "eni-foreign-route",
            Change.ADDED,
            "{ip} route add unreachable [far] table [table]",
            "by routes what the pods send there",
        ),
        ("eni-table", Change.DELETED, "{ip} route flush table [table]", _FROM_PODS),
    ]
    if of.word == "v6":
        rows.append(("eni-gateway-route", Change.DELETED, "{ip} route del [gw] table [table]", _FROM_PODS))
    for name, change, text, harms in rows:
        yield _item(name, Thing.ROUTE, change, (text, look), harms, of)


def _neighbours(of: Family) -> Iterator[Item]:
    look = "{ip} neigh show [pod] dev [link] nud permanent"
    wrong = "{ip} neigh replace [pod] lladdr 02:00:00:00:00:79 nud permanent dev [link]"
    rows = (
        ("pod-neighbour", Change.DELETED, "{ip} neigh del [pod] dev [link]", "the pod is asked for its MAC"),
        ("pod-neighbour", Change.ALTERED, wrong, _TO_POD),
    )
    for name, change, text, harms in rows:
        yield _item(name, Thing.NEIGHBOUR, change, (text, look), harms, of)
    written = "{ip} neigh replace [gw] lladdr 02:00:00:00:00:79 nud permanent dev [eni]"
    shown = "{ip} neigh show [gw] dev [eni] nud permanent"
    harms = "all that the ENI's pods send beyond the node"
    yield _item("eni-gateway-neighbour", Thing.NEIGHBOUR, Change.ADDED, (written, shown), harms, of)


def _item(name: str, thing: Thing, change: Change, texts: tuple[str, str], harms: str, of: Family) -> Item:
    """``texts`` to alter and to look: {ip} is the family's, what is in brackets is a scene's name."""
    alter, look = (_named(one, of) for one in texts)
    return Item(f"{name}-{of.word}-{change}", thing, change, Shell(alter), Shown(look), harms, dual=of.dual)


def _named(text: str, of: Family) -> str:
    wrong = "10.0.31.252" if of.word == "v4" else "fe80::77"
    told = {"[pod]": of.pod, "[spare]": of.spare, "[gw]": of.gateway, "[far]": of.far, "[wrong]": wrong}
    text = text.replace("{ip}", of.ip)
    for word, value in told.items():
        text = text.replace(word, value)
    return text.replace("[", "{").replace("]", "}")

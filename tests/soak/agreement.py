"""What model, cloud, metadata, ledger, kernel, fast path and disk say of a node, and where they differ.

The ledger is read from the agent's window; the others past the agent, by code that it does not use.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lab.messages import LabError
from tests.e2e.fastpath_rows import pins, rows_of_pods
from tests.e2e.witnesses import kernel, state
from tests.soak import hand
from tests.soak.site import LEDGER, Site
from tests.soak.world import World

OWNERS = "each address has one owner"
STORY = "model, ledger, cloud, metadata and kernel tell one story"
LEFT = "nothing is left over"
Finding = tuple[str, str]
"""An invariant, and which object breaks it."""

_LEDGER_FILES = ("terway.db", "terway.db-wal", "terway.db-shm")
_SET_ASIDE = re.compile(r"terway\.db\.(damaged|older)-\d+(-wal|-shm|-journal)?")
"""What the agent keeps of a ledger that a step of this suite has spoilt; a few, by a limit of its own."""


def findings(world: World) -> list[Finding]:
    """All differences there are now; some may be on their way to vanish."""
    found: list[Finding] = []
    cloud = world.lab.cloud.state()["enis"]
    found += _owned_twice(world, cloud)
    for eni in cloud:
        if eni["type"] == "Secondary" and not eni["instance"]:
            found.append((LEFT, f"ENI {eni['id']} ({eni['status']}) is attached to nothing"))
    for site in world.sites:
        try:
            found += _of_site(site, cloud)
        except (OSError, LabError, AssertionError) as exc:
            found.append((STORY, f"{site.name}: its agent does not tell: {exc}"))
    return found


def _owned_twice(world: World, cloud: list[dict[str, Any]]) -> Iterator[Finding]:
    claims = {
        "pods": [a for one in world.running() for a in one.addresses],
        "the cloud's ENIs": [str(a) for eni in cloud for a in eni["addresses"]],
    }
    for who, addresses in claims.items():
        for address, times in Counter(addresses).items():
            if times > 1:
                yield OWNERS, f"{address} is on {times} of {who}"


def _of_site(site: Site, cloud: list[dict[str, Any]]) -> Iterator[Finding]:
    told = state(site.node)
    yield from _pending(site, told)
    yield from _attachments(site, told)
    yield from _enis(site, told, cloud)
    yield from _kernel(site, told)
    yield from _files(site)


def _pending(site: Site, told: dict[str, Any]) -> Iterator[Finding]:
    if not told["settled"] or told["operations"]:
        yield STORY, f"{site.name}: operations never end: {told['operations']}"
    for what, rejection in told["rejections"].items():
        reason = rejection["reason"]
        yield STORY, f"{site.name}: {what} is held back although nothing is wrong any more: {reason}"
    for kind in ("frozen", "releasing", "coming", "waiting"):
        if told["pool"][kind]:
            yield STORY, f"{site.name}: {told['pool'][kind]} addresses stay {kind}"


def _attachments(site: Site, told: dict[str, Any]) -> Iterator[Finding]:
    recorded = {a["container_id"]: a for a in told["attachments"]}
    held = {u["container_id"]: set(u["addresses"]) for u in told["unrecorded"]}
    running = {one.container_id: one for one in site.running()}
    for container, sandbox in running.items():
        if container in recorded:
            row = recorded[container]
            has = tuple(row[f] for f in ("ipv4", "ipv6") if row[f])
            if row["state"] != "ready" or has != sandbox.addresses:
                yield STORY, f"ledger: {sandbox} is {row['state']} with {has}, and has {sandbox.addresses}"
        else:
            yield STORY, f"ledger: {sandbox} runs and is not in it; held: {held.get(container)}"
    for container in recorded.keys() - running.keys():
        row = recorded[container]
        yield LEFT, f"ledger of {site.name}: {row['pod_name']} ({container[:12]}) is {row['state']}"
    for container in held.keys() - running.keys():
        yield LEFT, f"kernel of {site.name}: a link of {container[:12]} with {sorted(held[container])}"


def _enis(site: Site, told: dict[str, Any], cloud: list[dict[str, Any]]) -> Iterator[Finding]:
    ledger = {e["id"]: e for e in told["enis"]}
    shown = {e["id"]: e for e in cloud if e["instance"] == site.instance_id and e["type"] == "Secondary"}
    for eni in shown.keys() ^ ledger.keys():
        where = "the cloud" if eni in shown else "the ledger"
        yield STORY, f"ENI {eni} of {site.name} is in {where} alone"
    for eni in shown.keys() & ledger.keys():
        ours = {r["ip"] for r in ledger[eni]["addresses"]}
        theirs = {str(a) for a in shown[eni]["addresses"]}
        known = _metadata(site, shown[eni]["mac"])
        if shown[eni]["status"] != "InUse" or ledger[eni]["status"] != "serving":
            told_of = f"{shown[eni]['status']} in the cloud, {ledger[eni]['status']} in the ledger"
            yield STORY, f"ENI {eni} of {site.name} is {told_of}"
        for name, others in (("cloud", theirs), ("metadata", known)):
            for address in sorted(ours ^ others):
                where = "the ledger" if address in ours else name
                yield STORY, f"{address} on {eni} of {site.name} is in {where} alone, not in both"
    held = {r["ip"] for e in told["enis"] for r in e["addresses"] if r["status"] in ("assigned", "held")}
    yield from _differ(STORY, f"addresses in use of {site.name}", "ledger", held, _addresses(site))


def _metadata(site: Site, mac: str) -> set[str]:
    found: set[str] = set()
    for item in ("private-ipv4s", *(("ipv6s",) if site.dual else ())):
        text = hand.metadata(site.lab, site.name, f"network/interfaces/macs/{mac}/{item}")
        found.update(text.strip("[]").replace('"', "").replace(" ", "").split(",") if text else ())
    return found - {""}


def _addresses(site: Site) -> set[str]:
    return {a for one in site.running() for a in one.addresses}


def _kernel(site: Site, told: dict[str, Any]) -> Iterator[Finding]:
    seen, addresses = kernel(site.lab, site.node), _addresses(site)
    links = {one.container_id for one in site.running()}
    where = f"kernel of {site.name}"
    yield from _differ(LEFT, where, "link of container", set(seen.links.values()), links)
    yield from _differ(LEFT, where, "route to", set(seen.routes), addresses)
    yield from _differ(LEFT, where, "rule from", set(seen.rules), addresses)
    macs = {e["mac"] for e in told["enis"]} | {site.mac}
    yield from _differ(LEFT, where, "ENI link with MAC", set(seen.macs), macs)
    if pins(site.node):
        yield from _differ(LEFT, where, "row of endpoints for", set(rows_of_pods(site.node)), addresses)
    else:
        yield STORY, f"{where}: the fast path is gone"
    yield from _differ(
        LEFT, where, "namespace", set(site.node.sandboxes()), {one.netns for one in site.running()}
    )


def _files(site: Site) -> Iterator[Finding]:
    """What processes leave behind that were killed."""
    root = Path(f"/proc/{site.node.pid}/root")
    for name in _names(root / LEDGER.lstrip("/")):
        if name not in _LEDGER_FILES and not _SET_ASIDE.fullmatch(name):
            yield LEFT, f"file {LEDGER}/{name} of {site.name}"
    for name in _names(root / "run/eni"):
        if name not in ("eni.socket", "eni_debug.socket"):
            yield LEFT, f"file /run/eni/{name} of {site.name}"
    for name in _names(root / "etc/cni/net.d"):
        if name != "10-terway.conf":
            yield LEFT, f"file /etc/cni/net.d/{name} of {site.name}"


def _names(directory: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.listdir(directory))
    return []


def _differ(
    invariant: str, where: str, what: str, found: set[str], wanted: Iterable[str]
) -> Iterator[Finding]:
    wanted = set(wanted)
    for one in sorted(found - wanted):
        yield invariant, f"{where}: {what} {one} is too much"
    for one in sorted(wanted - found):
        yield invariant, f"{where}: {what} {one} is missing"

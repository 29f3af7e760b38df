"""What the agent makes inside a pod at ADD. Root in the pod may undo it, to the pod's own harm alone.

Nobody puts it back: a pod may change its network, as a sidecar of a mesh does, and what is its own must be no
reason to enter it. CNI's CHECK tells it.
"""

from __future__ import annotations

from perf.drift.item import Change, Item, Owner, Shell, Shown, Thing

_IN = "nsenter --net={pod} "
_HARMS = "the pod alone"


def items() -> tuple[Item, ...]:
    return (
        _item(
            "address-v4",
            Thing.ADDRESS,
            Change.DELETED,
            "ip addr del {ip4}/32 dev eth0",
            "ip -o -4 addr show dev eth0",
        ),
        _item(
            "address-v6",
            Thing.ADDRESS,
            Change.DELETED,
            "ip addr del {ip6}/128 dev eth0",
            "ip -o -6 addr show dev eth0 scope global",
        ),
        _item("route-v4", Thing.ROUTE, Change.DELETED, "ip -4 route del default", "ip -4 route"),
        _item("route-v6", Thing.ROUTE, Change.DELETED, "ip -6 route del default", "ip -6 route show default"),
        _item(
            "neighbour-v4",
            Thing.NEIGHBOUR,
            Change.DELETED,
            "ip neigh del 169.254.1.1 dev eth0",
            "ip -4 neigh show nud permanent",
        ),
        _item(
            "neighbour-v4",
            Thing.NEIGHBOUR,
            Change.ALTERED,
            "ip neigh replace 169.254.1.1 lladdr 02:00:00:00:00:7b nud permanent dev eth0",
            "ip -4 neigh show nud permanent",
        ),
        _item(
            "neighbour-v6",
            Thing.NEIGHBOUR,
            Change.DELETED,
            "ip neigh del fe80::1 dev eth0",
            "ip -6 neigh show nud permanent",
        ),
        _item("link", Thing.LINK, Change.ALTERED, "ip link set eth0 down", "ip -o link show dev eth0"),
        _item("mtu", Thing.LINK, Change.ALTERED, "ip link set eth0 mtu 1300", "ip -o link show dev eth0"),
    )


def _item(name: str, thing: Thing, change: Change, alter: str, look: str) -> Item:
    return Item(
        f"in-pod-{name}-{change}",
        thing,
        change,
        Shell(_IN + alter),
        Shown(_IN + look),
        _HARMS,
        Owner.POD,
        dual="v6" in name,
    )

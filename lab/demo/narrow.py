"""A next hop with a smaller MTU: a namespace behind a place, with its addresses, reached over a small link.

As a virtual machine in a pod: the place forwards two of its ports over the link, so that its own kernel is
the router which says "packet too big", with an address that the network lets it use.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from datapath import namespace
from datapath.errors import KernelError
from lab.demo.echo import Service
from lab.demo.matrix import Address, Cell, Place

MTU = 1300
PORT, SEGMENT_PORT = 7778, 7779
"""TCP at the first claims room for the place's whole MTU; at the second it asks for what fits the link."""
DEVICE = "narrow0"
_MACS = ("ee:00:00:00:77:01", "ee:00:00:00:77:02")
_NEXT_HOP = {4: "169.254.77.1", 6: "fe80::77:1"}
_TABLE, _LOCAL = 7777, 255
_LOCAL_AT, _OURS_AT, _LOCAL_MOVED = 0, 5, 10
"""Priorities: ours must come before the table of local addresses."""
_PERMANENT, _CLONED, _NODAD = 0x80, 0x200, 0x02
_SYSCTLS = {
    "ipv4/conf/all/forwarding": "1",
    "ipv6/conf/all/forwarding": "1",
    f"ipv4/conf/{DEVICE}/accept_local": "1",
    f"ipv4/conf/{DEVICE}/rp_filter": "2",
}


@contextmanager
def behind(place: Place, mtu: int) -> Iterator[tuple[Service, ...]]:
    """The services to be run behind ``place``, whose own link has ``mtu``. Afterwards it is as it was.

    Raises KernelError.
    """
    with ExitStack() as undo:
        try:
            hidden = _build(place, mtu, undo)
        except NetlinkError as exc:
            raise KernelError("put a small link behind a place", errno=exc.code, object=place.name) from exc
        yield Service(hidden, PORT), Service(hidden, SEGMENT_PORT, MTU - 60)


def _build(place: Place, mtu: int, undo: ExitStack) -> Place:
    inner = namespace.new()
    undo.callback(os.close, inner)
    with namespace.entered(place.netns), IPRoute() as route:
        _link(route, inner)
    undo.callback(_unlink, place)
    undo.enter_context(_settings(place))
    _inside(inner, place, mtu)
    for address in place.addresses:
        undo.enter_context(_steered(place, address))
    return Place(f"behind {place.name}", place.where, place.node, inner, place.addresses)


def forget(cell: Cell) -> None:
    """Drop what the source's kernel has learned of the MTU towards the target."""
    target = cell.target.address(cell.family)
    with namespace.entered(cell.source.netns):
        if cell.family == 4:
            Path("/proc/sys/net/ipv4/route/flush").write_text("-1")
            return
        with IPRoute() as route:
            _forget_v6(route, str(target))


def _forget_v6(route: IPRoute, target: str) -> None:
    """Its entries end by age only, or one by one."""
    found = route.route("get", family=socket.AF_INET6, dst=target)[0]
    try:
        route.route(
            "del",
            family=socket.AF_INET6,
            dst=target,
            dst_len=128,
            oif=found.get_attr("RTA_OIF"),
            flags=_CLONED,
        )
    except NetlinkError as exc:
        if exc.code != 3:  # ESRCH: nothing was learned
            raise


def _link(route: IPRoute, inner: int) -> None:
    peer = {"ifname": "eth0", "net_ns_fd": inner, "mtu": MTU, "address": _MACS[1]}
    route.link("add", kind="veth", ifname=DEVICE, mtu=MTU, address=_MACS[0], peer=peer)
    route.link("set", index=route.link_lookup(ifname=DEVICE)[0], state="up")


def _unlink(place: Place) -> None:
    with namespace.entered(place.netns), IPRoute() as route:
        for index in route.link_lookup(ifname=DEVICE):
            route.link("del", index=index)


@contextmanager
def _settings(place: Place) -> Iterator[None]:
    """Let the place route, and take back what its own address sends from behind."""
    before = {}
    with namespace.entered(place.netns):
        for name, value in _SYSCTLS.items():
            path = Path("/proc/sys/net") / name
            before[path] = path.read_text()
            path.write_text(value)
    try:
        yield
    finally:
        with namespace.entered(place.netns):
            for path, value in before.items():
                path.write_text(value)


def _inside(inner: int, place: Place, mtu: int) -> None:
    """The default route claims room for segments as long as the place's own link would hold."""
    with namespace.entered(inner), IPRoute() as route:
        index = route.link_lookup(ifname="eth0")[0]
        for device in (route.link_lookup(ifname="lo")[0], index):
            route.link("set", index=device, state="up")
        for address in place.addresses:
            family, bits = _family(address)
            route.addr(
                "add",
                index=index,
                family=family,
                address=str(address),
                prefixlen=bits,
                flags=_NODAD if address.version == 6 else 0,
            )
            _to(route, index, address.version, _MACS[0])
            headers = 40 if address.version == 4 else 60
            route.route(
                "add",
                family=family,
                dst="default",
                gateway=_NEXT_HOP[address.version],
                oif=index,
                flags=["onlink"],
                metrics={"advmss": mtu - headers},
            )


def _to(route: IPRoute, index: int, version: int, mac: str) -> None:
    """A next hop on the link that need not be asked for."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    route.neigh("replace", family=family, dst=_NEXT_HOP[version], lladdr=mac, ifindex=index, state=_PERMANENT)


@contextmanager
def _steered(place: Place, address: Address) -> Iterator[None]:
    """Before the table of local addresses, which moves out of the way, the two ports lead over the link."""
    family, bits = _family(address)
    ours = {
        "family": family,
        "priority": _OURS_AT,
        "table": _TABLE,
        "dst": str(address),
        "dst_len": bits,
        "dport_range": f"{PORT}:{SEGMENT_PORT}",
    }
    with namespace.entered(place.netns), IPRoute() as route:
        index = route.link_lookup(ifname=DEVICE)[0]
        _to(route, index, address.version, _MACS[1])
        route.route(
            "add",
            family=family,
            dst="default",
            gateway=_NEXT_HOP[address.version],
            oif=index,
            flags=["onlink"],
            table=_TABLE,
        )
        _move_local(route, family, _LOCAL_AT, _LOCAL_MOVED)
        route.rule("add", **ours)
    try:
        yield
    finally:
        with namespace.entered(place.netns), IPRoute() as route:
            route.rule("del", **ours)
            _move_local(route, family, _LOCAL_MOVED, _LOCAL_AT)


def _move_local(route: IPRoute, family: int, old: int, new: int) -> None:
    """There is one at any moment."""
    route.rule("add", family=family, table=_LOCAL, priority=new)
    route.rule("del", family=family, table=_LOCAL, priority=old)


def _family(address: Address) -> tuple[int, int]:
    """Netlink's family, and the bits of an address."""
    return (socket.AF_INET, 32) if address.version == 4 else (socket.AF_INET6, 128)

"""The fabric's cables: veth pairs from the fabric's namespace straight into the owners', by pyroute2.

A port's id is the alias of its device on the fabric's side, so that the kernel itself remembers which is
which. pyroute2 opens its socket in the namespace of the thread that uses it, and another one when another
thread does: so every call here enters, opens, asks, closes and leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from datapath.errors import KernelError, NameTaken
from datapath.namespace import entered

_EEXIST, _ENODEV = 17, 19
_NEXT_FREE = "eth%d"
"""The kernel fills in the first number that is free, as it does for a hot-plugged card."""
_FABRIC_NAME = "port%d"
_FABRIC_MTU = 65535
"""So that the program sees, and counts, what is longer than the VPC's MTU."""


@dataclass(frozen=True, slots=True)
class Cable:
    """A plugged veth pair: the device on the fabric's side, and its peer where it was plugged in."""

    ifindex: int
    name: str
    peer_ifindex: int


@dataclass(frozen=True, slots=True)
class Socket:
    """Where a cable ends: the owner's namespace, and the device that is to appear there ("": next ethN)."""

    namespace: int
    device: str
    mac: str
    mtu: int


def plug(fabric: int, port_id: str, end: Socket) -> Cable:
    """Make a pair; both ends are down. Raises NameTaken if the owner has a device of that name."""
    what = "plug in a device"
    with _netlink(fabric) as netlink:
        before = {link["index"] for link in netlink.get_links()}
        peer = {
            "ifname": end.device or _NEXT_FREE,
            "net_ns_fd": end.namespace,
            "address": end.mac,
            "mtu": end.mtu,
        }
        with _named(what, f"{end.device or 'next ethN'} of port {port_id}"):
            netlink.link("add", kind="veth", ifname=_FABRIC_NAME, mtu=_FABRIC_MTU, peer=peer)
        made = [link for link in netlink.get_links() if link["index"] not in before]
        cable = Cable(made[0]["index"], made[0].get("ifname"), made[0].get("link"))
        with _named("name the port", port_id):
            netlink.link("set", index=cable.ifindex, ifalias=port_id)
        return cable


def connect(fabric: int, cable: Cable) -> None:
    """Bring the fabric's side up: from now on the owner's side has a carrier."""
    with _netlink(fabric) as netlink, _named("bring up", cable.name):
        netlink.link("set", index=cable.ifindex, state="up")


def unplug(fabric: int, ifindex: int) -> None:
    """Remove a pair; the owner's device vanishes, wherever it was moved. Succeeds for the absent."""
    with _netlink(fabric) as netlink:
        try:
            netlink.link("del", index=ifindex)
        except NetlinkError as exc:
            if exc.code != _ENODEV:
                raise KernelError("unplug a device", errno=exc.code, object=str(ifindex)) from exc


def present(fabric: int) -> dict[int, str]:
    """The devices that are there on the fabric's side, with their port ids: ifindex to alias."""
    with _netlink(fabric) as netlink:
        links = list(netlink.get_links())
    return {link["index"]: link.get("ifalias") for link in links if link.get("ifalias")}


def device_name(namespace: int, cable: Cable) -> str | None:
    """What the owner calls its end now; None if it was moved elsewhere."""
    with _netlink(namespace) as netlink:
        links = {link["index"]: link for link in netlink.get_links()}
    found = links.get(cable.peer_ifindex)
    if found is None or found.get("link") != cable.ifindex:
        return None
    return str(found.get("ifname"))


def bring_up(namespace: int, cable: Cable) -> None:
    """Bring the owner's end up, for owners that have no set-up of their own."""
    with _netlink(namespace) as netlink, _named("bring up", f"device {cable.peer_ifindex}"):
        netlink.link("set", index=cable.peer_ifindex, state="up")


@contextmanager
def _netlink(namespace: int) -> Iterator[Any]:
    with entered(namespace), IPRoute() as netlink:
        yield netlink


@contextmanager
def _named(what: str, name: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as exc:
        kind = NameTaken if exc.code == _EEXIST else KernelError
        raise kind(what, errno=exc.code, object=name) from exc

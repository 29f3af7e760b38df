"""A third mode in one file, as small as one can be: what a new mode has to write, and nothing else changes.

A pair without a route, whose end on the host has all that is known of the pod in its alias. It is in no table
but a test's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, ClassVar

from datapath.difference import Difference, ObjectKind
from datapath.endpoint import (
    AppliedVeth,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    EniLink,
    Presence,
    SharedEni,
    Sighting,
    Uplink,
)
from datapath.enforcement.locks import Lock
from datapath.errors import AddressTaken, KernelError
from datapath.modes.port import ModeContext, ModePort
from datapath.netlink.wire import Address
from datapath.pausing import Pausing
from datapath.pod.names import host_mac, pod_mac
from tests.netns.datapath.world import witness

TINY = "tiny"
PREFIX = "tiny"


@dataclass(frozen=True, slots=True)
class Found:
    """A pod's link, by its alias."""

    name: str
    index: int
    key: EndpointKey
    eni: str
    addresses: frozenset[Address]


class Tiny(ModePort):
    uplinks: ClassVar[frozenset[type[Uplink]]] = frozenset({SharedEni})
    locks: ClassVar[tuple[Lock, ...]] = ()

    def __init__(self, context: ModeContext) -> None:
        assert context.netns is not None
        self._node = context.netns
        self._enis: dict[str, int] = {}

    def prepare_uplink(self, uplink: Uplink) -> int:
        with witness(self._node) as reader:
            self._enis[uplink.eni.mac] = reader.link_lookup(address=uplink.eni.mac)[0]
        return self._enis[uplink.eni.mac]

    def forget_uplink(self, mac: str) -> None:
        self._enis.pop(mac, None)

    def shares(self, mac: str) -> bool:
        return mac in self._enis

    def setup(self, endpoint: Endpoint, netns: int) -> AppliedVeth:
        for one in self._found():
            if one.key != endpoint.key and one.addresses & set(endpoint.addresses()):
                raise AddressTaken("set up a pod", object=str(endpoint))
        eni = self._eni(endpoint.eni)
        mac = pod_mac(*endpoint.key)
        if not self._of(endpoint.key):
            with witness(self._node) as reader:
                peer = {"ifname": endpoint.ifname, "address": mac, "net_ns_fd": netns}
                own = host_mac(*endpoint.key)
                reader.link("add", ifname=endpoint.host_link, kind="veth", address=own, peer=peer)
                (index,) = reader.link_lookup(ifname=endpoint.host_link)
                reader.link("set", index=index, ifalias=_alias(endpoint), state="up")
            with witness(netns) as reader:
                (inside,) = reader.link_lookup(ifname=endpoint.ifname)
                reader.link("set", index=inside, state="up")
                for address in endpoint.addresses():
                    reader.addr("add", index=inside, address=str(address), prefixlen=address.max_prefixlen)
        (found,) = self._of(endpoint.key)
        return AppliedVeth(found.index, host_mac(*endpoint.key), mac, eni)

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        del netns
        return () if self._of(endpoint.key) else (_absent(endpoint),)

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        self.take_down(endpoint.id, netns)

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        del netns
        for one in self._of(who.key):
            with witness(self._node) as reader:
                reader.link("del", index=one.index)
            return tuple(one.addresses)
        return ()

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        there = {one.key for one in self._found()}
        words = {True: Presence.THERE, False: Presence.GONE}
        return {one.key: Sighting(words[one.key in there]) for one in asked}

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        del lately
        return tuple(
            Carrier(
                one.name,
                host_mac(*one.key),
                one.key.container_id,
                one.addresses,
                frozenset({one.eni}),
                TINY,
                one.key.ifname,
            )
            for one in self._found()
        )

    def repairing(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        del endpoints
        yield
        return ()

    def _eni(self, eni: EniLink) -> int:
        if eni.mac not in self._enis:
            raise KernelError("set up a pod", object=eni.mac, detail="was not made ready")
        return self._enis[eni.mac]

    def _of(self, key: EndpointKey) -> list[Found]:
        return [one for one in self._found() if one.key == key]

    def _found(self) -> list[Found]:
        with witness(self._node) as reader:
            links = [one for one in reader.get_links() if one.get("ifname").startswith(PREFIX)]
        return [_read(one) for one in links if one.get("ifalias")]


def _alias(endpoint: Endpoint) -> str:
    addresses = ",".join(map(str, endpoint.addresses()))
    return f"{endpoint.container_id} {endpoint.ifname} {endpoint.eni.mac} {addresses}"


def _read(link: Any) -> Found:
    container, ifname, eni, addresses = link.get("ifalias").split()
    found = frozenset(map(ip_address, addresses.split(",")))
    return Found(link.get("ifname"), link["index"], EndpointKey(container, ifname), eni, found)


def _absent(endpoint: Endpoint) -> Difference:
    return Difference(ObjectKind.LINK, f"link {endpoint.host_link}", "absent")

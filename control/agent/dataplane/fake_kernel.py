"""The kernel port without a kernel: remembers what stands. A contract holds it and ``LinuxKernel`` to the
same.

For whoever tries the use cases, or shows them, on a machine where nothing may be changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence

from control.model.errors import AddressInUse, KernelError, UplinkBroken
from control.model.ids import Address, Mac
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import (
    Applied,
    AppliedSlave,
    AppliedVeth,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    OwnEni,
    Presence,
    SharedEni,
    Sighting,
)
from datapath.modes.port import ModePort
from datapath.modes.table import MODES
from datapath.pod import names

_ENI_INDEX, _HOST_INDEX = 3, 7


class FakeKernel:
    """Implements ``ports.NodeKernel``. The attributes are a test's to change, and say what the kernel has."""

    def __init__(self, modes: Mapping[str, type[ModePort]] = MODES) -> None:
        self._modes = modes
        self.endpoints: dict[str, Endpoint] = {}
        """By host link, or by the ENI's MAC where there is none."""
        self.enis: set[str] = set()
        self.broken: str = ""
        """Makes the next setups fail as netlink would."""
        self.absent: set[str] = set()
        """MACs whose device does not appear."""
        self.unplugged: dict[str, asyncio.Event] = {}
        """MACs whose device a hand has taken away, with what tells of its return."""
        self.misrouted: set[str] = set()
        """MACs of ENIs that are whole, and from which a foreign rule leads packets away."""
        self.foreign: dict[str, Carrier] = {}
        """Live links that nobody has set up here."""
        self.unseen: dict[EndpointKey, str] = {}
        """Endpoints that cannot be looked at, and why."""

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        assert netns >= 0
        if self.broken:
            raise KernelError(self.broken)
        if endpoint.eni.mac in self.misrouted or endpoint.eni.mac in self.unplugged:
            raise UplinkBroken(f"a packet of {endpoint.host_link} goes by link 2, not by the ENI's")
        self._refuse(endpoint)
        name = _name(endpoint)
        self.endpoints[name] = endpoint
        pod_mac = names.pod_mac(endpoint.container_id, endpoint.ifname)
        if isinstance(endpoint.uplink, OwnEni):
            return AppliedSlave(endpoint.eni.mac, _ENI_INDEX)
        host_mac = names.host_mac(endpoint.container_id, endpoint.ifname)
        return AppliedVeth(_HOST_INDEX, host_mac, pod_mac, _ENI_INDEX)

    def _refuse(self, endpoint: Endpoint) -> None:
        mode = self._modes.get(endpoint.mode)
        if mode is None or type(endpoint.uplink) not in mode.uplinks:
            raise KernelError(f"mode {endpoint.mode} has no use for this kind of uplink")
        own = isinstance(endpoint.uplink, OwnEni)
        if not own and endpoint.eni.mac not in self.enis:
            raise UplinkBroken(f"ENI {endpoint.eni.mac} was not made ready")
        for carrier in self.carriers():
            if carrier.is_of(endpoint.container_id, endpoint.ifname):
                continue
            on_it = endpoint.eni.mac in carrier.enis
            if on_it and self._has_it_alone(carrier) and not own:
                raise UplinkBroken("a pod has this ENI for itself")
            if on_it and own:
                raise AddressInUse("another pod has this ENI, or shares it")
            taken = carrier.addresses.intersection(endpoint.addresses())
            if taken and carrier.link != endpoint.host_link:
                raise AddressInUse("a running pod carries it")

    def _has_it_alone(self, carrier: Carrier) -> bool:
        return OwnEni in self._modes[carrier.mode].uplinks

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        del netns
        return (
            ()
            if self.endpoints.get(_name(endpoint)) == endpoint
            else (Difference(ObjectKind.LINK, "link", "absent"),)
        )

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        del netns
        there = self.endpoints.get(_name(endpoint))
        if there is not None and there.container_id == endpoint.container_id:
            del self.endpoints[_name(endpoint)]

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        del netns
        self.foreign.pop(who.host_link, None)
        for name, there in self.endpoints.items():
            if (there.mode == who.mode or who.mode not in self._modes) and _is_of(there, who):
                del self.endpoints[name]
                return there.addresses()
        return ()

    def unplug(self, mac: Mac) -> None:
        self.unplugged[mac] = asyncio.Event()

    def plug(self, mac: Mac) -> None:
        self.unplugged.pop(mac).set()

    def prepare_uplink(self, uplink: SharedEni) -> None:
        eni = uplink.eni
        if eni.mac in self.unplugged:
            raise KernelError(f"no link has MAC {eni.mac}")
        self.enis.add(eni.mac)

    def forget_eni(self, mac: Mac) -> None:
        self.enis.discard(mac)

    async def repair(self, endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]:
        missing = [one for one in endpoints if _name(one) not in self.endpoints]
        return tuple(Difference(ObjectKind.LINK, str(one), "absent") for one in missing)

    def foreign_hands(self) -> tuple[Difference, ...]:
        return ()

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        del lately
        return (*map(_carrier, self.endpoints.values()), *self.foreign.values())

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        there = {one.key for one in self.endpoints.values()}
        there |= {who.key for who in asked for one in self.foreign.values() if one.is_of(*who.key)}
        return {who.key: self._sighting(who.key, there) for who in asked}

    def _sighting(self, key: EndpointKey, there: set[EndpointKey]) -> Sighting:
        if key in self.unseen:
            return Sighting(Presence.UNKNOWN, self.unseen[key])
        return Sighting(Presence.THERE if key in there else Presence.GONE)

    async def link_appears(self, mac: Mac, *, timeout: float) -> bool:
        with contextlib.suppress(TimeoutError):
            if mac in self.unplugged:
                async with asyncio.timeout(timeout):
                    await self.unplugged[mac].wait()
        return mac not in self.absent and mac not in self.unplugged

    def pod_links(self) -> dict[str, str]:
        """Container ids by link, for a test to compare with."""
        return {name: one.container_id for name, one in self.endpoints.items()}


def _name(endpoint: Endpoint) -> str:
    return endpoint.host_link or endpoint.eni.mac


def _is_of(there: Endpoint, who: EndpointId) -> bool:
    if there.container_id != who.key.container_id:
        return False
    return there.host_link == who.host_link if there.host_link else there.ifname == who.key.ifname


def _carrier(endpoint: Endpoint) -> Carrier:
    slave = isinstance(endpoint.uplink, OwnEni)
    return Carrier(
        link=endpoint.host_link or f"ENI {endpoint.eni.mac}",
        mac=endpoint.eni.mac if slave else names.host_mac(endpoint.container_id, endpoint.ifname),
        container_id=endpoint.container_id,
        addresses=frozenset(endpoint.addresses()),
        enis=frozenset({endpoint.eni.mac}),
        mode=endpoint.mode,
        ifname=endpoint.ifname if slave else "",
    )

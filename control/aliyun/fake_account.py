"""The state behind the fakes: one account in memory, deterministic, ruled by a clock that a test moves.

It keeps the cloud's rules that the agent can meet (limits of the instance type, full vSwitches, states of
an ENI, idempotency tokens, views that lag) and refuses with the cloud's own codes. Nothing sleeps here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

from control.model.clock import Clock
from control.model.cloud import CreateEni, Eni, EniStatus, EniType, InstanceLimits, NodeIdentity, VSwitch
from control.model.ids import ClientToken, EniId, InstanceId, Mac, SecurityGroupId, VSwitchId

_RESERVED_TAIL = 3
"""The last three addresses of a vSwitch belong to the VPC (gateway, broadcast, system)."""


class Refused(Exception):
    """The account's rules say no; ``code`` is the OpenAPI's."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(slots=True)
class FakeLags:
    """Seconds of the clock. ``attach`` is also the time of a detach; ``metadata`` is how old its view is."""

    attach: float = 0.0
    metadata: float = 0.0


@dataclass(slots=True)
class FakeAccount:
    """Share one between a FakeCloud and any number of FakeMetadata. ``limits`` is by instance type."""

    clock: Clock
    vswitches: dict[VSwitchId, VSwitch]
    """``available`` here is ignored: it is counted from the ENIs."""
    limits: Mapping[str, InstanceLimits]
    groups: set[SecurityGroupId] = field(default_factory=lambda: {SecurityGroupId("sg-cluster")})
    lags: FakeLags = field(default_factory=FakeLags)
    eni_quota: int = 10_000
    """ENIs of the account, primary ones not counted."""
    blocked: set[IPv4Address] = field(default_factory=set)
    """Addresses that somebody else holds: fill a vSwitch with them."""
    _enis: dict[EniId, Eni] = field(default_factory=dict)
    _due: dict[EniId, tuple[float, Eni]] = field(default_factory=dict)
    _types: dict[InstanceId, str] = field(default_factory=dict)
    _answers: dict[ClientToken, tuple[object, object]] = field(default_factory=dict)
    _history: list[tuple[float, dict[EniId, Eni]]] = field(default_factory=list)
    _serial: int = 0

    def add_instance(self, node: NodeIdentity) -> Eni:
        """An instance with its primary ENI, in every view at once, however old."""
        self._types[node.instance_id] = node.instance_type
        made = self._new_eni(CreateEni(node.vswitch_id, tuple(sorted(self.groups)), 1, 0, ClientToken("")))
        primary = replace(
            made,
            mac=node.mac,
            status=EniStatus.IN_USE,
            eni_type=EniType.PRIMARY,
            instance_id=node.instance_id,
        )
        for _, snapshot in self._history:
            snapshot[primary.eni_id] = primary
        self._put(primary)
        if len(self._history) == 1:
            self._history[0] = (float("-inf"), self._history[0][1])
        return primary

    def fill(self, vswitch_id: VSwitchId, *, leaving: int = 0) -> None:
        """Somebody else takes every free address of a vSwitch but ``leaving``."""
        free = list(self._free_v4(self.vswitches[vswitch_id]))
        self.blocked.update(free[leaving:])

    # -- views

    def enis(self) -> dict[EniId, Eni]:
        self._settle()
        return dict(self._enis)

    def enis_as_of(self, seconds_ago: float) -> dict[EniId, Eni]:
        self._settle()
        when = self.clock.now() - seconds_ago
        return next((snapshot for at, snapshot in reversed(self._history) if at <= when), {})

    def vswitch(self, vswitch_id: VSwitchId) -> VSwitch | None:
        known = self.vswitches.get(vswitch_id)
        return replace(known, available=sum(1 for _ in self._free_v4(known))) if known else None

    # -- writes; each raises Refused

    def create(self, request: CreateEni) -> Eni:
        before = self._repeated(request.token, request)
        if isinstance(before, Eni):
            return before
        if request.vswitch_id not in self.vswitches:
            raise Refused("InvalidVSwitchId.NotFound")
        if not set(request.security_groups) <= self.groups:
            raise Refused("InvalidSecurityGroupId.NotFound")
        if sum(1 for eni in self._enis.values() if eni.eni_type is not EniType.PRIMARY) >= self.eni_quota:
            raise Refused("QuotaExceeded.Eni")
        eni = self._new_eni(request)
        self._put(eni)
        self._answers[request.token] = (request, eni)
        return eni

    def attach(self, eni_id: EniId, instance_id: InstanceId) -> None:
        eni = self._eni(eni_id)
        if instance_id not in self._types:
            raise Refused("InvalidEcsId.NotFound")
        if eni.instance_id == instance_id and eni.status in (EniStatus.ATTACHING, EniStatus.IN_USE):
            return
        if eni.status is not EniStatus.AVAILABLE:
            raise Refused("InvalidOperation.InvalidEniState")
        limits = self.limits[self._types[instance_id]]
        if sum(1 for other in self._enis.values() if other.instance_id == instance_id) >= limits.eni_quantity:
            raise Refused("EniPerInstanceLimitExceeded")
        if len(eni.ipv4) > limits.ipv4_per_eni:
            raise Refused("InvalidOperation.Ipv4CountExceeded")
        attached = replace(eni, instance_id=instance_id)
        self._change(attached, EniStatus.ATTACHING, replace(attached, status=EniStatus.IN_USE))

    def detach(self, eni_id: EniId, instance_id: InstanceId) -> None:
        eni = self._enis.get(eni_id)
        if eni is None or eni.instance_id is None or eni.status is EniStatus.DETACHING:
            return
        if eni.status is not EniStatus.IN_USE or eni.instance_id != instance_id:
            raise Refused("InvalidOperation.InvalidEniState")
        gone = replace(eni, instance_id=None, status=EniStatus.AVAILABLE)
        self._change(eni, EniStatus.DETACHING, gone)

    def delete(self, eni_id: EniId) -> None:
        eni = self._enis.get(eni_id)
        if eni is None:
            return
        if eni.status is not EniStatus.AVAILABLE:
            raise Refused("InvalidOperation.InvalidEniState")
        del self._enis[eni_id]
        self._record(self.clock.now())

    def assign_v4(self, eni_id: EniId, count: int, token: ClientToken) -> tuple[IPv4Address, ...]:
        request = (eni_id, count, 4)
        before = self._repeated(token, request)
        if isinstance(before, tuple):
            return before
        eni = self._eni(eni_id)
        limits = self._limits_of(eni)
        if limits is not None and len(eni.ipv4) + count > limits.ipv4_per_eni:
            raise Refused("InvalidOperation.Ipv4CountExceeded")
        taken = tuple(islice(self._free_v4(self.vswitches[eni.vswitch_id]), count))
        if not taken:
            raise Refused("InvalidVSwitchId.IpNotEnough")
        self._put(replace(eni, ipv4=eni.ipv4 + taken))
        self._answers[token] = (request, taken)
        return taken

    def assign_v6(self, eni_id: EniId, count: int, token: ClientToken) -> tuple[IPv6Address, ...]:
        request = (eni_id, count, 6)
        before = self._repeated(token, request)
        if isinstance(before, tuple):
            return before
        eni = self._eni(eni_id)
        limits = self._limits_of(eni)
        if limits is not None and len(eni.ipv6) + count > limits.ipv6_per_eni:
            raise Refused("InvalidOperation.Ipv6CountExceeded")
        taken = self._take_v6(self.vswitches[eni.vswitch_id], count)
        self._put(replace(eni, ipv6=eni.ipv6 + taken))
        self._answers[token] = (request, taken)
        return taken

    def unassign(self, eni_id: EniId, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
        """What is not assigned is left out silently. The primary address stays as long as its ENI."""
        eni = self._enis.get(eni_id)
        if eni is None:
            return
        gone = set(addresses) - {eni.primary_ip}
        ipv4 = tuple(a for a in eni.ipv4 if a not in gone)
        self._put(replace(eni, ipv4=ipv4, ipv6=tuple(a for a in eni.ipv6 if a not in gone)))

    # -- inside

    def _eni(self, eni_id: EniId) -> Eni:
        self._settle()
        if eni_id not in self._enis:
            raise Refused("InvalidEniId.NotFound")
        return self._enis[eni_id]

    def _limits_of(self, eni: Eni) -> InstanceLimits | None:
        return self.limits[self._types[eni.instance_id]] if eni.instance_id else None

    def _repeated(self, token: ClientToken, request: object) -> object:
        """The first answer to ``token``, None for a new one."""
        if token not in self._answers:
            return None
        before, answer = self._answers[token]
        if before != request:
            raise Refused("IdempotentParameterMismatch")
        return answer

    def _new_eni(self, request: CreateEni) -> Eni:
        vswitch = self.vswitches[request.vswitch_id]
        ipv4 = tuple(islice(self._free_v4(vswitch), request.ipv4_count))
        if len(ipv4) < request.ipv4_count:
            raise Refused("InvalidVSwitchId.IpNotEnough")
        self._serial += 1
        return Eni(
            EniId(f"eni-fake{self._serial:04d}"),
            Mac(f"00:16:3e:00:{self._serial >> 8:02x}:{self._serial & 255:02x}"),
            request.vswitch_id,
            ipv4[0],
            ipv4,
            self._take_v6(vswitch, request.ipv6_count),
            EniStatus.AVAILABLE,
            security_groups=request.security_groups,
            tags=request.tags,
        )

    def _free_v4(self, vswitch: VSwitch) -> Iterator[IPv4Address]:
        used = {address for eni in self._enis.values() for address in eni.ipv4} | self.blocked
        last = vswitch.cidr[-1 - _RESERVED_TAIL]
        return (a for a in vswitch.cidr.hosts() if a not in used and a <= last)

    def _take_v6(self, vswitch: VSwitch, count: int) -> tuple[IPv6Address, ...]:
        if count and vswitch.cidr_v6 is None:
            raise Refused("InvalidOperation.VSwitchWithoutIpv6")
        if vswitch.cidr_v6 is None:
            return ()
        used = {address for eni in self._enis.values() for address in eni.ipv6}
        return tuple(islice((a for a in vswitch.cidr_v6.hosts() if a not in used), count))

    def _change(self, eni: Eni, meanwhile: EniStatus, then: Eni) -> None:
        """``eni`` is in the state ``meanwhile`` until ``lags.attach`` has passed, and ``then`` after it."""
        if self.lags.attach <= 0:
            self._put(then)
            return
        self._put(replace(eni, status=meanwhile))
        self._due[eni.eni_id] = (self.clock.now() + self.lags.attach, then)

    def _settle(self) -> None:
        now = self.clock.now()
        for eni_id, (at, then) in sorted(self._due.items(), key=lambda item: item[1][0]):
            if at <= now:
                del self._due[eni_id]
                self._enis[eni_id] = replace(
                    self._enis[eni_id], status=then.status, instance_id=then.instance_id
                )
                self._record(at)

    def _put(self, eni: Eni) -> None:
        self._enis[eni.eni_id] = eni
        self._record(self.clock.now())

    def _record(self, at: float) -> None:
        self._history.append((at, dict(self._enis)))

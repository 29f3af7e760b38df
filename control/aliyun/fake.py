"""FakeCloud and FakeMetadata: the ports over a FakeAccount, for unit tests of what calls them.

Faults and gates are per action and per source, so that a test can refuse a call, lose an answer, or hold
a call and look at what the caller does meanwhile::

    account = FakeAccount(clock, {vswitch.vswitch_id: vswitch}, {limits.instance_type: limits})
    account.add_instance(node)
    cloud, metadata = FakeCloud(account), FakeMetadata(account, node)
    cloud.fail(Action.CREATE_ENI, "Throttling")
    gate = cloud.hold(Action.ASSIGN_IPV4)   # ... gate.set() lets every held call go on
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar, cast

from control.aliyun.actions import Action
from control.aliyun.errors import Refusal, Subject, cloud_error
from control.aliyun.fake_account import FakeAccount, FakeLags, Refused
from control.model.cloud import CreateEni, Eni, EniStatus, InstanceLimits, MetadataEni, NodeIdentity, VSwitch
from control.model.errors import CloudError, MetadataError
from control.model.ids import ClientToken, EniId, InstanceId, Mac, VSwitchId

__all__ = ["FakeAccount", "FakeCall", "FakeCloud", "FakeLags", "FakeMetadata"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FakeCall:
    action: Action
    subject: Subject


@dataclass(slots=True)
class _Fault:
    refusal: Refusal
    times: int
    lost: bool


class FakeCloud:
    """A Cloud. ``calls`` grows by one entry per call, refused ones included; ``wanted`` is of stand_by."""

    def __init__(self, account: FakeAccount) -> None:
        self.account = account
        self.calls: list[FakeCall] = []
        self.wanted = False
        self.closed = False
        self._faults: dict[Action, list[_Fault]] = {}
        self._gates: dict[Action, asyncio.Event] = {}
        self._words: dict[Action, object] = {}

    # -- what a test arranges

    def fail(self, action: Action, code: str, *, times: int = 1, lost: bool = False) -> None:
        """The next ``times`` calls are refused with ``code``; ``lost``: they take effect nevertheless."""
        self.fail_with(action, Refusal(code=code, status=400), times=times, lost=lost)

    def fail_with(self, action: Action, refusal: Refusal, *, times: int = 1, lost: bool = False) -> None:
        self._faults.setdefault(action, []).append(_Fault(refusal, times, lost))

    def hold(self, action: Action) -> asyncio.Event:
        """Calls of ``action`` wait before they take effect until the returned event is set."""
        gate = self._gates[action] = asyncio.Event()
        return gate

    def answer_with(self, action: Action, answer: object) -> None:
        """Calls of ``action`` take effect and are answered so, whatever the effect was. None: no more."""
        if answer is None:
            self._words.pop(action, None)
        else:
            self._words[action] = answer

    def count(self, action: Action | None = None) -> int:
        return sum(1 for call in self.calls if action in (None, call.action))

    # -- the port

    async def instance_limits(self, instance_type: str) -> InstanceLimits:
        subject = Subject(instance_type=instance_type)

        def effect() -> InstanceLimits:
            if instance_type not in self.account.limits:
                raise Refused("InvalidInstanceType.NotFound")
            return self.account.limits[instance_type]

        return await self._perform(Action.DESCRIBE_INSTANCE_TYPES, subject, effect)

    async def vswitches(self, ids: Sequence[VSwitchId]) -> tuple[VSwitch, ...]:
        def effect() -> tuple[VSwitch, ...]:
            found = (self.account.vswitch(vswitch_id) for vswitch_id in ids)
            return tuple(vswitch for vswitch in found if vswitch is not None)

        return await self._perform(Action.DESCRIBE_VSWITCHES, Subject(vswitch=", ".join(ids)), effect)

    async def create_eni(self, request: CreateEni) -> Eni:
        subject = Subject(vswitch=request.vswitch_id, groups=", ".join(request.security_groups))
        return await self._perform(Action.CREATE_ENI, subject, lambda: self.account.create(request))

    async def attach_eni(self, eni_id: EniId, instance_id: InstanceId) -> None:
        subject = Subject(eni=eni_id, instance=instance_id)
        await self._perform(Action.ATTACH_ENI, subject, lambda: self.account.attach(eni_id, instance_id))

    async def detach_eni(self, eni_id: EniId, instance_id: InstanceId) -> None:
        subject = Subject(eni=eni_id, instance=instance_id)
        await self._perform(Action.DETACH_ENI, subject, lambda: self.account.detach(eni_id, instance_id))

    async def delete_eni(self, eni_id: EniId) -> None:
        await self._perform(Action.DELETE_ENI, Subject(eni=eni_id), lambda: self.account.delete(eni_id))

    async def enis_of_instance(self, instance_id: InstanceId) -> tuple[Eni, ...]:
        def effect() -> tuple[Eni, ...]:
            return tuple(eni for eni in self.account.enis().values() if eni.instance_id == instance_id)

        return await self._perform(Action.DESCRIBE_ENIS, Subject(instance=instance_id), effect)

    async def enis_tagged(self, tags: Sequence[tuple[str, str]]) -> tuple[Eni, ...]:
        def effect() -> tuple[Eni, ...]:
            return tuple(eni for eni in self.account.enis().values() if set(tags) <= set(eni.tags))

        return await self._perform(Action.DESCRIBE_ENIS, Subject(), effect)

    async def enis(self, ids: Sequence[EniId]) -> tuple[Eni, ...]:
        def effect() -> tuple[Eni, ...]:
            known = self.account.enis()
            return tuple(known[eni_id] for eni_id in ids if eni_id in known)

        return await self._perform(Action.DESCRIBE_ENIS, Subject(eni=", ".join(ids)), effect)

    async def assign_ipv4(self, eni_id: EniId, count: int, token: ClientToken) -> tuple[IPv4Address, ...]:
        return await self._perform(
            Action.ASSIGN_IPV4, Subject(eni=eni_id), lambda: self.account.assign_v4(eni_id, count, token)
        )

    async def assign_ipv6(self, eni_id: EniId, count: int, token: ClientToken) -> tuple[IPv6Address, ...]:
        return await self._perform(
            Action.ASSIGN_IPV6, Subject(eni=eni_id), lambda: self.account.assign_v6(eni_id, count, token)
        )

    async def unassign_ipv4(self, eni_id: EniId, addresses: Sequence[IPv4Address]) -> None:
        await self._perform(
            Action.UNASSIGN_IPV4, Subject(eni=eni_id), lambda: self.account.unassign(eni_id, addresses)
        )

    async def unassign_ipv6(self, eni_id: EniId, addresses: Sequence[IPv6Address]) -> None:
        await self._perform(
            Action.UNASSIGN_IPV6, Subject(eni=eni_id), lambda: self.account.unassign(eni_id, addresses)
        )

    def stand_by(self, wanted: bool) -> None:
        self.wanted = wanted

    async def close(self) -> None:
        self.closed = True

    async def _perform(self, action: Action, subject: Subject, effect: Callable[[], T]) -> T:
        self.calls.append(FakeCall(action, subject))
        if action in self._gates:
            await self._gates[action].wait()
        fault = self._next_fault(action)
        if fault is not None and not fault.lost:
            raise self._error(fault.refusal, action, subject)
        try:
            result = effect()
        except Refused as refused:
            raise self._error(Refusal(refused.code, 400), action, subject) from refused
        if fault is not None:
            raise self._error(fault.refusal, action, subject)
        return cast(T, self._words.get(action, result))

    def _next_fault(self, action: Action) -> _Fault | None:
        pending = self._faults.get(action, [])
        if not pending:
            return None
        pending[0].times -= 1
        return pending[0] if pending[0].times > 0 else pending.pop(0)

    def _error(self, refusal: Refusal, action: Action, subject: Subject) -> CloudError:
        return cloud_error(refusal, action=action, subject=subject, now=self.account.clock.now())


class FakeMetadata:
    """A Metadata as ``node`` sees it: attached ENIs, as old as ``account.lags.metadata`` says.

    Set ``failure`` to have every read raise it. ``reads`` counts reads.
    """

    def __init__(self, account: FakeAccount, node: NodeIdentity) -> None:
        self.account = account
        self.node = node
        self.failure: MetadataError | None = None
        self.reads = 0

    async def identity(self) -> NodeIdentity:
        self._read()
        return self.node

    async def macs(self) -> frozenset[Mac]:
        return frozenset(eni.mac for eni in self._read())

    async def eni(self, mac: Mac, *, ipv6: bool) -> MetadataEni | None:
        eni = next((eni for eni in self._read() if eni.mac == mac), None)
        if eni is None:
            return None
        vswitch = self.account.vswitches[eni.vswitch_id]
        cidr_v6 = vswitch.cidr_v6 if ipv6 else None
        return MetadataEni(
            eni.eni_id,
            mac,
            eni.primary_ip,
            frozenset(eni.ipv4),
            vswitch.cidr,
            vswitch.cidr[-3],
            eni.vswitch_id,
            frozenset(eni.ipv6) if ipv6 else frozenset(),
            cidr_v6,
            cidr_v6[-3] if cidr_v6 else None,
        )

    async def addresses(self, mac: Mac) -> frozenset[IPv4Address]:
        return frozenset(address for eni in self._read() if eni.mac == mac for address in eni.ipv4)

    async def addresses_v6(self, mac: Mac) -> frozenset[IPv6Address]:
        return frozenset(address for eni in self._read() if eni.mac == mac for address in eni.ipv6)

    def _read(self) -> tuple[Eni, ...]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        seen = self.account.enis_as_of(self.account.lags.metadata).values()
        mine = (eni for eni in seen if eni.instance_id == self.node.instance_id)
        return tuple(eni for eni in mine if eni.status is EniStatus.IN_USE)

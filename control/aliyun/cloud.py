"""The OpenAPI behind the port ``Cloud``: what an intent sends, and when a refusal means that it is done.

``openapi`` makes each call, ``answers`` reads what comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from control.aliyun import answers
from control.aliyun.actions import Action
from control.aliyun.credentials import CredentialSource
from control.aliyun.errors import Refusal, Subject
from control.aliyun.openapi import OpenApi, Request
from control.aliyun.settings import CloudSettings, Observers
from control.model.clock import Clock
from control.model.cloud import CreateEni, Eni, EniStatus, InstanceLimits, VSwitch
from control.model.errors import Cause, CloudError
from control.model.ids import ClientToken, EniId, InstanceId, VSwitchId

T = TypeVar("T")

_INSTANCE_TYPES_PAGE = 100
_ENIS_PAGE = 500
_ENI_IDS_AT_ONCE = 100
_UNASSIGN_AT_ONCE = 10


class AliyunCloud:
    """A Cloud. Belongs to one event loop; ``close`` ends the SDK's process."""

    def __init__(
        self, settings: CloudSettings, credentials: CredentialSource, clock: Clock, observers: Observers
    ) -> None:
        self._api = OpenApi(settings, credentials, clock, observers)
        self._seen: dict[EniId, Subject] = {}
        """vSwitch and groups of each ENI: what an error says is full is not the ENI."""

    @property
    def worker_pid(self) -> int | None:
        """Of the SDK's process, None while there is none."""
        return self._api.process.pid

    async def instance_limits(self, instance_type: str) -> InstanceLimits:
        request = Request(
            Action.DESCRIBE_INSTANCE_TYPES,
            Subject(instance_type=instance_type),
            {"InstanceTypes": [instance_type], "MaxResults": _INSTANCE_TYPES_PAGE},
        )
        limits = await self._api.call(request, lambda body: answers.instance_limits(body, instance_type))
        if limits is None:
            unknown = Refusal(code="InvalidInstanceType.NotFound", message="the answer does not list it")
            raise self._api.error(request, unknown)
        return limits

    async def vswitches(self, ids: Sequence[VSwitchId]) -> tuple[VSwitch, ...]:
        """One call per id, at once: the API takes one id, and without it would list the whole region."""
        requests = (
            Request(Action.DESCRIBE_VSWITCHES, Subject(vswitch=id_), {"VSwitchId": id_}) for id_ in ids
        )
        pages = await asyncio.gather(*(self._api.call(request, answers.vswitches) for request in requests))
        return tuple(vswitch for page in pages for vswitch in page)

    async def create_eni(self, request: CreateEni) -> Eni:
        parameters: dict[str, object] = {
            "VSwitchId": request.vswitch_id,
            "SecurityGroupIds": list(request.security_groups),
            "InstanceType": "Secondary",
            "Description": request.description,
            "ClientToken": request.token,
        }
        if request.ipv4_count > 1:
            parameters["SecondaryPrivateIpAddressCount"] = request.ipv4_count - 1
        if request.ipv6_count:
            parameters["Ipv6AddressCount"] = request.ipv6_count
        if request.tags:
            parameters["Tag"] = [{"Key": key, "Value": value} for key, value in request.tags]
        if request.resource_group:
            parameters["ResourceGroupId"] = request.resource_group
        subject = Subject(vswitch=request.vswitch_id, groups=", ".join(request.security_groups))
        made = await self._api.call(Request(Action.CREATE_ENI, subject, parameters), answers.eni)
        self._seen[made.eni_id] = replace(subject, eni=made.eni_id)
        return made

    async def attach_eni(self, eni_id: EniId, instance_id: InstanceId) -> None:
        try:
            await self._api.call(_attachment(Action.ATTACH_ENI, eni_id, instance_id), _nothing)
        except CloudError as exc:
            attached = (EniStatus.ATTACHING, EniStatus.IN_USE)
            if exc.cause is not Cause.ENI_STATE or not await self._is(eni_id, instance_id, attached):
                raise

    async def detach_eni(self, eni_id: EniId, instance_id: InstanceId) -> None:
        try:
            await self._api.call(_attachment(Action.DETACH_ENI, eni_id, instance_id), _nothing)
        except CloudError as exc:
            if exc.cause is Cause.ENI_GONE:
                return
            if exc.cause is not Cause.ENI_STATE:
                raise
            detached = await self._is(eni_id, None, (EniStatus.AVAILABLE, EniStatus.DELETING))
            if not detached and not await self._is(eni_id, instance_id, (EniStatus.DETACHING,)):
                raise

    async def delete_eni(self, eni_id: EniId) -> None:
        try:
            await self._api.call(self._of_eni(Action.DELETE_ENI, eni_id, {}), _nothing)
        except CloudError as exc:
            if exc.cause is not Cause.ENI_GONE:
                raise
        self._seen.pop(eni_id, None)

    async def enis_of_instance(self, instance_id: InstanceId) -> tuple[Eni, ...]:
        return await self._describe(Subject(instance=instance_id), {"InstanceId": instance_id})

    async def enis_tagged(self, tags: Sequence[tuple[str, str]]) -> tuple[Eni, ...]:
        wanted = [{"Key": key, "Value": value} for key, value in tags]
        return await self._describe(Subject(), {"Tag": wanted})

    async def enis(self, ids: Sequence[EniId]) -> tuple[Eni, ...]:
        found: list[Eni] = []
        for some in _batches(ids, _ENI_IDS_AT_ONCE):
            found += await self._describe(Subject(eni=", ".join(some)), {"NetworkInterfaceId": some})
        return tuple(found)

    async def assign_ipv4(self, eni_id: EniId, count: int, token: ClientToken) -> tuple[IPv4Address, ...]:
        parameters = {"SecondaryPrivateIpAddressCount": count, "ClientToken": token}
        request = self._of_eni(Action.ASSIGN_IPV4, eni_id, parameters)
        return await self._api.call(request, _at_least_one(answers.assigned_v4))

    async def assign_ipv6(self, eni_id: EniId, count: int, token: ClientToken) -> tuple[IPv6Address, ...]:
        request = self._of_eni(Action.ASSIGN_IPV6, eni_id, {"Ipv6AddressCount": count, "ClientToken": token})
        return await self._api.call(request, _at_least_one(answers.assigned_v6))

    async def unassign_ipv4(self, eni_id: EniId, addresses: Sequence[IPv4Address]) -> None:
        await self._unassign(Action.UNASSIGN_IPV4, eni_id, [str(address) for address in addresses])

    async def unassign_ipv6(self, eni_id: EniId, addresses: Sequence[IPv6Address]) -> None:
        await self._unassign(Action.UNASSIGN_IPV6, eni_id, [str(address) for address in addresses])

    def stand_by(self, wanted: bool) -> None:
        self._api.process.stand_by(wanted)

    async def close(self) -> None:
        await self._api.process.close()

    # -- intents that take several calls

    async def _describe(self, subject: Subject, criteria: Mapping[str, object]) -> tuple[Eni, ...]:
        found: list[Eni] = []
        parameters: dict[str, object] = {**criteria, "MaxResults": _ENIS_PAGE}
        while True:
            page, following = await self._api.call(
                Request(Action.DESCRIBE_ENIS, subject, parameters), answers.enis
            )
            found += page
            self._seen.update({eni.eni_id: _of(eni) for eni in page})
            if not following:
                return tuple(found)
            parameters["NextToken"] = following

    def _of_eni(self, action: Action, eni_id: EniId, parameters: Mapping[str, object]) -> Request:
        subject = self._seen.get(eni_id) or Subject(eni=eni_id)
        return Request(action, subject, {"NetworkInterfaceId": eni_id, **parameters})

    async def _is(self, eni_id: EniId, instance_id: InstanceId | None, statuses: Sequence[EniStatus]) -> bool:
        """Whether a refused write had its aim already, as after an answer that was lost."""
        return any(
            eni.status in statuses and eni.instance_id == instance_id for eni in await self.enis([eni_id])
        )

    async def _unassign(self, action: Action, eni_id: EniId, addresses: Sequence[str]) -> None:
        """One address that is gone has the cloud refuse a whole call: then each goes in one of its own."""
        name = "PrivateIpAddress" if action is Action.UNASSIGN_IPV4 else "Ipv6Address"
        for some in _batches(addresses, _UNASSIGN_AT_ONCE):
            try:
                await self._api.call(self._of_eni(action, eni_id, {name: some}), _nothing)
            except CloudError as exc:
                if exc.cause is Cause.ENI_GONE:
                    return
                if exc.cause is not Cause.ADDRESS_GONE:
                    raise
                if len(some) > 1:
                    await asyncio.gather(*(self._unassign(action, eni_id, [address]) for address in some))


def _attachment(action: Action, eni_id: EniId, instance_id: InstanceId) -> Request:
    parameters = {"NetworkInterfaceId": eni_id, "InstanceId": instance_id}
    return Request(action, Subject(eni=eni_id, instance=instance_id), parameters)


def _of(eni: Eni) -> Subject:
    return Subject(eni=eni.eni_id, vswitch=eni.vswitch_id, groups=", ".join(eni.security_groups))


def _nothing(_body: answers.Body) -> None:
    return None


def _at_least_one(parse: Callable[[answers.Body], tuple[T, ...]]) -> Callable[[answers.Body], tuple[T, ...]]:
    """The answer to an assignment names what was assigned; without that nothing can be done with it."""

    def checked(body: answers.Body) -> tuple[T, ...]:
        addresses = parse(body)
        if not addresses:
            raise ValueError("the answer names no address")
        return addresses

    return checked


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))

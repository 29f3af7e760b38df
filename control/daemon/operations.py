"""The writes to the cloud that take several steps. Each is an ``Operation`` in the ledger before it starts.

Every method can be run again from any point where the process may have died (``control.daemon.faults``): it
looks at what the ledger has and goes on from there. How an operation ends:

* done: its row goes in the same transaction that records the outcome;
* refused by the cloud for good: nothing exists, the row goes, the CloudError is raised;
* unknown (time-out, lost connection), or refused in passing (throttled, metadata away) where an ENI exists or
  an earlier attempt may have made one: the row stays, the error is raised, and whoever owns the pool resumes
  it later with the same token. An intent is never dropped while its effect may exist;
* an ENI that exists and will never serve: its row becomes the intent to give it back.

Nothing here waits a fixed time. The kernel tells by netlink when a device appears; metadata is polled from
5 ms up; the status is asked for once the other two witnesses agree.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from control.daemon.faults import FaultPoint, Faults
from control.daemon.journal import Journal
from control.daemon.ports import NodeKernel, eni_link
from control.ipam import transitions
from control.model.cloud import Cloud, CreateEni, EniStatus, Metadata, MetadataEni
from control.model.errors import Cause, CloudError, MetadataError, TerwayError
from control.model.ids import Address, ClientToken, EniId, InstanceId
from control.model.records import EniRecord, Operation, OperationKind

UNKNOWN_OUTCOME = frozenset({Cause.TIMEOUT, Cause.UNREACHABLE, Cause.INTERNAL})
"""After these the effect may exist although no answer came."""

BEFORE_THE_TOKEN = frozenset({Cause.CREDENTIALS, Cause.FORBIDDEN})
"""Like temporary refusals (throttled, token still being processed) these are given before the cloud looks at
the token: they do not say that an earlier attempt, whose answer was lost, made nothing."""

WITNESS_TIMEOUT = 60.0
"""Seconds an attached ENI may take to be seen by kernel, metadata and cloud before it is given up."""
ASSIGNED_TIMEOUT = 10.0
"""Seconds a newly assigned address may take to appear in metadata before it is frozen."""
SILENCE_TIMEOUT = 5.0
"""Seconds metadata may not answer at all before whoever waits is told. What the cloud has made stays an
intent in the ledger: nothing is given up or frozen because nobody could be asked."""
STATE_TIMEOUT = 60.0
"""Seconds an ENI may stay in a transition (Creating, Detaching) that refuses the next step."""


def new_token() -> ClientToken:
    return ClientToken(str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class WorkSettings:
    instance_id: InstanceId
    mtu: int = 1500
    dual: bool = False
    tags: tuple[tuple[str, str], ...] = (("creator", "terway"),)
    resource_group: str = ""


class NotShown(CloudError):
    """The cloud has assigned addresses and metadata answers without them. Says nothing about other ENIs."""


class _Silence:
    """How long metadata has not answered at a stretch."""

    def __init__(self) -> None:
        self._since: float | None = None

    def broken(self) -> None:
        self._since = None

    def goes_on(self, exc: MetadataError) -> None:
        """Raises ``exc`` once it has been too long."""
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        if now - self._since >= SILENCE_TIMEOUT:
            raise exc


async def _delays(total: float, *, first: float, most: float) -> AsyncIterator[None]:
    """Yield at once and then after growing pauses, until ``total`` seconds have gone."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + total
    pause = first
    while True:
        yield
        left = deadline - loop.time()
        if left <= 0:
            return
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, most)


class CloudWork:
    def __init__(
        self,
        *,
        cloud: Cloud,
        metadata: Metadata,
        kernel: NodeKernel,
        journal: Journal,
        faults: Faults,
        settings: WorkSettings,
    ) -> None:
        self._cloud = cloud
        self._metadata = metadata
        self._kernel = kernel
        self._journal = journal
        self._faults = faults
        self._settings = settings

    async def metadata_answers(self) -> None:
        """Before anything new is asked of the cloud: without metadata nobody could use it.

        Raises MetadataError.
        """
        await self._metadata.macs()

    async def run(self, operation: Operation, *, resumed: bool) -> None:
        """Start or resume. The operation must be in the ledger."""
        match operation.kind:
            case OperationKind.CREATE_ENI:
                await self._create(operation, resumed=resumed)
            case OperationKind.ASSIGN:
                await self._assign(operation)
            case OperationKind.RELEASE_ADDRESSES:
                await self._release_addresses(operation)
            case OperationKind.RELEASE_ENI:
                await self._release_eni(operation)

    async def _create(self, operation: Operation, *, resumed: bool) -> None:
        journal, faults = self._journal, self._faults
        if operation.eni_id is None:
            faults.reach(FaultPoint.GROW_INTENT)
            try:
                eni = await self._cloud.create_eni(self._request(operation))
            except CloudError as exc:
                says_nothing = exc.temporary or (resumed and exc.cause in BEFORE_THE_TOKEN)
                if not says_nothing:
                    journal.record(transitions.abandon_operation(operation))
                raise
            faults.reach(FaultPoint.GROW_CREATED)
            journal.record(transitions.eni_created(operation, eni, journal.now()))
            operation = replace(operation, eni_id=eni.eni_id)
            faults.reach(FaultPoint.GROW_RECORDED)
        assert operation.eni_id is not None
        record = journal.book.enis[operation.eni_id]
        try:
            await self._attach(record.eni_id)
            faults.reach(FaultPoint.GROW_ATTACHED)
            await self._serve(record, operation)
        except TerwayError as exc:
            if not exc.temporary or exc.cause is Cause.TIMEOUT:
                self._undo_create(operation)
            raise

    def _request(self, operation: Operation) -> CreateEni:
        assert operation.vswitch_id is not None
        return CreateEni(
            vswitch_id=operation.vswitch_id,
            security_groups=operation.security_groups,
            ipv4_count=operation.ipv4_count,
            ipv6_count=operation.ipv6_count,
            token=operation.token,
            tags=self._settings.tags,
            resource_group=self._settings.resource_group,
        )

    async def _attach(self, eni_id: EniId) -> None:
        """At once after Create; an ENI that is not Available yet refuses, and then it is asked again."""
        async for _ in _delays(STATE_TIMEOUT, first=0.05, most=1.0):
            try:
                await self._cloud.attach_eni(eni_id, self._settings.instance_id)
                return
            except CloudError as exc:
                if exc.cause is not Cause.ENI_STATE:
                    raise
                last = exc
        raise last

    async def _serve(self, record: EniRecord, operation: Operation | None) -> None:
        seen = await self.witnesses(record, operation)
        ready = replace(
            record,
            cidr=seen.cidr,
            gateway=seen.gateway,
            cidr_v6=seen.cidr_v6,
            gateway_v6=seen.gateway_v6,
        )
        self._kernel.prepare_eni(eni_link(ready, self._settings.mtu))
        self._faults.reach(FaultPoint.GROW_SEEN)
        journal = self._journal
        journal.record(transitions.eni_serves(journal.book, ready, seen, journal.now(), operation=operation))
        self._faults.reach(FaultPoint.GROW_COMMITTED)

    async def serve_adopted(self, record: EniRecord) -> None:
        """An ENI of ours that was found attached: serve it once all witnesses agree."""
        await self._serve(record, None)

    async def witnesses(self, record: EniRecord, operation: Operation | None) -> MetadataEni:
        """Kernel, metadata and cloud, in this order of cost. Raises a TIMEOUT error naming who is missing."""
        in_kernel, seen = await asyncio.gather(
            self._kernel.link_appears(record.mac, timeout=WITNESS_TIMEOUT),
            self._in_metadata(record, operation),
        )
        if not in_kernel:
            raise self._not_seen(record, "the kernel has no device with its MAC")
        if seen is None:
            raise self._not_seen(record, "metadata does not list it with its addresses")
        async for _ in _delays(WITNESS_TIMEOUT, first=0.05, most=2.0):
            enis = await self._cloud.enis([record.eni_id])
            if any(e.status is EniStatus.IN_USE for e in enis):
                return seen
        raise self._not_seen(record, "the cloud does not say InUse")

    def _not_seen(self, record: EniRecord, why: str) -> CloudError:
        return CloudError(
            f"ENI {record.eni_id} ({record.mac}) was attached but cannot serve: {why}",
            cause=Cause.TIMEOUT,
            action="AttachNetworkInterface",
            remedy="it is given back and a new one tried; if it repeats, look at the instance's ENIs in ECS",
        )

    async def _in_metadata(self, record: EniRecord, operation: Operation | None) -> MetadataEni | None:
        want_v4 = operation.ipv4_count if operation else 1
        want_v6 = operation.ipv6_count if operation else 0
        silence = _Silence()
        async for _ in _delays(WITNESS_TIMEOUT, first=0.005, most=0.5):
            try:
                seen = await self._metadata.eni(record.mac, ipv6=self._settings.dual)
            except MetadataError as exc:
                silence.goes_on(exc)
                continue
            silence.broken()
            if seen is not None and len(seen.ipv4) >= want_v4 and len(seen.ipv6) >= want_v6:
                return seen
        return None

    def _undo_create(self, operation: Operation) -> None:
        """The ENI exists and will not serve: the intent to give it back, which the pool takes up next."""
        release = Operation(
            token=new_token(),
            kind=OperationKind.RELEASE_ENI,
            since=self._journal.now(),
            eni_id=operation.eni_id,
        )
        changes = transitions.begin_release(self._journal.book, release, release.since)
        self._journal.record(replace(changes, gone_operations=(operation.token,)))

    async def _assign(self, operation: Operation) -> None:
        journal = self._journal
        assert operation.eni_id is not None
        self._faults.reach(FaultPoint.ASSIGN_INTENT)
        got: list[Address] = []
        refused: CloudError | None = None
        try:
            if operation.ipv4_count:
                got += await self._cloud.assign_ipv4(operation.eni_id, operation.ipv4_count, operation.token)
            if operation.ipv6_count:
                second = ClientToken(f"{operation.token}-6")
                got += await self._cloud.assign_ipv6(operation.eni_id, operation.ipv6_count, second)
        except CloudError as exc:
            if exc.cause in UNKNOWN_OUTCOME:
                raise
            refused = exc
        self._faults.reach(FaultPoint.ASSIGN_CALLED)
        if not got:
            journal.record(transitions.abandon_operation(operation))
        else:
            shown = await self._addresses_shown(operation.eni_id, frozenset(got))
            journal.record(transitions.addresses_assigned(journal.book, operation, got))
            if not shown:
                lagging = [journal.book.addresses[a] for a in got]
                journal.record(transitions.freeze_addresses(lagging, journal.now()))
                refused = refused or self._not_shown(operation.eni_id, len(got))
        self._faults.reach(FaultPoint.ASSIGN_COMMITTED)
        if refused:
            raise refused

    def _not_shown(self, eni_id: EniId, count: int) -> NotShown:
        return NotShown(
            f"{count} addresses were assigned to {eni_id} but metadata has not shown them "
            f"within {ASSIGNED_TIMEOUT:.0f} s",
            cause=Cause.METADATA,
            action="AssignPrivateIpAddresses",
            remedy="they are frozen and join the pool as soon as cloud and metadata both show them",
        )

    async def _addresses_shown(self, eni_id: EniId, addresses: frozenset[Address]) -> bool:
        """Raises MetadataError if nobody could be asked: then nothing is known of them."""
        mac = self._journal.book.enis[eni_id].mac
        silence = _Silence()
        async for _ in _delays(ASSIGNED_TIMEOUT, first=0.005, most=0.5):
            try:
                shown: frozenset[Address] = frozenset(await self._metadata.addresses(mac))
                if any(a.version == 6 for a in addresses):
                    shown |= frozenset(await self._metadata.addresses_v6(mac))
            except MetadataError as exc:
                silence.goes_on(exc)
                continue
            silence.broken()
            if addresses <= shown:
                return True
        return False

    async def _release_addresses(self, operation: Operation) -> None:
        assert operation.eni_id is not None
        self._faults.reach(FaultPoint.RELEASE_INTENT)
        ipv4 = [a for a in operation.addresses if a.version == 4]
        ipv6 = [a for a in operation.addresses if a.version == 6]
        if ipv4:
            await self._cloud.unassign_ipv4(operation.eni_id, ipv4)
        if ipv6:
            await self._cloud.unassign_ipv6(operation.eni_id, ipv6)
        self._faults.reach(FaultPoint.RELEASE_CALLED)
        self._journal.record(transitions.finish_release(self._journal.book, operation))

    async def _release_eni(self, operation: Operation) -> None:
        assert operation.eni_id is not None
        self._faults.reach(FaultPoint.SHED_INTENT)
        record = self._journal.book.enis.get(operation.eni_id)
        await self._cloud.detach_eni(operation.eni_id, self._settings.instance_id)
        self._faults.reach(FaultPoint.SHED_DETACHED)
        await self._delete(operation.eni_id)
        self._faults.reach(FaultPoint.SHED_DELETED)
        if record is not None:
            # Not before: as long as the VPC brings packets to its addresses, what ends them here must stay.
            self._kernel.forget_eni(record.mac)
        self._journal.record(transitions.finish_release(self._journal.book, operation))

    async def _delete(self, eni_id: EniId) -> None:
        """An ENI still Detaching refuses: asked again until it is Available."""
        async for _ in _delays(STATE_TIMEOUT, first=0.1, most=2.0):
            try:
                await self._cloud.delete_eni(eni_id)
                return
            except CloudError as exc:
                if exc.cause is not Cause.ENI_STATE:
                    raise
                last = exc
        raise last

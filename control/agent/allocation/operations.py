"""The writes to the cloud that take several steps. Each is an ``Operation`` in the ledger before it starts.

Every method can be run again from any point where the process may have died (``state.faults``): it
looks at what the ledger has and goes on from there. How an operation ends:

* done: its row goes in the same transaction that records the outcome;
* refused by the cloud for good: nothing exists, the row goes, the CloudError is raised;
* unknown (time-out, lost connection), or refused in passing (throttled, metadata away) where an ENI exists or
  an earlier attempt may have made one: the row stays, the error is raised, and whoever owns the pool resumes
  it later with the same token;
* unknown for too long: ``settling`` asks what there is, adopts it or lets go, and the pool begins anew.
  Letting go loses nothing, since what turns up later is found by what it is: addresses on an ENI of ours by
  the reconciler, an ENI by its tags (``orphans``);
* an ENI that exists and will never serve: its row becomes the intent to give it back;
* what was to be given back turns out to be in use (``holds``), or is another node's: it is left alone.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from control.agent.allocation.cluster_id import ClusterId
from control.agent.allocation.ownership import Ownership
from control.agent.allocation.witnesses import ASSIGNED_TIMEOUT, Witnesses, delays
from control.agent.dataplane.holds import Holds
from control.agent.dataplane.ports import NodeKernel, shared_eni
from control.agent.state.faults import FaultPoint, Faults
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.model.cloud import Cloud, CreateEni, Eni, Metadata
from control.model.errors import Cause, CloudError, TerwayError
from control.model.ids import Address, ClientToken, EniId, InstanceId
from control.model.records import EniRecord, Operation, OperationKind

log = logging.getLogger(__name__)

UNKNOWN_OUTCOME = frozenset({Cause.TIMEOUT, Cause.UNREACHABLE, Cause.INTERNAL})
"""After these the effect may exist although no answer came."""

BEFORE_THE_TOKEN = frozenset({Cause.CREDENTIALS, Cause.FORBIDDEN})
"""Like temporary refusals (throttled, token still being processed) these are given before the cloud looks at
the token: they do not say that an earlier attempt, whose answer was lost, made nothing."""

STATE_TIMEOUT = 60.0
"""Seconds an ENI may stay in a transition (Creating, Detaching) that refuses the next step."""


def _answer_repeats(eni_id: EniId, got: Sequence[Address]) -> CloudError:
    return CloudError(
        f"an assignment to ENI {eni_id} named only addresses that the node has: {', '.join(map(str, got))}",
        cause=Cause.INTERNAL,
        action="AssignPrivateIpAddresses",
        remedy="it is asked for again by itself; if it repeats, report it to the cloud's support",
    )


def _nothing() -> None:
    pass


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


class CloudWork:
    def __init__(
        self,
        *,
        cloud: Cloud,
        metadata: Metadata,
        kernel: NodeKernel,
        holds: Holds,
        journal: Journal,
        faults: Faults,
        settings: WorkSettings,
        cluster: ClusterId,
    ) -> None:
        self.ownership = Ownership(
            cloud=cloud,
            journal=journal,
            cluster=cluster,
            instance_id=settings.instance_id,
            tags=settings.tags,
        )
        self.witnesses = Witnesses(
            metadata=metadata, kernel=kernel, ownership=self.ownership, dual=settings.dual
        )
        self.on_unknown: Callable[[], None] = _nothing
        """Told of an ENI of ours that the cloud does not know: a creation's answer may have named another."""
        self._cloud = cloud
        self._kernel = kernel
        self._holds = holds
        self._journal = journal
        self._faults = faults
        self._settings = settings

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
                request = self._request(operation, await self.ownership.tags(operation))
                eni = await self._created(request, resumed=resumed)
                self._check_created(operation, eni)
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
                self.undo_create(operation)
            raise

    async def _created(self, request: CreateEni, *, resumed: bool) -> Eni:
        """Its answer. An earlier attempt may have been that of a release whose ENIs had no tags of ours.

        The cloud then knows the token with other arguments, which says that there is an ENI.
        """
        try:
            return await self._cloud.create_eni(request)
        except CloudError as exc:
            if not resumed or exc.cause is not Cause.IDEMPOTENCY:
                raise
            return await self._cloud.create_eni(replace(request, tags=self._settings.tags))

    def _check_created(self, operation: Operation, eni: Eni) -> None:
        """An answer about another ENI says nothing of ours. Raises CloudError: the outcome is unknown."""
        if eni.eni_id in self._journal.book.enis or eni.vswitch_id != operation.vswitch_id:
            raise CloudError(
                f"CreateNetworkInterface in {operation.vswitch_id} was answered with ENI {eni.eni_id} of "
                f"{eni.vswitch_id}, which is not what was asked for",
                cause=Cause.INTERNAL,
                action="CreateNetworkInterface",
                remedy="it is asked for again by itself; if it repeats, report it to the cloud's support",
            )

    def _request(self, operation: Operation, tags: tuple[tuple[str, str], ...]) -> CreateEni:
        assert operation.vswitch_id is not None
        return CreateEni(
            vswitch_id=operation.vswitch_id,
            security_groups=operation.security_groups,
            ipv4_count=operation.ipv4_count,
            ipv6_count=operation.ipv6_count,
            token=operation.token,
            tags=tags,
            resource_group=self._settings.resource_group,
        )

    async def _attach(self, eni_id: EniId) -> None:
        """At once after Create; an ENI that is not Available yet refuses, and then it is asked again."""
        async for _ in delays(STATE_TIMEOUT, first=0.05, most=1.0):
            try:
                await self._cloud.attach_eni(eni_id, self._settings.instance_id)
                return
            except CloudError as exc:
                if exc.cause is not Cause.ENI_STATE:
                    raise
                last = exc
        raise last

    async def _serve(self, record: EniRecord, operation: Operation | None) -> None:
        seen = await self.witnesses.of_eni(record, operation)
        ready = replace(
            record,
            cidr=seen.cidr,
            gateway=seen.gateway,
            cidr_v6=seen.cidr_v6,
            gateway_v6=seen.gateway_v6,
        )
        self._kernel.prepare_uplink(shared_eni(ready, self._settings.mtu))
        self._faults.reach(FaultPoint.GROW_SEEN)
        journal = self._journal
        journal.record(transitions.eni_serves(journal.book, ready, seen, journal.now(), operation=operation))
        self._faults.reach(FaultPoint.GROW_COMMITTED)

    async def serve_adopted(self, record: EniRecord) -> None:
        """An ENI of ours that was found attached: serve it once all witnesses agree."""
        await self._serve(record, None)

    def undo_create(self, operation: Operation) -> None:
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
        new = [a for a in got if a not in journal.book.addresses]
        if got and not new:
            raise _answer_repeats(operation.eni_id, got)
        got = new
        if not got:
            journal.record(transitions.abandon_operation(operation))
        else:
            shown = await self.witnesses.addresses_shown(
                journal.book.enis[operation.eni_id].mac, frozenset(got)
            )
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

    async def _release_addresses(self, operation: Operation) -> None:
        assert operation.eni_id is not None
        eni_id = operation.eni_id
        self._faults.reach(FaultPoint.RELEASE_INTENT)
        kept = self._holds.in_use(operation.addresses)
        if kept:
            log.warning("%s stay on %s: a running pod has them", ", ".join(map(str, kept)), operation.eni_id)
            self._journal.record(transitions.keep(self._journal.book, operation, kept, self._journal.now()))
            operation = replace(operation, addresses=tuple(a for a in operation.addresses if a not in kept))
            if not operation.addresses:
                return
        ipv4 = [a for a in operation.addresses if a.version == 4]
        ipv6 = [a for a in operation.addresses if a.version == 6]
        if ipv4:
            await self._cloud.unassign_ipv4(eni_id, ipv4)
        if ipv6:
            await self._cloud.unassign_ipv6(eni_id, ipv6)
        self._faults.reach(FaultPoint.RELEASE_CALLED)
        self._journal.record(transitions.finish_release(self._journal.book, operation))

    async def _release_eni(self, operation: Operation) -> None:
        assert operation.eni_id is not None
        self._faults.reach(FaultPoint.SHED_INTENT)
        described = {e.eni_id: e for e in await self._cloud.enis([operation.eni_id])}.get(operation.eni_id)
        if described is not None and self.ownership.is_anothers(described):
            log.warning("ENI %s is another node's by now: it is forgotten, not given back", operation.eni_id)
            self.forget_eni(operation)
            return
        if described is None:
            self.on_unknown()
        shown = frozenset() if described is None else described.addresses()
        if self._holds.eni_in_use(operation.eni_id, shown):
            log.warning("ENI %s stays: a running pod uses it", operation.eni_id)
            self.keep_eni(operation, "it was to be given back, and a running pod uses it")
            return
        await self._cloud.detach_eni(operation.eni_id, self._settings.instance_id)
        self._faults.reach(FaultPoint.SHED_DETACHED)
        await self._delete(operation.eni_id)
        self._faults.reach(FaultPoint.SHED_DELETED)
        self.forget_eni(operation)

    def forget_eni(self, operation: Operation) -> None:
        """Not before the cloud has let go: until then what ends packets to its addresses must stay."""
        assert operation.eni_id is not None
        record = self._journal.book.enis.get(operation.eni_id)
        if record is not None:
            self._kernel.forget_eni(record.mac)
        self._journal.record(transitions.finish_release(self._journal.book, operation))

    def keep_eni(self, operation: Operation, reason: str) -> None:
        journal = self._journal
        journal.record(transitions.keep_eni(journal.book, operation, reason, journal.now()))

    async def _delete(self, eni_id: EniId) -> None:
        """An ENI still Detaching refuses: asked again until it is Available."""
        async for _ in delays(STATE_TIMEOUT, first=0.1, most=2.0):
            try:
                await self._cloud.delete_eni(eni_id)
                return
            except CloudError as exc:
                if exc.cause is not Cause.ENI_STATE:
                    raise
                last = exc
        raise last

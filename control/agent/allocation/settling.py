"""The end of an operation whose outcome stayed unknown: by what there is."""

from __future__ import annotations

import logging
from dataclasses import replace

from control.agent.allocation.operations import CloudWork
from control.agent.allocation.ownership import Ownership
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.model.cloud import Cloud, Eni, EniStatus, Metadata
from control.model.eni_tags import tagged_kind
from control.model.ids import Address, EniId, InstanceId
from control.model.records import Operation, OperationKind

log = logging.getLogger(__name__)


def _may_be_of(operation: Operation, orphan: Eni) -> bool:
    """A creation has made it. What it is for is in its tags: a pod's own ENI has no use as a shared one."""
    return orphan.vswitch_id == operation.vswitch_id and tagged_kind(orphan.tags) is operation.eni_kind


class Settling:
    def __init__(
        self,
        *,
        work: CloudWork,
        cloud: Cloud,
        metadata: Metadata,
        journal: Journal,
        instance_id: InstanceId,
        dual: bool,
    ) -> None:
        self._work = work
        self._ownership: Ownership = work.ownership
        self._cloud = cloud
        self._metadata = metadata
        self._journal = journal
        self._instance_id = instance_id
        self._dual = dual

    async def settle(self, operation: Operation) -> None:
        """Find out what there is and end the operation by that. Raises TerwayError while nobody can be asked.

        A view that lags shows less than there is of what was added, and more of what was taken away. So what
        is shown is adopted only if cloud and metadata agree, and what still seems to be there is frozen
        until both are asked again.
        """
        log.warning(
            "%s %s stayed unanswered: looking at what there is", operation.kind, operation.eni_id or ""
        )
        match operation.kind:
            case OperationKind.CREATE_ENI:
                await self._create(operation)
            case OperationKind.ASSIGN:
                await self._assign(operation)
            case OperationKind.RELEASE_ADDRESSES:
                await self._release(operation)
            case OperationKind.RELEASE_ENI:
                await self._release_eni(operation)

    async def _create(self, operation: Operation) -> None:
        journal = self._journal
        if operation.eni_id is None:
            made = [e for e in await self._ownership.orphans() if _may_be_of(operation, e)]
            if not made:
                journal.record(transitions.abandon_operation(operation))
                return
            log.warning("ENI %s is adopted: nobody was told that it was made", made[0].eni_id)
            journal.record(transitions.eni_created(operation, made[0], journal.now()))
            await self._work.run(replace(operation, eni_id=made[0].eni_id), resumed=True)
            return
        described = await self._cloud.enis([operation.eni_id])
        if any(e.instance_id == self._instance_id for e in described):
            await self._work.run(operation, resumed=True)
        else:
            self._work.undo_create(operation)

    async def _assign(self, operation: Operation) -> None:
        both, _ = await self._shown(operation)
        journal = self._journal
        assert operation.eni_id is not None
        changes = transitions.adopt_addresses(journal.book, operation.eni_id, both)
        journal.record(replace(changes, gone_operations=(operation.token,)))

    async def _release(self, operation: Operation) -> None:
        _, either = await self._shown(operation)
        journal = self._journal
        journal.record(transitions.settle_release(journal.book, operation, either, journal.now()))

    async def _shown(self, operation: Operation) -> tuple[frozenset[Address], frozenset[Address]]:
        """Addresses that cloud and metadata both show on the operation's ENI, and those that either does."""
        assert operation.eni_id is not None
        record = self._journal.book.enis.get(operation.eni_id)
        described = await self._described(operation.eni_id)
        seen = None if record is None else await self._metadata.eni(record.mac, ipv6=self._dual)
        cloud: frozenset[Address] = frozenset(a for e in described for a in e.addresses())
        metadata: frozenset[Address] = frozenset() if seen is None else seen.ipv4 | seen.ipv6
        return cloud & metadata, cloud | metadata

    async def _release_eni(self, operation: Operation) -> None:
        assert operation.eni_id is not None
        described = await self._described(operation.eni_id)
        if any(e.status in (EniStatus.DETACHING, EniStatus.DELETING) for e in described):
            await self._work.run(operation, resumed=True)
        elif any(e.instance_id is not None for e in described):
            self._work.keep_eni(operation, "the cloud did not let go of it")
        else:
            if described:  # let go and not deleted, or a view that lags: the look for orphans tells
                self._work.on_unknown()
            self._work.forget_eni(operation)

    async def _described(self, eni_id: EniId) -> list[Eni]:
        """As the cloud has it; empty if it is another node's by now."""
        return [e for e in await self._cloud.enis([eni_id]) if not self._ownership.is_anothers(e)]

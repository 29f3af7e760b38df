"""What the daemon does between requests: five loops, none of which the ADD's path waits for.

======== ============ =========================================================================
loop     every        does
======== ============ =========================================================================
sync     pool period  gives back idle addresses beyond the maximum, resumes cut-off operations
watch    60 s         metadata against the ledger; the cloud only if they differ
repair   10 s         all that was written to the kernel; soon after the kernel tells of a change
collect  300 s        frees addresses of pods that are gone, on two witnesses; first soon after the start
ledger   5 s          looks whether it is where it was and can be written, and rebuilds one that was lost
======== ============ =========================================================================

Release and collection share no queue, lock or retry budget with allocation: a full vSwitch stops neither.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from control.agent.allocation.allocators import Allocators
from control.agent.allocation.orphans import Orphans
from control.agent.allocation.pool import Pool
from control.agent.cni.attach import Attachments
from control.agent.dataplane.ports import NodeKernel, sightings
from control.agent.reconcile.inventory import Inventory
from control.agent.reconcile.rebuild import Rebuild
from control.agent.reconcile.recovery import Recovery
from control.agent.reconcile.repair_rounds import RepairRounds
from control.agent.state.journal import Journal
from control.model.errors import TerwayError
from control.model.ids import AttachmentKey
from control.model.pod import EventType, Kubernetes
from control.model.records import AttachmentRecord, AttachmentState, Ended
from control.process.timers import Timers
from datapath.endpoint import Presence, Sighting

log = logging.getLogger(__name__)

WATCH_PERIOD = 60.0
SWEEP_CHECK = 60.0
COLLECT_PERIOD = 300.0
FIRST_COLLECT = 15.0
"""A daemon that died between a DEL's answer and the ledger left rows of pods that are gone."""
LEDGER_PERIOD = 5.0
GRACE = 120.0
"""Seconds an attachment is left alone after its last change: the API server may lag behind the runtime."""


async def _nothing() -> None:
    pass


class Upkeep:
    def __init__(
        self,
        *,
        journal: Journal,
        pool: Pool,
        allocators: Allocators,
        attachments: Attachments,
        kernel: NodeKernel,
        kubernetes: Kubernetes,
        inventory: Inventory,
        recovery: Recovery,
        orphans: Orphans,
        rebuild: Rebuild,
        timers: Timers,
        sync_period: float,
    ) -> None:
        self._journal = journal
        self._pool = pool
        self._allocators = allocators
        self._attachments = attachments
        self._kernel = kernel
        self._kubernetes = kubernetes
        self._inventory = inventory
        self._recovery = recovery
        self._orphans = orphans
        self._rebuild = rebuild
        self._timers = timers
        self._sync_period = sync_period
        self.rounds = RepairRounds(timers)
        self.follow_facts: Callable[[], Awaitable[None]] = _nothing
        """What of the node a repair goes by may have changed since the last one."""
        self._told: dict[AttachmentKey, str] = {}
        """Of whom the kernel cannot be asked, and why."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._sync_period, self._sync))
            group.create_task(self._every(WATCH_PERIOD, self._watch))
            group.create_task(self._repairs())
            group.create_task(self._every(COLLECT_PERIOD, self.collect, first=FIRST_COLLECT))
            group.create_task(self._every(LEDGER_PERIOD, self.mend_ledger))
            group.create_task(self._every(SWEEP_CHECK, self.sweep, first=FIRST_COLLECT))

    async def _every(
        self, seconds: float, work: Callable[[], Awaitable[None]], *, first: float | None = None
    ) -> None:
        await self._timers.sleep(seconds if first is None else first)
        while True:
            await self._guarded(work)
            await self._timers.sleep(seconds)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except TerwayError as exc:
            log.warning("%s: %s", work.__name__.strip("_"), exc)
        except Exception:  # the last resort: a fault of ours in one round must not end all rounds
            log.exception("%s failed in a way nobody foresaw", work.__name__.strip("_"))

    async def mend_ledger(self) -> None:
        """Nothing is written while the ledger is well: a node at rest stays at rest."""
        for found in self._journal.look_after():
            log.warning("%s", found)
            self._kubernetes.event(None, EventType.WARNING, "LedgerLost", found)
        if self._journal.trouble is not None:
            if not self._journal.probe():
                return
            self._finish_half_done()
        self._attachments.pay()
        if self._rebuild.run():
            await self._recovery.repair()

    async def _sync(self) -> None:
        self._pool.resume()
        self._allocators.sync()

    async def _watch(self) -> None:
        await self._inventory.look()
        self._allocators.kick()

    async def _repairs(self) -> None:
        while True:
            await self.rounds.next()
            await self._guarded(self.follow_facts)
            await self._guarded(self._repair)

    async def _repair(self) -> None:
        await self._recovery.repair()

    async def sweep(self) -> None:
        """ENIs that nobody remembers; mostly it is not time to ask for them."""
        if await self._orphans.sweep():
            self._pool.resume()

    async def collect(self) -> None:
        """Free what belongs to pods that are gone. Two witnesses: the API server by a GET, and the kernel.

        An ADD or a DEL whose end failed is taken to it first: no pod was told of the one, and the runtime
        has given up the other.
        """
        self._finish_half_done()
        if not self._kubernetes.synced():
            return
        book = self._journal.book
        settled = [a for a in book.attachments.values() if self._is_settled(a)]
        seen = sightings(self._kernel, settled, book.enis)
        self._told = {key: why for key, why in self._told.items() if key in book.attachments}
        for record in settled:
            try:
                gone = self._is_lost(record, seen[record.key]) and await self._is_gone(record)
                if gone and book.attachments.get(record.key) is record:
                    log.warning("%s (%s) is gone from Kubernetes and kernel: freed", record.pod, record.key)
                    self._attachments.finish(record, Ended.COLLECTED)
            except TerwayError as exc:  # of one pod, and the others are seen to
                log.warning("%s (%s) is looked at the next time: %s", record.pod, record.key, exc)
        self._allocators.kick()

    def _finish_half_done(self) -> None:
        for record in list(self._journal.book.attachments.values()):
            half_done = record.state in (AttachmentState.ADDING, AttachmentState.DELETING)
            if not half_done or self._attachments.is_under_way(record.key):
                continue
            try:
                self._attachments.finish(record)
            except TerwayError as exc:
                log.warning("%s (%s) stays %s: %s", record.pod, record.key, record.state, exc)

    def _is_settled(self, record: AttachmentRecord) -> bool:
        settled = record.state in (AttachmentState.READY, AttachmentState.LOST)
        return settled and self._journal.now() - record.since >= GRACE

    def _is_lost(self, record: AttachmentRecord, sighting: Sighting) -> bool:
        """To the kernel. What it cannot be asked about is there for all we know, and that is told once."""
        unknown = sighting.presence is Presence.UNKNOWN
        if unknown and self._told.get(record.key) != sighting.why:
            log.warning("whether %s (%s) is there is not known: %s", record.pod, record.key, sighting.why)
        if unknown:
            self._told[record.key] = sighting.why
        else:
            self._told.pop(record.key, None)
        return sighting.presence is Presence.GONE

    async def _is_gone(self, record: AttachmentRecord) -> bool:
        """From Kubernetes."""
        pod = self._kubernetes.pods().get(record.pod)
        if pod is not None and pod.uid == record.uid:
            return pod.sandbox_exited
        return not await self._kubernetes.exists(record.pod, record.uid)

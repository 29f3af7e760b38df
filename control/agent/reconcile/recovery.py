"""The start: ledger, kernel and cloud are three witnesses, put together before the first ADD is served.

Order: the boot id tells whether any kernel object can exist; half-done attachments are taken to their end;
the kernel is asked which addresses run, whatever the ledger says (``holds``), before any is handed out;
ENIs are held against cloud and metadata (one cloud call, and none on a node that never had an ENI); what
running pods need in the kernel is repaired; half-done cloud operations go on in the background. A cloud or
metadata that is away does not stop the start: running pods and addresses in the ledger need neither. Who does
not answer soon is waited for in the background: addresses that the ledger has are handed out meanwhile, and
nothing new is asked of the cloud before it is known what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from control.agent.allocation.orphans import Orphans
from control.agent.allocation.pool import Pool
from control.agent.cni.attach import Attachments
from control.agent.dataplane.holds import Holds
from control.agent.dataplane.ports import EndpointSettings, NodeKernel, endpoint_of, not_built, shared_eni
from control.agent.reconcile.inventory import Inventory
from control.agent.reconcile.rebuild import Rebuild
from control.agent.reconcile.repair_reports import RepairReports
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.model.errors import TerwayError
from control.model.pod import Kubernetes, Unsubscribe
from control.model.records import AttachmentRecord, AttachmentState, EniState
from control.process.called_off import called_off
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import Endpoint

log = logging.getLogger(__name__)

BOOT_ID = "boot_id"
MISS_PERIOD = 60.0
"""Seconds between two looks for pods whose link is gone: who is missed at both is told of, and a runtime may
take a while from a namespace's end to its DEL."""
LOOK_AGAIN = 1.0
"""Seconds until a list of pods is looked at again at which the kernel failed, without a descriptor, say."""
WITNESSES_TIMEOUT = 2.0
"""Seconds the first ADD waits for cloud and metadata to be held against the ledger. It takes well under a
second if both answer; nothing fails after it, and what they say later counts as well."""


class Recovery:
    def __init__(
        self,
        *,
        journal: Journal,
        attachments: Attachments,
        kernel: NodeKernel,
        holds: Holds,
        kubernetes: Kubernetes,
        inventory: Inventory,
        pool: Pool,
        orphans: Orphans,
        rebuild: Rebuild,
        settings: EndpointSettings,
    ) -> None:
        self._orphans = orphans
        self._rebuild = rebuild
        self._journal = journal
        self._attachments = attachments
        self._kernel = kernel
        self._holds = holds
        self._inventory = inventory
        self._pool = pool
        self._settings = settings
        self._kubernetes = kubernetes
        self._unsubscribe: Unsubscribe | None = None
        pool.wait_for_list(rebuild.pods_unlisted)
        self._witnesses: asyncio.Task[None] | None = None
        self._missed_at = -MISS_PERIOD
        self._repairing = asyncio.Lock()
        self.reports = RepairReports(kubernetes, journal.now)

    async def run(self, boot_id: str) -> None:
        rebooted = self._journal.facts.get(BOOT_ID, boot_id) != boot_id
        if rebooted:  # with the machine the ledger's last commits may have died
            self._orphans.suspect()
        elif BOOT_ID not in self._journal.facts:
            self._orphans.suspect_later()
        if rebooted:
            log.warning("the node was rebooted: pods' kernel objects are gone, their addresses wait for them")
            self._lose_ready()
        self._finish_half_done()
        self._holds.look()
        self._rebuild.begin(empty=BOOT_ID not in self._journal.facts)
        if self._holds.unrecorded:
            self._orphans.suspect()
        self._journal.remember(BOOT_ID, boot_id)
        self._pool.hold()
        self._witnesses = asyncio.create_task(self._inventory.learn(), name="witnesses")
        if not await self._inventory.asked_once(WITNESSES_TIMEOUT):
            log.warning("starting from the ledger: cloud and metadata have not answered yet")
        self._rebuild.run()
        if self._rebuild.pods_unlisted():
            log.warning("nothing is handed out before Kubernetes has listed the pods of this node")
            self._await_list(asyncio.get_running_loop())
        self._prepare_enis()
        await self.repair(at_start=True)
        self._pool.resume()
        self._pool.kick()

    def _await_list(self, loop: asyncio.AbstractEventLoop) -> None:
        def changed() -> None:  # a thread of the subscriber's
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._pods_listed)

        self._unsubscribe = self._kubernetes.on_pods(changed)

    def _pods_listed(self) -> None:
        if self._unsubscribe is None:
            return
        try:
            self._rebuild.run()
        except TerwayError as exc:
            log.warning("what Kubernetes has listed is looked at again soon: %s", exc)
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self._pods_listed)
            return
        if not self._rebuild.pods_unlisted():
            self._unlisten()
            self._pool.changed()

    def _unlisten(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    async def close(self) -> None:
        self._unlisten()
        if self._witnesses is not None:
            await called_off(self._witnesses)

    def _lose_ready(self) -> None:
        ready = self._in_state(AttachmentState.READY)
        if ready:
            self._journal.record(transitions.lose(ready, self._journal.now()))

    def _finish_half_done(self) -> None:
        for record in self._in_state(AttachmentState.ADDING, AttachmentState.DELETING):
            log.warning("%s of %s was cut off: taken to its end", record.state, record.pod)
            try:
                self._attachments.finish(record)
            except TerwayError as exc:  # one pod's remains must not keep the node from serving
                log.warning("%s (%s) stays %s for now: %s", record.pod, record.key, record.state, exc)

    def _in_state(self, *states: AttachmentState) -> list[AttachmentRecord]:
        return [a for a in self._journal.book.attachments.values() if a.state in states]

    def _prepare_enis(self) -> None:
        """The kernel side of each ENI, for when the reconciler could not be asked.

        One that is frozen may carry pods, which are to keep their network whoever has doubts of it.
        """
        for eni in list(self._journal.book.enis.values()):
            if eni.state not in (EniState.SERVING, EniState.FROZEN) or eni.gateway is None:
                continue
            try:
                self._kernel.prepare_uplink(shared_eni(eni, self._settings.mtu))
            except TerwayError as exc:
                if eni.state is EniState.SERVING:
                    log.warning("ENI %s cannot serve: %s", eni.eni_id, exc)
                    self._journal.record(transitions.freeze_eni(eni, str(exc), self._journal.now()))

    async def repair(self, *, at_start: bool = False) -> int:
        """Re-add what running pods lack in the kernel, remove what nobody owns. How many objects that was.

        One at a time: a round knows who came and went since it began, and another one would begin that anew.
        Who waits goes by the ledger as of then.
        """
        async with self._repairing:
            return await self._repair(at_start=at_start)

    async def _repair(self, *, at_start: bool) -> int:
        endpoints: list[Endpoint] = []
        strange: list[Difference] = []
        for record in self._in_state(AttachmentState.READY, AttachmentState.ADDING):
            if record.key in self._journal.owed:
                continue
            if why := not_built(record):
                strange.append(Difference(ObjectKind.MODE, f"mode of pod {record.pod}", why))
                continue
            eni = self._journal.book.enis.get(record.eni_id)
            if eni is not None and eni.gateway is not None:
                endpoints.append(endpoint_of(record, eni, self._settings))
        try:
            done = await self._kernel.repair(endpoints)
        except TerwayError:  # of one mode, or at one object: what stands beside it is looked at all the same
            self._look_beside(strange, lately=False)
            raise
        self.reports.mended(done, events=not at_start)
        self._look_beside(strange, lately=True)
        return len(done)

    def _look_beside(self, strange: Sequence[Difference], *, lately: bool) -> None:
        """What others have put there, who runs without a record, whose link is gone. ``lately`` as for
        ``Holds.look``."""
        self.reports.left((*self._kernel.foreign_hands(), *strange))
        self._holds.look(lately=lately)
        now = self._journal.now()
        if not 0 <= now - self._missed_at < MISS_PERIOD:
            self._missed_at = now
            self._holds.miss()

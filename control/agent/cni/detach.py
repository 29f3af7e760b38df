"""DEL needs nothing but the kernel: an eviction that is to free a full disk must not wait for that disk.

The network goes first and the answer is yes. If the ledger cannot be written, the attachment's row stays as
it is, so that its addresses are nobody else's, and the journal owes its end: it is paid when the ledger can
be written again. If the daemon dies before that, the next one finds a row without a link, which
``Upkeep.collect`` frees once Kubernetes says that the pod is gone too.
"""

from __future__ import annotations

import logging

from control.agent.dataplane.holds import Holds
from control.agent.dataplane.ports import EndpointSettings, NodeKernel, endpoint_of, id_of, not_built
from control.agent.state.faults import FaultPoint, Faults
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.model.errors import LedgerError
from control.model.ids import AttachmentKey
from control.model.records import AttachmentRecord, Ended

log = logging.getLogger(__name__)


class Detachments:
    """Has no state of its own: a node has one before its start has ended, and ``Attachments`` another."""

    def __init__(
        self,
        *,
        journal: Journal,
        kernel: NodeKernel,
        holds: Holds,
        faults: Faults,
        settings: EndpointSettings,
    ) -> None:
        self._journal = journal
        self._holds = holds
        self._kernel = kernel
        self._faults = faults
        self._settings = settings

    def delete(self, key: AttachmentKey, netns: int | None) -> None:
        """Succeeds for the unknown, twice, without a namespace, and with a ledger that cannot be written.

        Raises KernelError if the network could not be taken down; a runtime then asks again.
        """
        record = self._journal.book.attachments.get(key)
        if record is None:
            self._holds.take_down(key)
            return
        try:
            self._journal.record(transitions.begin_delete(record, self._journal.now()))
        except LedgerError as exc:
            log.warning("DEL of %s (%s) goes on without the ledger: %s", record.pod, key, exc)
        self._faults.reach(FaultPoint.DEL_INTENT)
        self.teardown(record, netns)
        self._faults.reach(FaultPoint.DEL_APPLIED)
        self._end(record, Ended.DELETED)
        self._faults.reach(FaultPoint.DEL_COMMITTED)

    def end(self, record: AttachmentRecord) -> None:
        """As ``delete``, for an attachment of which the runtime knows nothing any more."""
        self.teardown(record, None)
        self._end(record, Ended.COLLECTED)

    def _end(self, record: AttachmentRecord, ended: Ended) -> None:
        try:
            self.forget(record, ended)
        except LedgerError:
            self._journal.owed.add(record.key)

    def teardown(self, record: AttachmentRecord, netns: int | None) -> None:
        eni = self._journal.book.enis.get(record.eni_id)
        if eni is not None and eni.gateway is not None and not not_built(record):
            self._kernel.teardown(endpoint_of(record, eni, self._settings), netns)
        else:  # its ENI is lost or another release made it: by what the kernel says of it
            self._kernel.take_down(id_of(record, eni), netns)

    def forget(self, record: AttachmentRecord, ended: Ended) -> None:
        """Raises LedgerError."""
        journal = self._journal
        journal.record(transitions.finish_delete(journal.book, record, journal.now(), ended))

    def pay(self) -> bool:
        """Remove the rows that are owed. False if the ledger still cannot be written."""
        for key in list(self._journal.owed):
            record = self._journal.book.attachments.get(key)
            try:
                if record is not None:
                    self.forget(record, Ended.DELETED)
            except LedgerError:
                return False
            self._journal.owed.discard(key)
        return True

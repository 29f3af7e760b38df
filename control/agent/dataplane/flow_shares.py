"""Pods whose flows by the stack got no record: an event for each cause, so that nobody wonders why."""

from __future__ import annotations

from control.agent.state.journal import Journal
from control.model.ids import Address, PodKey
from control.model.pod import EventType, Kubernetes
from datapath.acceleration.flows import Refusals
from datapath.acceleration.path import FastPath

_WHY = {
    "share": "it has used up its share of the fast path's flow records",
    "full": "the table of the fast path's flow records is full",
}


class FlowShares:
    """Level-triggered, as ``PodPaths`` is: each look compares what was counted with what was told."""

    def __init__(self, journal: Journal, kubernetes: Kubernetes) -> None:
        self._journal = journal
        self._kubernetes = kubernetes
        self._told: set[tuple[PodKey, str, str]] = set()

    def tell(self, fast: FastPath) -> None:
        """One event for each pod and cause."""
        refusals = fast.refusals()
        if not refusals:
            return
        rows = fast.endpoints()
        for ifindex, found in refusals.items():
            row = rows.get(ifindex)
            for address in () if row is None else row.addresses[:1]:
                self._tell(address, found)

    def _tell(self, address: Address, found: Refusals) -> None:
        records = self._journal.book.attachments.values()
        record = next((one for one in records if address in one.addresses()), None)
        if record is None:
            return
        pod = self._kubernetes.pods().get(record.pod)
        for cause, packets in (("share", found.share), ("full", found.full)):
            if packets and (record.pod, record.uid, cause) not in self._told:
                self._told.add((record.pod, record.uid, cause))
                self._kubernetes.event(
                    pod,
                    EventType.WARNING,
                    "FastPathLimited",
                    f"pod {record.pod}: {_WHY[cause]}. No connection is harmed; what the pod has with peers "
                    "that it meets through Services goes by the host's stack until those flows are over",
                )

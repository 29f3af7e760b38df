"""Pods' own word on the fast path: the annotation, followed for as long as the pod lives."""

from __future__ import annotations

from control.agent.dataplane.shaping import Shaping
from control.agent.state.journal import Journal
from control.model.ids import Address, AttachmentKey
from control.model.modes import HAS_HOST_LINK
from control.model.pod import FAST_PATH, EventType, Kubernetes, Pod, may_be_fast
from control.model.records import AttachmentRecord, AttachmentState
from datapath.acceleration.path import FastPath

WORDS = ("on", "off")


class PodPaths:
    """Level-triggered: each look compares every pod's annotation with what its row was last told."""

    def __init__(self, journal: Journal, kubernetes: Kubernetes, shaping: Shaping) -> None:
        self._journal = journal
        self._shaping = shaping
        self._kubernetes = kubernetes
        self._told: dict[AttachmentKey, bool] = {}
        self._warned: set[tuple[str, str]] = set()

    def follow(self, fast: FastPath) -> None:
        """Switch those whose annotation is another than before, and who is shaped now or no more."""
        if not self._kubernetes.synced():
            return
        pods, told, shaped = self._kubernetes.pods(), {}, _shaped(fast)
        for record in self._journal.book.attachments.values():
            pod = pods.get(record.pod)
            if pod is None or pod.uid != record.uid or record.state is not AttachmentState.READY:
                continue
            if record.mode not in HAS_HOST_LINK:
                continue
            wanted = may_be_fast(pod) and not self._shaping.limits(pod).any
            told[record.key] = wanted = wanted and shaped.isdisjoint(record.addresses())
            self._check_word(pod)
            if self._told.get(record.key) != wanted and not _switch(fast, record, wanted):
                del told[record.key]
        self._told = told

    def _check_word(self, pod: Pod) -> None:
        word = pod.annotations.get(FAST_PATH, "on")
        if word in WORDS or (pod.uid, word) in self._warned:
            return
        self._warned.add((pod.uid, word))
        self._kubernetes.event(
            pod,
            EventType.WARNING,
            "InvalidAnnotation",
            f"{FAST_PATH} is {word!r}; it may be {' or '.join(WORDS)}, and counts as on",
        )


def _shaped(fast: FastPath) -> frozenset[Address]:
    """Addresses of pods at whose host link somebody has put a qdisc, which their packets are to meet."""
    found = fast.shaped()
    devices = found.sent | found.received
    rows = fast.endpoints() if devices else {}
    return frozenset(one for index in devices & rows.keys() for one in rows[index].addresses)


def _switch(fast: FastPath, record: AttachmentRecord, on: bool) -> bool:
    """False if the fast path does not know the pod yet."""
    first: Address = record.addresses()[0]
    return fast.switch_pod(first, on)

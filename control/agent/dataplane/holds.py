"""What the kernel shows in use, whatever the ledger says: the witness that no address is taken from a pod by.

The absence of a record is no proof that something is free. A ledger can be lost with its directory, be as old
as its last checkpoint, or be a copy of another day; the pods run on. So whoever hands out an address, gives
one back or detaches an ENI asks here, and this asks the kernel: which links live, and which addresses do
routes, neighbours and the fast path lead to them.

What is held ends with its link: by the pod's DEL or the runtime's GC, by an ADD that makes the pod's sandbox
anew, or with the pod's namespace. No time and no silence of anybody ends it.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from control.agent.dataplane.ports import NodeKernel, sightings
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.model.errors import KernelError, LedgerError
from control.model.ids import Address, AttachmentKey, EniId
from control.model.modes import HAS_HOST_LINK, UPLINK_OF, EniKind, NetworkMode, UplinkKind
from control.model.pod import EventType, Kubernetes
from control.model.records import AddressState, AttachmentRecord, AttachmentState, Changes
from datapath.endpoint import Carrier, Presence
from datapath.pod.names import host_link_name, host_mac

log = logging.getLogger(__name__)

TELLS, TELL_WINDOW = 4, 300.0
"""Events in so many seconds: a hand that alters a link again and again is told of when it has calmed down."""
TOLD_AT_MOST = 5
"""Links named in an event; ``terway-cli mapping`` shows all."""


class Holds:
    """``look`` asks the kernel; ``unrecorded`` and ``Book.held`` are what it said last."""

    def __init__(self, *, journal: Journal, kernel: NodeKernel, kubernetes: Kubernetes) -> None:
        self._journal = journal
        self._kernel = kernel
        self._kubernetes = kubernetes
        self._told: frozenset[str] = frozenset()
        self._told_at: deque[float] = deque(maxlen=TELLS)
        self._warm: frozenset[Address] = frozenset()
        self.claimed: Callable[[], frozenset[Address]] = frozenset
        """Addresses to be held although no link carries them (``control.agent.reconcile.rebuild``)."""
        self.carriers: tuple[Carrier, ...] = ()
        """All live links, as of the last look."""
        self.unrecorded: tuple[Carrier, ...] = ()
        """Live links that the ledger does not know, or knows with other addresses."""
        self.cut_off: tuple[AttachmentRecord, ...] = ()
        """Pods of the ledger whose link is gone, at two looks of ``miss`` in a row."""
        self._missed: frozenset[AttachmentKey] = frozenset()
        self.listed: frozenset[AttachmentKey] = frozenset()
        """What the runtime's last GC called valid."""

    def look(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        """All live links of pods. What runs without a record is held from now on.

        ``lately``: a round of repair has just looked, and that will do.
        """
        self.carriers = carriers = self._by_mac(self._kernel.carriers(lately=lately))
        unknown = self._unknown(carriers)
        self.unrecorded = tuple(unknown)
        book = self._journal.book
        held: frozenset[Address] = frozenset().union(*unknown.values()) if unknown else frozenset()
        held |= self.claimed()
        self._cool(book.held - held)
        self._set_apart(carriers)
        book.hold(held | self._warm)
        self._tell()
        return carriers

    def _by_mac(self, carriers: tuple[Carrier, ...]) -> tuple[Carrier, ...]:
        """Those whose alias somebody has altered are known by their MAC, if their sandbox is.

        A MAC is made of the sandbox and does not say it: the ledger does, or the runtime's list. Where two
        links have one MAC it says nothing.
        """
        keys = self.listed | self._journal.book.attachments.keys()
        sandboxes = {key.container_id for key in keys}
        strange = {c for c in carriers if c.container_id not in sandboxes and not c.ifname}
        if not strange:
            return carriers
        once = {mac for mac, times in Counter(c.mac for c in carriers).items() if times == 1}
        macs = {mac: key for key in keys if (mac := host_mac(key.container_id, key.ifname)) in once}
        return tuple(
            replace(c, container_id=key.container_id, ifname=key.ifname)
            if c in strange and (key := macs.get(c.mac)) is not None
            else c
            for c in carriers
        )

    def _set_apart(self, carriers: Iterable[Carrier]) -> None:
        """An ENI that a pod has for itself is not shared, also if the ledger has lost that fact."""
        alone = (one for one in carriers if UPLINK_OF[NetworkMode(one.mode)] is UplinkKind.OWN_ENI)
        macs = {mac for carrier in alone for mac in carrier.enis}
        enis = self._journal.book.enis.values() if macs else ()
        shared = [eni for eni in enis if eni.mac in macs and eni.kind is EniKind.SECONDARY]
        try:
            if shared:
                changed = tuple(replace(eni, kind=EniKind.EXCLUSIVE) for eni in shared)
                self._journal.record(Changes(enis=changed))
        except LedgerError as exc:
            log.warning("ENIs that pods have for themselves look shared, the kernel refuses that: %s", exc)

    def _cool(self, let_go: Collection[Address]) -> None:
        """What a pod has just let go of cools, and stays held as long as that cannot be written."""
        book = self._journal.book
        free = [r for a in let_go if (r := book.addresses.get(a)) and r.state is AddressState.FREE]
        self._warm = frozenset(r.address for r in free)
        try:
            if free:
                self._journal.record(transitions.cool(free, self._journal.now()))
            self._warm = frozenset()
        except LedgerError as exc:
            log.warning("addresses of pods that are gone stay held: %s", exc)

    def _unknown(self, carriers: Iterable[Carrier]) -> dict[Carrier, frozenset[Address]]:
        """Carriers without a record, or with more than it says; what of theirs is not in it.

        By the sandbox that the link names; upstream's links name none, and go by their own name. An address
        that nobody owns is no record, whatever an attachment says: it would be handed out.
        """
        book = self._journal.book
        by_sandbox: dict[str, set[Address]] = {}
        by_link: dict[str, set[Address]] = {}
        for record in book.attachments.values():
            owned = {
                address
                for address in record.addresses()
                if address not in book.addresses or book.addresses[address].owner is not None
            }
            by_sandbox.setdefault(record.key.container_id, set()).update(owned)
            by_link.setdefault(record.host_link, set()).update(owned)
        found = {}
        for one in carriers:
            recorded = by_sandbox.get(one.container_id) if one.container_id else by_link.get(one.link)
            if not recorded or not one.addresses <= recorded:
                found[one] = one.addresses - (recorded or set())
        return found

    def miss(self) -> None:
        """Tell of recorded pods that the kernel has lost: nobody but a new sandbox gives them a link again.

        At the second look, as a link goes with its namespace a moment before the runtime says DEL.
        """
        book, owed = self._journal.book, self._journal.owed
        ready = [
            r for r in book.attachments.values() if r.state is AttachmentState.READY and r.key not in owed
        ]
        seen = sightings(self._kernel, ready, book.enis)
        gone = {r.key: r for r in ready if seen[r.key].presence is Presence.GONE}
        told = {record.key for record in self.cut_off}
        self.cut_off = tuple(record for key, record in gone.items() if key in self._missed)
        self._missed = frozenset(gone)
        pods = self._kubernetes.pods()
        for record in self.cut_off:
            if record.key not in told:
                log.warning("%s: %s", record.pod, without_link(record))
                pod = pods.get(record.pod)
                self._kubernetes.event(pod, EventType.WARNING, "LinkGone", without_link(record))

    # For whoever gives something back.

    def in_use(self, addresses: Collection[Address]) -> frozenset[Address]:
        """Those of ``addresses`` that a live link carries at this moment."""
        return frozenset(addresses) & _all(self.look())

    def eni_in_use(self, eni_id: EniId, shown: Collection[Address]) -> bool:
        """A live link leans on the ENI. ``shown``: its addresses as the cloud has them."""
        carriers = self.look()
        book = self._journal.book
        record = book.enis.get(eni_id)
        on_it = {r.address for r in book.of_eni(eni_id)} | set(shown)
        leaning = record is not None and any(record.mac in c.enis for c in carriers)
        return leaning or bool(on_it & _all(carriers))

    # For ADD, DEL and GC of sandboxes without a record.

    def running(self, key: AttachmentKey) -> Carrier | None:
        """The unrecorded link of this very sandbox, as of the last look."""
        return next((c for c in self.unrecorded if c.is_of(key.container_id, key.ifname)), None)

    def take_down(self, key: AttachmentKey) -> None:
        """The DEL of a sandbox that the ledger does not know: its link goes, its addresses cool."""
        self.look()
        carrier = self.running(key)
        if carrier is not None:
            log.warning("%s of sandbox %s is not in the ledger: taken down", carrier.link, key)
            self._end(carrier)

    def collect(self, listed: Collection[AttachmentKey]) -> list[KernelError]:
        """End links that neither the runtime lists nor Kubernetes has a pod for: two witnesses.

        ``listed`` are the attachments that the runtime calls valid. A link without an alias was not made for
        any sandbox that a runtime could list, so it stays. So does a pod without a host link: nothing on the
        node says which pod it is, so the second witness cannot be asked. Says what links failed with that
        could not be ended, once the others are.
        """
        self.listed = frozenset(listed)
        if not self._kubernetes.synced():
            return []
        self.look()
        sandboxes = {key.container_id for key in listed}
        alive = set(self._names_of_pods({key.ifname for key in listed} | {"eth0"}))
        failed: list[KernelError] = []
        for carrier in self.unrecorded:
            if NetworkMode(carrier.mode) not in HAS_HOST_LINK:
                continue
            if carrier.container_id and carrier.container_id not in sandboxes and carrier.link not in alive:
                log.warning("GC: %s has neither a sandbox nor a pod: taken down", carrier.link)
                try:
                    self._end(carrier)
                except KernelError as exc:
                    log.warning("GC: %s stays for now: %s", carrier.link, exc)
                    failed.append(exc)
        return failed

    def _names_of_pods(self, ifnames: Iterable[str]) -> Iterable[str]:
        """What the links of this node's pods are called: nothing else of a link says whose it is."""
        for pod in self._kubernetes.pods().values():
            if not pod.sandbox_exited:
                for ifname in ifnames:
                    yield host_link_name(pod.key.namespace, pod.key.name, ifname)
                    # Upstream's name, and that of earlier releases, for what is not eth0.
                    yield host_link_name(pod.key.namespace, f"{pod.key.name}{ifname}", "eth0")

    def _end(self, carrier: Carrier) -> None:
        self._kernel.take_down(carrier.id)
        self.look()

    # What is said.

    def _tell(self) -> None:
        """Once per change; ``terway-cli mapping`` goes on showing it."""
        links = frozenset(c.link for c in self.unrecorded)
        now = self._journal.now()
        often = len(self._told_at) == TELLS and now - self._told_at[0] < TELL_WINDOW
        if links == self._told or often:
            return
        self._told = links
        self._told_at.append(now)
        text = describe(self.unrecorded) if links else "every running pod is in the ledger again"
        kind = EventType.WARNING if links else EventType.NORMAL
        log.log(logging.WARNING if links else logging.INFO, "%s", text)
        self._kubernetes.event(
            None, kind, "PodsNotInLedger" if links else "PodsInLedger", text, topic="ledger"
        )


def describe(unrecorded: Collection[Carrier]) -> str:
    """For an operator: what runs without a record, what that means, and what ends it."""
    shown = sorted(unrecorded, key=lambda c: c.link)[:TOLD_AT_MOST]
    named = [f"{_named(c)} ({', '.join(sorted(map(str, c.addresses))) or 'address unknown'})" for c in shown]
    if len(unrecorded) > TOLD_AT_MOST:
        named.append(f"{len(unrecorded) - TOLD_AT_MOST} more")
    return (
        f"the ledger does not know {len(unrecorded)} running pods, by their links: {', '.join(named)}; they "
        "keep their network, and their addresses and ENIs are neither handed out nor given back. Deleting "
        "such a pod ends it; a link whose pod is gone for good is removed with `ip link delete NAME`, an ENI "
        "is given back by itself"
    )


def _named(carrier: Carrier) -> str:
    """The link of a pod that has none on the host is its ENI, which nobody is to delete."""
    return carrier.link if NetworkMode(carrier.mode) in HAS_HOST_LINK else f"ENI {carrier.link} of its own"


def without_link(record: AttachmentRecord) -> str:
    name = record.host_link or f"{record.key.ifname}, the {record.mode} link"
    return (
        f"link {name} of pod {record.pod} is gone, deleted by somebody or with the sandbox: the pod has no "
        "network, and none can be made again under a running container; delete the pod: the next one has one"
    )


def _all(carriers: Iterable[Carrier]) -> frozenset[Address]:
    return frozenset(address for carrier in carriers for address in carrier.addresses)

"""A ledger that was lost is rebuilt: what runs is recorded again, by what kernel, cloud and Kubernetes say.

A ledger is lost if it is gone, damaged, a later release's or another node's (then it is empty here), or older
than the node, as a copy is that somebody has put back: then a live link names a sandbox that it does not
know, which no death of the agent leaves behind, since the intent of every ADD is written first.

For each such link: the kernel has the sandbox (its alias), the interface (its MAC is made of both) and what
leads to it; cloud and metadata have the ENI of these addresses (``Reconciler``); Kubernetes has the pod: one
of this node that has not ended, whose status has this address, and whose link has this name in a mode in
which links have one. A pod that is in the API alone proves nothing at any other time: a finished one keeps
its status.podIP after its DEL. What is told otherwise by any of them stays held (``Holds``) until they agree.

A link that somebody has renamed is ours by its MAC, and its address says whose once every pod has told its
own. One whose alias was altered does not say its sandbox: the runtime does, by a repeated ADD or by what its
GC lists.

An address that such a pod of the API has and no link carries, after a reboot say or in a mode without links
on the host, is nobody else's while the ledger is being rebuilt.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from control.agent.dataplane.holds import Holds
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.model.errors import LedgerError
from control.model.ids import Address, AttachmentKey, EniId, PodKey
from control.model.modes import HAS_HOST_LINK, EniKind, NetworkMode, Uplink, UplinkKind
from control.model.pod import EventType, Kubernetes, Pod
from control.model.records import AddressRecord, AddressState, AttachmentRecord, AttachmentState
from datapath.endpoint import Carrier
from datapath.pod.names import HOST_LINK_PREFIX, host_link_name

log = logging.getLogger(__name__)

REBUILDING = "rebuilding"
"""Fact in the ledger: why it is being rebuilt. A restart goes on with it."""
IFNAMES = ("eth0", *(f"{kind}{n}" for kind in ("net", "eth") for n in range(1, 10)))
"""Interfaces that a link is looked at for: the runtime's own, and what Multus and upstream call more."""
_CONTAINER_ID = re.compile("[0-9a-f]{64}")
"""What runtimes call a sandbox: an alias of this form is believed where a hand has altered the MAC."""
_UNOWNED = (AddressState.FREE, AddressState.ASSIGNED, AddressState.FROZEN)


class Rebuild:
    def __init__(self, *, journal: Journal, holds: Holds, kubernetes: Kubernetes) -> None:
        self._journal = journal
        self._holds = holds
        self._kubernetes = kubernetes
        self.asked = False
        """Cloud and metadata have said, since the start, what there is: before that no address is known."""
        self._listed = False
        """Kubernetes has listed this node's pods, and what they have is held."""
        holds.claimed = self.claimed

    def going_on(self) -> bool:
        return bool(self._journal.facts.get(REBUILDING))

    def pods_unlisted(self) -> bool:
        """No address is known to be free: a pod that Kubernetes has not listed yet may have it."""
        return self.going_on() and not self._listed

    def begin(self, *, empty: bool) -> None:
        """Find out whether the ledger is a lost one; called at the start, after ``Holds.look``.

        ``empty``: nothing of this node was ever in it, as on a new node.
        """
        unknown = [c for c in self._holds.unrecorded if c.container_id]
        if self.going_on() or not (empty or unknown):
            return
        if not empty:
            copy = self._journal.keep_copy("older")
            told = (
                f"the ledger is older than what runs: it does not know {len(unknown)} sandboxes that have a "
                "link here. It is brought up to date by kernel, cloud and Kubernetes"
                + (f"; a copy of it as it was is {copy}" if copy else "")
            )
            log.warning("%s", told)
            self._kubernetes.event(None, EventType.WARNING, "LedgerLost", told)
        self._journal.note(REBUILDING, "lost" if empty else "older")

    def claimed(self) -> frozenset[Address]:
        """Addresses of pods that Kubernetes says run here and that nothing else here speaks of.

        While nobody has said which addresses there are all of them count: what cloud and metadata show next
        is not free because it was not known when Kubernetes was asked.
        """
        if not self.going_on():
            return frozenset()
        book = self._journal.book
        return frozenset(
            address
            for pod in self._running_pods()
            if not book.of_pod(pod.key)
            for address in pod.addresses
            if self._is_unowned(address)
        )

    def _is_unowned(self, address: Address) -> bool:
        record = self._journal.book.addresses.get(address)
        return not self.asked if record is None else record.owner is None

    def _running_pods(self) -> Iterator[Pod]:
        return (p for p in self._kubernetes.pods().values() if not (p.host_network or p.sandbox_exited))

    def run(self) -> int:
        """Record what can be attributed by now. How many links that were; to be called until it is over."""
        if not (self.going_on() and self._kubernetes.synced()):
            return 0
        self._holds.look()
        self._listed = True
        made = 0
        while now := sum(self._record(carrier) for carrier in self._holds.unrecorded):
            made += now  # what is known of a sandbox by now may say whose its other interfaces are
            self._holds.look()
        left = [c for c in self._holds.unrecorded if c.container_id]
        if self.asked and not left and not self.claimed():
            self._journal.note(REBUILDING, "")
            self._holds.look()
        return made

    def _record(self, carrier: Carrier) -> bool:
        pod = self._pod_of(carrier)
        found = None if pod is None else self._attachment(carrier, *pod)
        if found is None:
            return False
        book, now = self._journal.book, self._journal.now()
        try:
            self._journal.record(transitions.rebuilt(book, found, self._outdated(found), now))
        except LedgerError as exc:
            log.warning("%s stays without a record: %s", carrier.link, exc)
            return False
        log.warning("%s of %s is in the ledger again: %s", carrier.link, found.pod, found.key)
        return True

    def _pod_of(self, carrier: Carrier) -> tuple[PodKey, str, str] | None:
        """Key, uid and interface of the pod that the link is of, None if that is not known for sure."""
        sandbox = carrier.container_id
        names = (carrier.ifname,) if carrier.ifname else IFNAMES
        made_for = [i for i in names if sandbox and carrier.is_of(sandbox, i)]
        for record in self._journal.book.attachments.values():  # another interface of the same sandbox
            if made_for and record.key.container_id == sandbox and record.key.ifname not in made_for:
                return record.pod, record.uid, made_for[0]
        named = NetworkMode(carrier.mode) in HAS_HOST_LINK
        if made_for and not carrier.link.startswith(HOST_LINK_PREFIX):
            named = False  # our link by its MAC, and not our name for it: somebody has renamed it
        if not named and not self._all_have_told():
            return None
        found = [
            (pod.key, pod.uid, ifname)
            for pod in self._running_pods()
            for ifname in made_for or (names if _CONTAINER_ID.fullmatch(sandbox) else ())
            if carrier.addresses & set(pod.addresses)
            and (not named or carrier.link in _link_names(pod.key, ifname))
        ]
        return found[0] if len(found) == 1 else None

    def _all_have_told(self) -> bool:
        """Where no link has a pod's name only the address tells: none may be another's by now.

        A kubelet says late that a pod has an address, and goes on saying that an earlier one had it.
        """
        book = self._journal.book
        return all(pod.addresses or book.of_pod(pod.key) for pod in self._running_pods())

    def _attachment(self, carrier: Carrier, pod: PodKey, uid: str, ifname: str) -> AttachmentRecord | None:
        """None while cloud and metadata have not shown its addresses, or the ledger contradicts."""
        book = self._journal.book
        key, mode = AttachmentKey(carrier.container_id, ifname), NetworkMode(carrier.mode)
        ipv4 = [a for a in carrier.addresses if isinstance(a, IPv4Address)]
        ipv6 = [a for a in carrier.addresses if isinstance(a, IPv6Address)]
        records = [r for a in carrier.addresses if (r := book.addresses.get(a)) is not None]
        enis = {r.eni_id for r in records}
        told = (
            len(records) == len(carrier.addresses)
            and len(enis) == 1
            and enis <= book.enis.keys()
            and len(ipv4) < 2
            and len(ipv6) < 2
        )
        if not told or not self._may_have(key, records):
            return None
        known = book.attachments.get(key)
        if known is not None:  # the addresses are told otherwise than the attachment
            return known if carrier.addresses <= set(known.addresses()) else None
        return AttachmentRecord(
            key=key,
            pod=pod,
            uid=uid,
            netns="",
            host_link=self._name_of(carrier, pod, ifname) if mode in HAS_HOST_LINK else "",
            uplink=self._uplink(enis.pop()),
            ipv4=ipv4[0] if ipv4 else None,
            ipv6=ipv6[0] if ipv6 else None,
            state=AttachmentState.READY,
            since=self._journal.now(),
            mode=mode,
        )

    def _name_of(self, carrier: Carrier, pod: PodKey, ifname: str) -> str:
        """What it is called, or should be."""
        if carrier.link.startswith(HOST_LINK_PREFIX):
            return carrier.link
        return host_link_name(pod.namespace, pod.name, ifname)

    def _uplink(self, eni_id: EniId) -> Uplink:
        """A tag in the cloud says what an ENI is for, and so what it is to its pods."""
        own = self._journal.book.enis[eni_id].kind is EniKind.EXCLUSIVE
        return Uplink(UplinkKind.OWN_ENI if own else UplinkKind.SHARED_ENI, eni_id)

    def _may_have(self, key: AttachmentKey, records: Iterable[AddressRecord]) -> bool:
        """Nobody else owns them, or only who has no link any more; and no release of them is under way."""
        links = {c.container_id for c in self._holds.carriers}
        return all(
            r.state in _UNOWNED and (r.owner in (None, key) or r.owner.container_id not in links)
            for r in records
        )

    def _outdated(self, found: AttachmentRecord) -> list[AttachmentRecord]:
        """What an older ledger says of who else has these addresses."""
        book = self._journal.book
        owners = {owner for a in found.addresses() if (owner := book.addresses[a].owner) is not None}
        return [book.attachments[o] for o in owners - {found.key} if o in book.attachments]


def _link_names(pod: PodKey, ifname: str) -> tuple[str, str]:
    """This release's name, and upstream's, which earlier releases gave more interfaces as well."""
    return (
        host_link_name(pod.namespace, pod.name, ifname),
        host_link_name(pod.namespace, f"{pod.name}{'' if ifname == 'eth0' else ifname}", "eth0"),
    )

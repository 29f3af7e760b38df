"""ADD, DEL and CHECK of one interface of one pod: the use cases, without a word of CNI's wire format.

ADD: pod lookup -> address (now, or after a cloud call) with the intent in the ledger -> kernel objects,
verified -> ledger commits -> answer. Any failure unwinds to nothing; a cancelled ADD (the runtime hung up)
does too. DEL needs neither the namespace nor the pod nor a disk (``detach``): it is keyed on what the runtime
calls the sandbox, so the late DEL of an old sandbox finds nothing of the new one.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from control.agent.allocation.allocators import Allocators
from control.agent.allocation.broken import BrokenUplinks
from control.agent.allocation.reservation import reserve
from control.agent.cni.detach import Detachments
from control.agent.dataplane.holds import Holds
from control.agent.dataplane.ports import EndpointSettings, NodeKernel, endpoint_of, not_built, sightings
from control.agent.dataplane.shaping import Shaping
from control.agent.dataplane.shaping import told as shaping_told
from control.agent.state.faults import FaultPoint, Faults
from control.agent.state.journal import Journal
from control.ipam.allocator import (
    Allocation,
    AllocationRequest,
    Reservation,
)
from control.model.errors import (
    AddressInUse,
    Cause,
    KernelError,
    PoolExhausted,
    RequestError,
    TerwayError,
    UplinkBroken,
)
from control.model.ids import Address, AttachmentKey, PodKey
from control.model.modes import HAS_HOST_LINK, UPLINK_OF, NetworkMode, Uplink, UplinkKind
from control.model.pod import EventType, Kubernetes, Pod, may_be_fast
from control.model.records import AddressState, AttachmentRecord, AttachmentState, Ended, EniRecord
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import Applied, Carrier, Presence
from datapath.pod.names import host_link_name

log = logging.getLogger(__name__)

ADDRESS_TRIES = 3
"""Each may meet an address that the kernel shows in use and the ledger calls free; then all are known."""

_UNSHAPED = Shaping()
POD_IPS = "k8s.aliyun.com/pod-ips"
"""Annotation with the pod's addresses, comma separated, IPv4 first."""


@dataclass(frozen=True, slots=True)
class AddRequest:
    key: AttachmentKey
    pod: PodKey
    uid: str
    """What the runtime says the pod's uid is; "" if it does not say."""
    netns_path: str
    netns: int
    """Open file descriptor of the namespace; the caller closes it."""


@dataclass(frozen=True, slots=True)
class Attached:
    record: AttachmentRecord
    eni: EniRecord
    applied: Applied


def _called_off() -> bool:
    """The task that runs this has been cancelled itself."""
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


def _host_prefix(address: Address) -> str:
    return f"{address}/{address.max_prefixlen}"


class Attachments:
    def __init__(
        self,
        *,
        journal: Journal,
        allocators: Allocators,
        broken: BrokenUplinks,
        kernel: NodeKernel,
        holds: Holds,
        kubernetes: Kubernetes,
        faults: Faults,
        settings: EndpointSettings,
        dual: bool = False,
        annotate: bool = False,
        shaping: Shaping = _UNSHAPED,
        mode: NetworkMode = NetworkMode.POLICY_ROUTE,
    ) -> None:
        """``mode``: of pods that come from now on; those that are there keep theirs."""
        self._journal = journal
        self._allocators = allocators
        self._broken = broken
        self._kernel = kernel
        self._holds = holds
        self._kubernetes = kubernetes
        self._faults = faults
        self._settings = settings
        self._dual = dual
        self._annotate = annotate
        self._shaping = shaping
        self._mode = mode
        self._detachments = Detachments(
            journal=journal, kernel=kernel, holds=holds, faults=faults, settings=settings
        )
        self._adding: dict[AttachmentKey, asyncio.Task[Attached]] = {}
        self._pods_busy: set[PodKey] = set()

    @property
    def pending(self) -> int:
        return len(self._pods_busy)

    async def add(self, request: AddRequest) -> Attached:
        """Raises a TerwayError; then nothing of the request is left in ledger, kernel or memory."""
        if request.pod in self._pods_busy:
            raise RequestError(
                f"Pod {request.pod} request is processing",
                cause=Cause.BUSY,
                remedy="the runtime tries again when the first request has ended",
            )
        self._pods_busy.add(request.pod)
        task = asyncio.ensure_future(self._add(request))
        self._adding[request.key] = task
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled() and not _called_off():
                raise RequestError(
                    f"the ADD of pod {request.pod} was called off by a DEL of its sandbox {request.key}",
                    cause=Cause.BUSY,
                    remedy="nothing to do: the runtime has given the sandbox up",
                ) from None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        finally:
            self._adding.pop(request.key, None)
            self._pods_busy.discard(request.pod)

    async def _add(self, request: AddRequest) -> Attached:
        pod = await self._kubernetes.pod(request.pod, request.uid or None)
        try:
            attached = await self._attach(request, pod)
        except TerwayError as exc:
            told = f"{exc.cause}: {exc}"
            self._kubernetes.event(pod, EventType.WARNING, "AllocIPFailed", told, topic=exc.cause)
            raise
        self._announce(pod, attached.record)
        return attached

    async def _attach(self, request: AddRequest, pod: Pod) -> Attached:
        self.pay()
        known = self._journal.book.attachments.get(request.key)
        owed = request.key in self._journal.owed
        if known is not None and known.state is AttachmentState.READY and not owed:
            return self._apply(request, known, pod)
        if known is not None:
            self.finish(known)
        taken = broken = 0
        while True:
            try:
                return await self._attach_new(request, pod)
            except AddressInUse as exc:
                taken += 1
                if taken == ADDRESS_TRIES:
                    raise
                log.warning("pod %s gets another address: %s", request.pod, exc)
                self._holds.look()
            except UplinkBroken as exc:
                broken += 1  # each ENI at most twice: it may be made ready again and be tried once more
                if broken > 2 * len(self._journal.book.enis) or self._holds.running(request.key) is not None:
                    raise
                log.warning("pod %s gets an address of a sound ENI: %s", request.pod, exc)

    async def _attach_new(self, request: AddRequest, pod: Pod) -> Attached:
        """Reserve, set up, commit. A sandbox that runs without a record keeps all it has.

        Its record says so from the start: the next start takes half-done ADDs to their end.
        """
        running = self._holds.running(request.key)
        mode = self._mode if running is None else NetworkMode(running.mode)
        wanted = self._request(request, pod, mode)
        reservation: Reservation | None = None
        try:
            if running is not None:
                state, keeps = AttachmentState.READY, self._as_it_runs(running)
                reservation = reserve(self._journal, wanted, keeps, state=state)
            elif (kept := self._takes_over(pod, wanted)) is not None:
                reservation = reserve(self._journal, wanted, kept)
            else:
                reservation = await self._allocators.acquire(wanted)
            self._faults.reach(FaultPoint.ADD_RESERVED)
            attached = self._apply(request, reservation.record, pod)
            self._faults.reach(FaultPoint.ADD_APPLIED)
            self._commit(reservation)
        except BaseException as exc:  # a cancellation too
            if reservation is not None:
                if isinstance(exc, UplinkBroken):
                    self._broken.failed(reservation.record.eni_id, exc)
                self._unwind(request, reservation, made=running is None)
            raise
        self._faults.reach(FaultPoint.ADD_COMMITTED)
        if running is not None:
            self._holds.look()
        return attached

    def _request(self, request: AddRequest, pod: Pod, mode: NetworkMode) -> AllocationRequest:
        namespace, name, ifname = request.pod.namespace, request.pod.name, request.key.ifname
        second = f"{ifname}/{request.key.container_id}"
        links = (host_link_name(namespace, name, ifname), host_link_name(namespace, name, second))
        return AllocationRequest(
            key=request.key,
            pod=request.pod,
            uid=pod.uid,
            kind=UPLINK_OF[mode],
            mode=mode,
            ipv6=self._dual,
            netns=request.netns_path,
            host_links=links if mode in HAS_HOST_LINK else ("",),
        )

    def _commit(self, reservation: Reservation) -> None:
        """The sandbox is served; now, and not before, older ones of the pod end."""
        book, record = self._journal.book, reservation.record
        older = [
            a for a in book.of_pod(record.pod) if a.key.ifname == record.key.ifname and a.key != record.key
        ]
        for old in older:
            self._teardown(old, None)
        reservation.commit(replaces=older)

    def _as_it_runs(self, running: Carrier) -> Allocation:
        """The addresses of a sandbox that the ledger has lost. PoolExhausted while they are not known."""
        book = self._journal.book
        records = [r for a in running.addresses if (r := book.addresses.get(a)) is not None]
        enis = {r.eni_id for r in records}
        ipv4 = [a for a in running.addresses if isinstance(a, IPv4Address)]
        ipv6 = [a for a in running.addresses if isinstance(a, IPv6Address)]
        free = all(r.state is AddressState.FREE for r in records)
        known = free and len(records) == len(running.addresses) > 0 and len(enis) == 1
        if not known or len(ipv4) > 1 or len(ipv6) > 1:
            told = (
                ", ".join(sorted(map(str, running.addresses))) or "addresses that nothing on the node tells"
            )
            raise PoolExhausted(
                f"sandbox {running.container_id[:13]} runs by link {running.link} with {told}, "
                "which the ledger does not have on one ENI",
                cause=Cause.BUSY,
                remedy="it runs on; the ADD succeeds once cloud and metadata have shown its ENI's addresses",
            )
        uplink = Uplink(UPLINK_OF[NetworkMode(running.mode)], enis.pop())
        return Allocation(uplink, ipv4[0] if ipv4 else None, ipv6[0] if ipv6 else None)

    def _is_gone(self, old: AttachmentRecord) -> bool:
        """An ENI of a pod's own is one sandbox's at a time: another one is had while the older lives."""
        seen = sightings(self._kernel, [old], self._journal.book.enis)
        return seen[old.key].presence is Presence.GONE

    def _takes_over(self, pod: Pod, wanted: AllocationRequest) -> Allocation | None:
        """The address of this interface in this very pod's previous sandbox, if that is not deleted yet.

        One that the cloud has lost is of no use to a new sandbox, nor one of an ENI that carries no new
        pod, nor one of another kind of uplink than the node's mode has by now: it gets another.
        """
        book = self._journal.book
        for old in book.of_pod(pod.key):
            same = old.uid == pod.uid and old.key.ifname == wanted.key.ifname
            same = same and old.uplink.kind is wanted.kind
            same = same and old.state in (AttachmentState.READY, AttachmentState.LOST)
            records = [book.addresses.get(a) for a in old.addresses()]
            sound = all(r is not None and r.state is AddressState.ASSIGNED for r in records)
            sound = sound and self._broken.carries(old.eni_id)
            sound = sound and (wanted.kind is not UplinkKind.OWN_ENI or self._is_gone(old))
            if same and sound and (old.ipv6 is not None) == self._dual:
                return Allocation(old.uplink, old.ipv4, old.ipv6)
        return None

    def _apply(self, request: AddRequest, record: AttachmentRecord, pod: Pod) -> Attached:
        if why := not_built(record):
            raise KernelError(why)
        eni = self._eni_of(record)
        found = self._shaping.limits(pod)
        fast = may_be_fast(pod) and not found.any
        endpoint = endpoint_of(record, eni, self._settings, fast=fast, hooked=not found.egress)
        applied = self._kernel.setup(endpoint, request.netns)
        return Attached(record, eni, applied)

    def _unwind(self, request: AddRequest, reservation: Reservation, *, made: bool) -> None:
        """``setup`` left nothing; this covers what it could not, e.g. a cancelled call.

        ``made``: the link is the ADD's own. One that ran before it stays.
        If even this fails the intent stays, and ``Upkeep.collect`` or the pod's DEL takes it to its end.
        """
        record = reservation.record
        try:
            if made:
                self._teardown(record, request.netns)
            reservation.release()
        except TerwayError as exc:
            log.error("the failed ADD of %s (%s) could not be unwound yet: %s", record.pod, record.key, exc)
        self._allocators.kick()

    def _announce(self, pod: Pod, record: AttachmentRecord) -> None:
        addresses = [str(a) for a in record.addresses()]
        took = self._journal.now() - record.since
        self._kubernetes.event(
            pod,
            EventType.NORMAL,
            "AllocIPSucceed",
            f"Alloc IP {'-'.join(_host_prefix(a) for a in record.addresses())} took {took * 1000:.3f}ms",
        )
        found = self._shaping.limits(pod)
        if told := shaping_told(found, on_host=record.mode in HAS_HOST_LINK):
            kind = EventType.NORMAL if found.any else EventType.WARNING
            self._kubernetes.event(pod, kind, "Bandwidth", told)
        if self._annotate:
            self._kubernetes.annotate(pod, {POD_IPS: ",".join(addresses)})

    async def delete(self, key: AttachmentKey, netns: int | None) -> None:
        """Succeeds for the unknown, twice, and without a namespace. An ADD still under way is called off."""
        adding = self._adding.get(key)
        if adding is not None:
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)
        self._detachments.delete(key, netns)
        self.pay()
        self._allocators.kick()

    def pay(self) -> None:
        """Remove the rows of DELs that came while the ledger could not be written, if it can be now."""
        if self._journal.owed and self._detachments.pay():
            self._allocators.kick()

    def is_under_way(self, key: AttachmentKey) -> bool:
        """An ADD of it is being worked on."""
        return key in self._adding

    def finish(self, record: AttachmentRecord, ended: Ended = Ended.DELETED) -> None:
        """Take an unfinished, superseded or collected attachment to its end."""
        self._teardown(record, None)
        self._detachments.forget(record, ended)

    def end(self, record: AttachmentRecord) -> None:
        """As a DEL of it: the network goes now, its row when the ledger can be written."""
        self._detachments.end(record)

    def _teardown(self, record: AttachmentRecord, netns: int | None) -> None:
        self._detachments.teardown(record, netns)

    def check(self, key: AttachmentKey, netns: int | None) -> tuple[Difference, ...]:
        """What of it is not as ADD left it. Raises RequestError if there is no such attachment."""
        record = self._journal.book.attachments.get(key)
        if record is None or record.state is not AttachmentState.READY or key in self._journal.owed:
            raise RequestError(
                f"no attachment {key} on this node",
                cause=Cause.POD_UNKNOWN,
                remedy="the runtime should make the sandbox anew",
            )
        if why := not_built(record):
            return (Difference(ObjectKind.MODE, f"mode of pod {record.pod}", why),)
        return self._kernel.check(endpoint_of(record, self._eni_of(record), self._settings), netns)

    def _eni_of(self, record: AttachmentRecord) -> EniRecord:
        """Raises KernelError."""
        eni = self._journal.book.enis.get(record.eni_id)
        if eni is None:
            raise KernelError(
                f"the ENI {record.eni_id} of {record.pod} is gone",
                remedy="delete the pod: the next one gets an address of another ENI",
            )
        return eni

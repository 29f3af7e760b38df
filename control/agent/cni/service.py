"""CNI's commands in terms of the use cases: a frame of the executable in, exit code and stdout out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_interface

from cni import conf as cni_conf
from cni import request as cni_request
from cni import result as cni_result
from cni.conf import Attachment
from cni.errors import CniError, Code, failure
from cni.request import Command, Request
from cni.result import Interface, Ip
from cni.wire import Frame
from control.agent.cni.attach import AddRequest, Attached, Attachments
from control.agent.dataplane.holds import Holds
from control.agent.dataplane.ports import NodeKernel, sightings
from control.agent.state.journal import Journal
from control.model.errors import TerwayError
from control.model.ids import AttachmentKey, PodKey
from control.model.records import AttachmentRecord, AttachmentState
from datapath import namespace
from datapath.endpoint import AppliedVeth, Presence, Sighting
from datapath.errors import KernelError
from datapath.namespace import Identity

log = logging.getLogger(__name__)

Observer = Callable[[str, str, float], None]
"""Command, "" or the error's cause, seconds."""


def _nothing(_command: str, _error: str, _seconds: float) -> None:
    pass


class CniService:
    """``mtu`` in bytes, as the result reports it in version 1.1.0."""

    def __init__(
        self, *, attachments: Attachments, journal: Journal, kernel: NodeKernel, holds: Holds, mtu: int
    ) -> None:
        self._attachments = attachments
        self._holds = holds
        self._journal = journal
        self._kernel = kernel
        self._mtu = mtu
        self.observe: Observer = _nothing
        self._warned: set[str] = set()

    async def handle(self, frame: Frame, netns: int | None) -> tuple[int, bytes]:
        command, started, error = frame.env.get("CNI_COMMAND", ""), time.monotonic(), ""
        try:
            request = cni_request.parse(frame)
            self._warn(request.conf.warnings)
            return 0, await self._dispatch(request, netns)
        except CniError as exc:
            error, answer = exc.msg, exc
        except TerwayError as exc:
            error, answer = str(exc.cause), failure(exc.cause, str(exc))
        except Exception as exc:  # the last resort: the runtime is owed an answer whatever happens
            log.exception("%s failed in a way nobody foresaw", command)
            error, answer = "Unforeseen", _unforeseen(exc)
        finally:
            self.observe(command, error, time.monotonic() - started)
        log.warning("%s %s failed: %s", command, frame.env.get("CNI_ARGS", ""), answer)
        return 1, answer.encode(cni_conf.named_version(frame.stdin))

    async def _dispatch(self, request: Request, netns: int | None) -> bytes:
        match request.command:
            case Command.ADD:
                return await self._add(request, netns)
            case Command.DEL:
                await self._attachments.delete(_key(request), netns)
            case Command.CHECK:
                self._check(request, netns)
            case Command.GC:
                self._collect(request.conf.valid_attachments)
            case Command.STATUS:
                self._status()
        return b""

    def _status(self) -> None:
        """Whether an ADD could succeed, as far as the node alone can tell."""
        if self._journal.trouble is not None:
            raise CniError(Code.NOT_READY, "the node's ledger cannot be written", str(self._journal.trouble))

    def _warn(self, warnings: tuple[str, ...]) -> None:
        """Each warning of the runtime's configuration once: it comes with every request."""
        for warning in warnings:
            if warning not in self._warned and len(self._warned) < 100:
                self._warned.add(warning)
                log.warning("network configuration: %s", warning)

    async def _add(self, request: Request, netns: int | None) -> bytes:
        cni_request.require_pod(request)
        fd = _require_netns(request, netns)
        before = _previous(request)
        attached = await self._attachments.add(
            AddRequest(
                key=_key(request),
                pod=PodKey(request.args.namespace, request.args.name),
                uid=request.args.uid,
                netns_path=request.netns,
                netns=fd,
            )
        )
        ours = self._result(request, attached)
        result = ours if before is None else cni_result.merge(before, ours)
        return cni_result.encode(result, request.conf.cni_version)

    def _result(self, request: Request, attached: Attached) -> cni_result.Result:
        record, eni, applied = attached.record, attached.eni, attached.applied
        pod = Interface(request.ifname, applied.pod_mac, request.netns, self._mtu)
        host = None
        if isinstance(applied, AppliedVeth):
            host = Interface(record.host_link, applied.host_mac, mtu=self._mtu)
        ips = []
        if record.ipv4 is not None and eni.cidr is not None:
            ips.append(Ip(ip_interface(f"{record.ipv4}/{eni.cidr.prefixlen}"), eni.gateway))
        if record.ipv6 is not None and eni.cidr_v6 is not None:
            ips.append(Ip(ip_interface(f"{record.ipv6}/{eni.cidr_v6.prefixlen}"), eni.gateway_v6))
        return cni_result.of_pod(pod, host, tuple(ips))

    def _check(self, request: Request, netns: int | None) -> None:
        fd = _require_netns(request, netns)
        differences = self._attachments.check(_key(request), fd)
        if differences:
            told = "; ".join(f"{d.what}: {d.found}" for d in differences)
            raise CniError(Code.DATAPATH, "the pod's network is not as ADD left it", told)

    def _collect(self, valid: tuple[Attachment, ...] | None) -> None:
        """Free what the runtime no longer lists and the kernel no longer has: two witnesses.

        No list means that nothing is known. A list speaks for one runtime, so a live link keeps its address.
        """
        if valid is None:
            return
        listed = {AttachmentKey(a.container_id, a.ifname) for a in valid}
        book = self._journal.book
        unlisted = [a for a in book.attachments.values() if a.key not in listed]
        failed: list[TerwayError] = []
        for record, sighting in zip(unlisted, self._sight(unlisted), strict=True):
            if record.state is AttachmentState.ADDING:
                continue
            if sighting.presence is Presence.GONE:
                failed += self._free(record)
            elif sighting.presence is Presence.UNKNOWN:
                log.warning("GC: %s (%s) is not listed and stays: %s", record.pod, record.key, sighting.why)
        failed += self._holds.collect(listed)
        if failed:  # the runtime is told once all the others are freed, and asks again
            raise failed[0]

    def _free(self, record: AttachmentRecord) -> list[TerwayError]:
        """What it failed with, if it did: no reason to keep the others."""
        try:
            self._attachments.end(record)
        except TerwayError as exc:
            log.warning("GC: %s (%s) could not be freed: %s", record.pod, record.key, exc)
            return [exc]
        log.warning("GC: %s (%s) is neither listed nor in the kernel: freed", record.pod, record.key)
        return []

    def _sight(self, records: Sequence[AttachmentRecord]) -> list[Sighting]:
        found = sightings(self._kernel, records, self._journal.book.enis)
        return [found[record.key] for record in records]


def _unforeseen(exc: Exception) -> CniError:
    details = f"{exc!r}; the runtime tries again; if it repeats, report it with terwayd's log"
    return CniError(Code.TRY_AGAIN, "terwayd failed in a way nobody foresaw", details)


def _previous(request: Request) -> cni_result.Result | None:
    """Read before anything is set up: a result of no known shape must not fail a pod that exists."""
    if request.conf.prev_result is None:
        return None
    return cni_result.parse(request.conf.prev_result, request.conf.cni_version)


def _key(request: Request) -> AttachmentKey:
    return AttachmentKey(request.container_id, request.ifname)


def _require_netns(request: Request, netns: int | None) -> int:
    """The descriptor, if it is a pod's network namespace. Raises CniError NETNS."""
    problem = request.netns_error()
    if problem is not None:
        raise problem
    if netns is None:
        raise CniError(Code.NETNS, "failed to open netns", f"CNI_NETNS {request.netns}: no descriptor came")
    home = namespace.own()
    try:
        ours = namespace.identity(home)
    finally:
        os.close(home)
    if not _is_namespace(netns, ours):
        raise CniError(
            Code.NETNS,
            "CNI_NETNS is not a network namespace",
            f"{request.netns} is another kind of file; the runtime must give the pod's namespace",
        )
    if namespace.identity(netns) == ours and not request.netns_override:
        raise CniError(
            Code.NETNS,
            "CNI_NETNS is the node's own network namespace",
            f"{request.netns}: a pod needs one of its own; CNI_NETNS_OVERRIDE=true if it is meant so",
        )
    return netns


def _is_namespace(fd: int, ours: Identity) -> bool:
    """All namespaces are files of one filesystem; only such a file is opened again, to ask for its kind."""
    if namespace.identity(fd).device != ours.device:
        return False
    try:
        os.close(namespace.open_path(f"/proc/self/fd/{fd}"))
    except KernelError:
        return False
    return True

"""The fast path as plain JSON values, for ``bpf_window``. Raises the datapath's KernelError."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from control.model.errors import RequestError
from datapath.acceleration import inspection
from datapath.acceleration.bpf_call import ProgramInfo
from datapath.acceleration.flows import Refusals
from datapath.acceleration.inspection import Attachment, Inspection
from datapath.acceleration.path import FastPath
from datapath.acceleration.reasons import ReasonText, class_of, reasons
from datapath.acceleration.tables import EndpointCounts
from datapath.acceleration.trace import TraceEvent
from datapath.acceleration.trace_readers import TraceReader

log = logging.getLogger(__name__)

Row = dict[str, Any]


def maps(fast: FastPath) -> list[Row]:
    return [
        {
            "name": found.name,
            "id": found.id,
            "type": found.kind,
            "pin": str(found.path),
            "key_bytes": found.key_size,
            "value_bytes": found.value_size,
            "entries": found.entries,
            "max_entries": found.max_entries,
            "memory_bytes": found.memory,
        }
        for found in _inspection(fast).maps()
    ]


def rows(fast: FastPath, name: str) -> list[Row]:
    """All of a map, each ``key`` and ``value`` as ``datapath.acceleration.human`` writes them."""
    found = _inspection(fast)
    kinds = found.kinds()
    if name not in kinds:
        raise RequestError(f"no map {name!r}", remedy=f"there are: {', '.join(kinds)}")
    if kinds[name] == "ringbuf":
        raise RequestError(f"{name} is a ring buffer and has no rows", remedy="see terway-cli trace")
    return [{"key": row.key, "value": row.value} for row in found.rows(name)]


def programs(fast: FastPath, netns: int | None) -> list[Row]:
    """Those of this process, and whatever else of ours is still attached somewhere."""
    found = _inspection(fast, netns)
    attached, devices, counted = found.attachments(), found.devices(), inspection.run_statistics()
    pinned = found.programs()
    strays = {one.program_id for one in attached} - {one.id for one in pinned}
    return [
        {**_program(one, counted), "attached": [_at(a, devices) for a in attached if a.program_id == one.id]}
        for one in (*pinned, *map(found.program, sorted(strays)))
    ]


def counters(fast: FastPath) -> list[Row]:
    """By hook and reason; reasons that never came are left out."""
    told = _reasons()
    return [
        {
            "hook": hook,
            "reason": reason,
            "class": class_of(reason).value,
            "packets": packets,
            "text": told[reason].text if reason in told else "",
        }
        for hook, counts in fast.counters().items()
        for reason, packets in counts.items()
    ]


def endpoints(fast: FastPath) -> list[Row]:
    """By host veth, with its counts. ``fast``: packets may pass by the stack now; ``why`` not, in a word."""
    on, attached = fast.is_on(), fast.attached()
    counts, nothing = fast.endpoint_counters(), EndpointCounts(0, 0, 0, 0, 0, 0)
    refused = fast.refusals()
    return [
        {
            "addresses": [str(one) for one in pod.addresses],
            "ifindex": ifindex,
            "fast": on and pod.fast and ifindex in attached,
            "why": _why_stack(on, pod.fast, ifindex in attached),
            **{name: getattr(counts.get(ifindex, nothing), name) for name in nothing.__slots__},
            "flows_refused": _packets(refused.get(ifindex)),
        }
        for ifindex, pod in fast.endpoints().items()
    ]


def _why_stack(on: bool, pod: bool, attached: bool) -> str:
    """One word for what keeps a pod's packets with the stack, "" for nothing."""
    return "node off" if not on else "pod off" if not pod else "" if attached else "not attached"


def _packets(refused: Refusals | None) -> int:
    return 0 if refused is None else refused.share + refused.full


class TraceLines:
    """Implements ``http_server.Stream``. A line with ``note`` instead of an event says what is missing."""

    def __init__(self, reader: TraceReader, fast: FastPath, netns: int | None) -> None:
        self._reader = reader
        self._inspection = _inspection(fast, netns)
        self._devices: dict[int, str] = {}
        self._ahead = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        """From the kernel's time of an event to seconds since the epoch."""

    def __iter__(self) -> Iterator[list[Any]]:
        while not self._reader.ended:
            events = self._reader.read()
            lines: list[Any] = [self._line(event) for event in events]
            missed = self._reader.missed()
            yield [*lines, {"note": f"not told: {missed}"}] if missed else lines

    def close(self) -> None:
        self._reader.close()

    def _line(self, event: TraceEvent) -> dict[str, Any]:
        return {
            "time": round(event.time + self._ahead, 6),
            "hook": event.hook,
            "verdict": event.verdict,
            "reason": event.reason,
            "source": "" if event.source is None else str(event.source),
            "destination": "" if event.destination is None else str(event.destination),
            "protocol": event.protocol,
            "source_port": event.source_port,
            "destination_port": event.destination_port,
            "length": event.length,
            "device": self._device(event.ifindex),
            "target": self._device(event.target) if event.target else "",
        }

    def _device(self, ifindex: int) -> str:
        if ifindex not in self._devices:
            self._devices = {ifindex: f"device {ifindex}", **self._inspection.devices()}
        return self._devices[ifindex]


def _inspection(fast: FastPath, netns: int | None = None) -> Inspection:
    return Inspection(fast.directory, fast.names, netns)


def _reasons() -> dict[str, ReasonText]:
    """{} where the header cannot be read: the counts are worth more than the words about them."""
    try:
        return {one.name: one for one in reasons()}
    except OSError as exc:
        log.warning("what the reasons mean is not told: %s", exc)
        return {}


def _program(found: ProgramInfo, counted: bool) -> dict[str, Any]:
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    ran = counted or bool(found.runs)
    return {
        "name": found.name,
        "id": found.id,
        "tag": found.tag,
        "loaded": round(boot + found.loaded, 3),
        "verified_instructions": found.verified,
        "jited_bytes": found.jited_bytes,
        "runs": found.runs if ran else None,
        "run_ns": found.run_ns if ran else None,
    }


def _at(found: Attachment, devices: dict[int, str]) -> dict[str, Any]:
    return {
        "device": devices.get(found.ifindex, ""),
        "ifindex": found.ifindex,
        "side": found.side.name.lower(),
        "how": found.how,
    }

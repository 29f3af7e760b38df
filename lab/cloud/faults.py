"""Faults on demand, beside the errors that arise from state: for the OpenAPI and for the metadata service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Generic, TypeVar

from lab.clock import check_seconds

ANY = "*"

Answer = dict[str, object]


class Drop(StrEnum):
    """The connection ends without an answer, before or after the call had its effect."""

    NO = ""
    BEFORE = "before"
    AFTER = "after"


class Distortion(StrEnum):
    """The call had its effect, and its answer does not tell it. A repeated token gets the same answer."""

    NO = ""
    EMPTY = "empty"
    """It names nothing."""
    FEWER = "fewer"
    """It names the first address only."""
    ANOTHER = "another"
    """It names an ENI, or addresses, of somebody else."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with calls of ``action`` (ANY for all), narrowed to an instance or an ENI if given.

    ``instance_id`` matches the call's InstanceId, the instance of its ENI, or the instance that calls.
    """

    action: str = ANY
    instance_id: str = ""
    eni_id: str = ""
    code: str = ""
    """Answer this error code, with ``status`` and ``message``, and do nothing."""
    status: int = 400
    message: str = "A fault of the lab."
    latency: float = 0.0
    """Seconds of real time from the call to its effect."""
    drop: Drop = Drop.NO
    distortion: Distortion = Distortion.NO
    partial: int | None = None
    """An assignment by count gives at most this many addresses."""
    count: int | None = None
    """How often this happens; None is until it is cleared."""

    def __post_init__(self) -> None:
        """Raises ValueError for a fault that cannot happen."""
        check_seconds("latency", self.latency)
        _check("status", self.status, 100, 599)
        _check("count", self.count, 1, _MANY)
        _check("partial", self.partial, 0, _MANY)


@dataclass(frozen=True, slots=True)
class MetadataFault:
    """What goes wrong with metadata paths that start with ``path`` (below /latest/), on one instance or all.

    ``status`` 0 answers as usual, after ``latency`` seconds of real time.
    """

    path: str = ""
    instance_id: str = ""
    status: int = 0
    latency: float = 0.0
    count: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a fault that cannot happen."""
        check_seconds("latency", self.latency)
        _check("status", self.status or None, 100, 599)
        _check("count", self.count, 1, _MANY)


_MANY = 1_000_000


def _check(what: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise ValueError(f"{what}={value} is not from {least} to {most}")


F = TypeVar("F", Fault, MetadataFault)


@dataclass(slots=True)
class _Armed(Generic[F]):
    fault: F
    left: int | None


@dataclass(slots=True)
class Faults(Generic[F]):
    """Armed faults, each with a number to remove it by. Thread-safe."""

    _armed: dict[int, _Armed[F]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: int = 0

    def add(self, fault: F) -> int:
        with self._lock:
            self._last += 1
            self._armed[self._last] = _Armed(fault, fault.count)
            return self._last

    def remove(self, number: int) -> None:
        """Nothing happens if it is gone."""
        with self._lock:
            self._armed.pop(number, None)

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def listing(self) -> dict[int, F]:
        with self._lock:
            return {number: armed.fault for number, armed in self._armed.items()}

    def take(self, matches: Callable[[F], bool]) -> list[F]:
        """Those that happen now, oldest first; each is one time fewer left."""
        taken: list[F] = []
        with self._lock:
            for number, armed in list(self._armed.items()):
                if not matches(armed.fault):
                    continue
                taken.append(armed.fault)
                if armed.left is not None:
                    armed.left -= 1
                    if armed.left <= 0:
                        del self._armed[number]
        return taken


def distorted(answer: Answer, how: Distortion) -> Answer:
    """``answer`` of a write with everything that it names left out, cut down, or somebody else's."""
    if how == Distortion.EMPTY:
        return {}
    return {name: _distorted(value, how) for name, value in answer.items()} if how else answer


def _distorted(value: object, how: Distortion) -> object:
    if isinstance(value, dict):
        return {name: _distorted(one, how) for name, one in value.items()}
    if isinstance(value, list):
        kept = value[:1] if how == Distortion.FEWER else value
        return [_distorted(one, how) for one in kept]
    if how != Distortion.ANOTHER or not isinstance(value, str):
        return value
    if value.startswith("eni-"):
        return "eni-of-somebody-else"
    try:
        return str(_SOMEBODYS[ip_address(value).version])
    except ValueError:
        return value


_SOMEBODYS = {4: IPv4Address("10.99.99.99"), 6: IPv6Address("2001:db8:99::99")}


def applies(fault: Fault, action: str, *, instances: Collection[str], eni_id: str) -> bool:
    """True if ``fault`` concerns a call of ``action`` that has to do with these instances and this ENI."""
    return (
        fault.action in (ANY, action)
        and (not fault.instance_id or fault.instance_id in instances)
        and (not fault.eni_id or fault.eni_id == eni_id)
    )

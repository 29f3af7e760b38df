"""What has just been refused is not asked for again at once: what waits, until when, and why."""

from __future__ import annotations

from dataclasses import dataclass

from control.model.errors import Cause, TerwayError

FIRST = 5.0
"""Seconds after a first refusal. Doubles up to ``MOST`` while the same thing keeps being refused."""
MOST = 30.0
"""Somebody mends the cause and watches the pod: with the kubelet's 10 to 15 s on top it starts within a
minute. A call every half minute, and only while a pod waits, is nothing of any API's quota."""

CREATION = "creation of an ENI"
EVERYTHING = "every call"
"""The cloud does not answer, or does not know us: what another ENI is asked for would fail as well."""


@dataclass(frozen=True, slots=True)
class Block:
    until: float
    seconds: float
    error: TerwayError


class Blocks:
    """By name: an ENI id, a vSwitch id, ``CREATION`` or ``EVERYTHING``."""

    def __init__(self) -> None:
        self._blocks: dict[str, Block] = {}

    def add(self, name: str, error: TerwayError, now: float) -> None:
        self._forget_old(now)
        old = self._blocks.get(name)
        again = old is not None and old.error.cause is error.cause
        seconds = min(old.seconds * 2, MOST) if again and old else FIRST
        if error.retry_after is not None:
            seconds = max(error.retry_after, 0.1)
        elif error.cause is Cause.CONFLICT:
            seconds = 1.0
        self._blocks.pop(name, None)
        self._blocks[name] = Block(now + seconds, seconds, error)

    def _forget_old(self, now: float) -> None:
        """What was not refused again for a while after its block was over counts as never refused."""
        for name in [n for n, b in self._blocks.items() if b.until + MOST < now]:
            del self._blocks[name]

    def clear(self, name: str) -> None:
        self._blocks.pop(name, None)

    def active(self, name: str, now: float) -> Block | None:
        block = self._blocks.get(name)
        return block if block is not None and block.until > now else None

    def latest(self, now: float) -> Block | None:
        """The refusal that came last: the one a waiting pod was told no by."""
        return next((b for b in reversed(self._blocks.values()) if b.until > now), None)

    def all(self, now: float) -> dict[str, Block]:
        return {n: b for n, b in self._blocks.items() if b.until > now}

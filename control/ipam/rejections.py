"""What has just been refused is not asked for again at once: one table of scope, until when, how many, and
why. Pure.

Two things are learned from a rejection, and either may be had without the other:

* *Hold-off*: nothing of the scope is asked for before ``until``. It doubles up to ``MAX_HOLD_OFF`` while
  the same thing is refused again and again.
* *Batch limit*: a call asks for idle addresses along with the pod's own, and the cloud gives all of them or
  none: a vSwitch with three free addresses refuses a call for six. After such a refusal one address is
  asked for, of what was short and of nothing else, and twice as many after each call that was answered.
  Only a refused call for one means that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from control.ipam.sizing import BATCH
from control.model.errors import Cause, TerwayError
from control.model.ids import EniId, VSwitchId

FIRST_HOLD_OFF = 5.0
"""Seconds after a first rejection. Doubles up to ``MAX_HOLD_OFF`` while the same keeps being refused."""
MAX_HOLD_OFF = 30.0
"""Somebody mends the cause and watches the pod: with the kubelet's 10 to 15 s on top it starts within a
minute. A call every half minute, and only while a pod waits, is nothing of any API's quota."""
BATCH_LIMIT_LASTS = 60.0
"""Seconds from the last refusal of a number after which as many as ever are asked for again."""
MAX_REJECTIONS = 256
"""A node has fewer ENIs and vSwitches than that; beyond it the oldest rejection is forgotten."""

NEVER = float("-inf")


class ScopeKind(StrEnum):
    """What a rejection is about. The words stand in ``terway-cli show factory eni``."""

    ENI = "ENI"
    """Calls that add addresses to one ENI."""
    VSWITCH = "vSwitch"
    """Calls for any ENI in it, and new ENIs of it."""
    SECURITY_GROUP = "the security group"
    """Its size counts the addresses of all its ENIs. It has a batch limit and no hold-off."""
    CREATION = "creation of an ENI"
    EVERYTHING = "every call"
    """The cloud does not answer, or does not know us: what another ENI is asked for would fail as well."""
    RELEASE = "release of"
    """Giving back has its own hold-offs: a full vSwitch does not stop it, nor its failure an assignment."""
    UPLINK = "pods on ENI"
    """The kernel, not the cloud: packets of a pod on the ENI were proven to go elsewhere."""


@dataclass(frozen=True, slots=True)
class Scope:
    """``id`` is the cloud's name of the one ENI or vSwitch, "" where there is only one of the kind."""

    kind: ScopeKind
    id: str = ""

    def __str__(self) -> str:
        """As operators read it: an ENI and a vSwitch tell by their ids what they are."""
        if self.kind in (ScopeKind.ENI, ScopeKind.VSWITCH):
            return self.id
        return f"{self.kind} {self.id}".rstrip()


CREATION, EVERYTHING = Scope(ScopeKind.CREATION), Scope(ScopeKind.EVERYTHING)
SECURITY_GROUP = Scope(ScopeKind.SECURITY_GROUP)


def of_eni(eni_id: EniId) -> Scope:
    return Scope(ScopeKind.ENI, eni_id)


def of_vswitch(vswitch_id: VSwitchId) -> Scope:
    return Scope(ScopeKind.VSWITCH, vswitch_id)


def of_uplink(eni_id: EniId) -> Scope:
    return Scope(ScopeKind.UPLINK, eni_id)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Times are the clock's seconds."""

    error: TerwayError
    """The last one: cause, the cloud's words and what to do."""
    until: float = NEVER
    """Nothing of the scope is asked for before."""
    seconds: float = 0.0
    """How long the hold-off was, which the next one doubles. 0: there was none since the last success."""
    batch_limit: int = BATCH
    """Addresses that one call may ask for, until ``limited_until``."""
    limited_until: float = NEVER

    def holds_off(self, now: float) -> bool:
        return self.until > now

    def limits(self, now: float) -> bool:
        return self.limited_until > now


class Rejections:
    """Scope to its last rejection, the latest at the end. ``now`` is the caller's clock in every verb."""

    def __init__(self) -> None:
        self._rejections: dict[Scope, Rejection] = {}

    def hold_off(self, scope: Scope, error: TerwayError, now: float) -> Rejection:
        """``scope`` was refused with ``error``: leave it alone, and longer if it is the same again."""
        self._forget_old(now)
        old = self._rejections.get(scope)
        again = old is not None and old.seconds > 0 and old.error.cause is error.cause
        seconds = min(old.seconds * 2, MAX_HOLD_OFF) if again and old else FIRST_HOLD_OFF
        if error.retry_after is not None:
            seconds = max(error.retry_after, 0.1)
        elif error.cause is Cause.CONFLICT:
            seconds = 1.0
        new = Rejection(error, now + seconds, seconds)
        if old is not None:
            new = replace(new, batch_limit=old.batch_limit, limited_until=old.limited_until)
        self._put(scope, new)
        return new

    def clear(self, scope: Scope) -> None:
        """A call of it was answered: no hold-off, and the next one begins anew. Its batch limit stays."""
        old = self._rejections.get(scope)
        if old is None:
            return
        if old.batch_limit >= BATCH:
            del self._rejections[scope]
        else:
            self._rejections[scope] = replace(old, until=NEVER, seconds=0.0)

    def limit_batch(self, scope: Scope, error: TerwayError, now: float) -> None:
        """A call for several was refused for their number: the next one asks for one."""
        self._forget_old(now)
        old = self._rejections.get(scope)
        until = now + BATCH_LIMIT_LASTS
        if old is not None and old.holds_off(now):  # what the hold-off is for stays said
            self._rejections[scope] = replace(old, batch_limit=1, limited_until=until)
        else:
            seconds = 0.0 if old is None else old.seconds
            self._put(scope, Rejection(error, seconds=seconds, batch_limit=1, limited_until=until))

    def batch_answered(self, scope: Scope, asked: int) -> None:
        """A call for ``asked`` addresses was answered: twice as many as the limit may be asked for next."""
        old = self._rejections.get(scope)
        if old is not None and old.batch_limit < BATCH and asked >= old.batch_limit:
            self._rejections[scope] = replace(old, batch_limit=min(2 * old.batch_limit, BATCH))

    def held_off(self, now: float, *scopes: Scope) -> bool:
        return any(self.active(scope, now) is not None for scope in scopes)

    def active(self, scope: Scope, now: float) -> Rejection | None:
        rejection = self._rejections.get(scope)
        return rejection if rejection is not None and rejection.holds_off(now) else None

    def batch_limit(self, now: float, *scopes: Scope) -> int:
        """Addresses that one call may ask for that all of ``scopes`` have a part in; ``BATCH`` at most."""
        found = (self._rejections.get(scope) for scope in scopes)
        return min((r.batch_limit for r in found if r is not None and r.limits(now)), default=BATCH)

    def limited(self, now: float, kind: ScopeKind) -> frozenset[str]:
        """Ids of ``kind`` that have a batch limit now."""
        return frozenset(scope.id for scope in self.batch_limits(now) if scope.kind is kind)

    def of_kind(self, kind: ScopeKind, now: float) -> dict[str, TerwayError]:
        """By id, what is held off now, the latest at the end."""
        return {scope.id: r.error for scope, r in self.all(now).items() if scope.kind is kind}

    def latest(self, now: float) -> Rejection | None:
        """The one that a waiting pod was told no by: the cloud's last, else the kernel's."""
        waiting = [(s, r) for s, r in self.all(now).items() if s.kind is not ScopeKind.RELEASE]
        cloud = [r for s, r in waiting if s.kind is not ScopeKind.UPLINK]
        return next(reversed(cloud or [r for _, r in waiting]), None)

    def all(self, now: float) -> dict[Scope, Rejection]:
        """Whatever is held off now, the latest at the end."""
        return dict(self._active(now))

    def batch_limits(self, now: float) -> dict[Scope, Rejection]:
        """Whatever may be asked for fewer than ``BATCH`` addresses by one call now."""
        return {s: r for s, r in self._rejections.items() if r.limits(now) and r.batch_limit < BATCH}

    def __len__(self) -> int:
        return len(self._rejections)

    def _active(self, now: float) -> Iterator[tuple[Scope, Rejection]]:
        return ((scope, r) for scope, r in self._rejections.items() if r.holds_off(now))

    def _put(self, scope: Scope, rejection: Rejection) -> None:
        self._rejections.pop(scope, None)
        self._rejections[scope] = rejection
        while len(self._rejections) > MAX_REJECTIONS:
            del self._rejections[next(iter(self._rejections))]

    def _forget_old(self, now: float) -> None:
        """What was not refused again for a while after its hold-off counts as never refused."""
        for scope, r in list(self._rejections.items()):
            if r.until + MAX_HOLD_OFF < now and not r.limits(now):
                del self._rejections[scope]

"""Carries out the operations of the ledger: begins them, takes them up again, settles those that stay
unanswered.

What an operation's end teaches goes into the table of rejections. What was begun and has an unknown outcome
goes before anything new: asked again with its own token it brings what a new call would bring, and a new
call beside it would bring it twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

from control.agent.allocation.operations import CloudWork, NotShown
from control.agent.allocation.settling import Settling
from control.agent.allocation.vswitches import VSwitches
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.ipam.batches import batch_answered, batch_rejected
from control.ipam.rejections import (
    CREATION,
    EVERYTHING,
    Rejections,
    Scope,
    ScopeKind,
    of_eni,
    of_vswitch,
)
from control.ipam.statistics import GROWS
from control.model.errors import Cause, CloudError, TerwayError
from control.model.ids import ClientToken, EniId, VSwitchId
from control.model.records import EniRecord, Operation, OperationKind
from control.process.called_off import called_off

log = logging.getLogger(__name__)

RESUME_AFTER = 0.5
"""Seconds after its hold-off until an operation whose outcome is unknown is taken up again."""
TRIES = 4
"""Attempts whose outcome stayed unknown, after which the operation is settled by what there is."""
OPERATION_LIFE = 900.0
"""Seconds after which one more such attempt is enough, as a restart forgets the others."""
TOKEN_LIFE = 20 * 3600.0
"""Seconds after which nothing is asked for with its token again: the cloud remembers a ClientToken for 24
hours, and what it has forgotten would have a second effect."""

_OF_EVERY_CALL = frozenset(
    {Cause.UNREACHABLE, Cause.TIMEOUT, Cause.CREDENTIALS, Cause.CREDENTIALS_EXPIRED, Cause.METADATA}
)


def concerns_all(exc: TerwayError) -> bool:
    """Whoever is away now is away for every other call as well."""
    return exc.cause in _OF_EVERY_CALL and not isinstance(exc, NotShown)


def _ignore(_error: TerwayError) -> None:
    pass


def _nothing() -> None:
    pass


def _no() -> bool:
    return False


class OperationRunner:
    """Shared by the allocators of a node.

    ``on_end`` are called after each operation: there may be more to hand out, or more to ask for.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        work: CloudWork,
        settling: Settling,
        vswitches: VSwitches,
        rejections: Rejections,
    ) -> None:
        self._journal = journal
        self._work = work
        self._settling = settling
        self._vswitches = vswitches
        self._rejections = rejections
        self._running: dict[ClientToken, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tries: dict[ClientToken, int] = {}
        self.closed = False
        self.on_hold = False
        """Allocators begin nothing new: it is being looked at what there is."""
        self.pods_unlisted: Callable[[], bool] = _no
        """No address is known to be free: allocators hand out, ask for and give back none."""
        self.on_end: list[Callable[[], None]] = []
        self.on_failure: Callable[[TerwayError], None] = _ignore
        self.on_success: Callable[[], None] = _nothing

    @property
    def running(self) -> Collection[Operation]:
        """Those that somebody works on now, as they were begun."""
        return self._running.values()

    def unfinished(self) -> Collection[Operation]:
        """Worked on or waiting in the ledger, each as the ledger has it: the cloud may have named its ENI."""
        every = (*self._running.values(), *self._journal.book.operations.values())
        return {operation.token: operation for operation in every}.values()

    def busy_enis(self) -> set[EniId]:
        """ENIs that an operation is about."""
        return {o.eni_id for o in self.unfinished() if o.eni_id is not None}

    def begin(self, operation: Operation) -> None:
        """A new one that asks for more. It is in the ledger before the cloud hears of it."""
        self._start(operation, self._prepare)

    def carry_out(self, operation: Operation) -> None:
        """One whose intent is in the ledger."""
        self._start(operation, None)

    def resume(self) -> None:
        """Take up every operation of the ledger that nobody is working on: after a start, or a failure."""
        now = self._journal.now()
        for operation in list(self._journal.book.operations.values()):
            waits = self._rejections.held_off(now, _scope(operation))
            if operation.token not in self._running and not waits:
                log.info("resuming %s %s", operation.kind, operation.eni_id or operation.token)
                self.carry_out(operation)

    def changed(self) -> None:
        """Let every allocator look again."""
        for call in self.on_end:
            call()

    async def close(self) -> None:
        """Stop working. What was under way stays in the ledger as an intent."""
        self.closed = True
        await called_off(*self._tasks)

    def _start(
        self, operation: Operation, prepare: Callable[[Operation], Awaitable[Operation]] | None
    ) -> None:
        self._running[operation.token] = operation
        task = asyncio.create_task(self._run(operation, prepare), name=f"{operation.kind}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(
        self, operation: Operation, prepare: Callable[[Operation], Awaitable[Operation]] | None
    ) -> None:
        try:
            if prepare is not None:
                operation = await prepare(operation)
            if self._stays_unknown(operation):
                await self._settling.settle(operation)
            else:
                await self._work.run(operation, resumed=prepare is None)
            self._answered(operation)
        except TerwayError as exc:
            self._failed(operation, exc)
        except asyncio.CancelledError:
            self.closed = True  # only the daemon's end cancels: begin nothing any more
            raise
        except Exception as exc:  # the last resort: without a hold-off it would be resumed at once, for ever
            log.exception("%s failed in a way nobody foresaw", operation.kind)
            self._failed(operation, _unforeseen(operation, exc))
        finally:
            self._running.pop(operation.token, None)
            if operation.token not in self._journal.book.operations:
                self._tries.pop(operation.token, None)
            self.changed()

    async def _prepare(self, operation: Operation) -> Operation:
        """Put the intent into the ledger; for a new ENI choose its vSwitch first.

        Raises MetadataError before anything is made that could not be used.
        """
        await self._work.witnesses.metadata_answers()
        if operation.kind is OperationKind.CREATE_ENI:
            operation = await self._with_vswitch(operation)
            self._running[operation.token] = operation
        self._journal.record(transitions.begin_operation(operation))
        return operation

    async def _with_vswitch(self, operation: Operation) -> Operation:
        """One that has refused nothing, else one that may still have an address: it is asked for no more."""
        now, table = self._journal.now(), self._rejections
        refused = {VSwitchId(i): e for i, e in table.of_kind(ScopeKind.VSWITCH, now).items()}
        chosen = await self._vswitches.choose(refused, last=table.limited(now, ScopeKind.VSWITCH))
        most = table.batch_limit(self._journal.now(), of_vswitch(chosen))
        ipv4, ipv6 = min(operation.ipv4_count, most), min(operation.ipv6_count, most)
        return replace(operation, vswitch_id=chosen, ipv4_count=ipv4, ipv6_count=ipv6)

    def _stays_unknown(self, operation: Operation) -> bool:
        tries, age = self._tries.get(operation.token, 0), self._journal.now() - operation.since
        forgotten = operation.kind in GROWS and age > TOKEN_LIFE
        return forgotten or tries >= TRIES or (tries > 0 and age > OPERATION_LIFE)

    def _answered(self, operation: Operation) -> None:
        self._rejections.clear(_scope(operation))
        self._rejections.clear(EVERYTHING)
        if operation.kind in GROWS:
            batch_answered(self._rejections, operation, self._eni_of(operation))
        self.on_success()

    def _failed(self, operation: Operation, exc: TerwayError) -> None:
        log.warning("%s failed: %s", operation.kind, exc)
        over = operation.token not in self._journal.book.operations
        now, eni = self._journal.now(), self._eni_of(operation)
        if (
            over
            and operation.kind in GROWS
            and batch_rejected(self._rejections, operation, eni, error=exc, now=now)
        ):
            return  # one address may still be had: asked for at once
        for scope in _scopes(operation, eni, exc):
            self._rejections.hold_off(scope, exc, now)
        self.on_failure(exc)
        if not over:
            self._tries[operation.token] = self._tries.get(operation.token, 0) + 1
            waits = self._rejections.active(_scope(operation), now)
            left = waits.until - now if waits else 0.0
            asyncio.get_running_loop().call_later(left + RESUME_AFTER, self._resume_later)

    def _resume_later(self) -> None:
        if not self.closed:
            self.resume()

    def _eni_of(self, operation: Operation) -> EniRecord | None:
        return self._journal.book.enis.get(operation.eni_id) if operation.eni_id else None


def _scope(operation: Operation) -> Scope:
    """What a refusal of it is about first of all."""
    match operation.kind:
        case OperationKind.CREATE_ENI:
            return CREATION
        case OperationKind.ASSIGN:
            assert operation.eni_id is not None
            return of_eni(operation.eni_id)
        case OperationKind.RELEASE_ADDRESSES | OperationKind.RELEASE_ENI:
            return Scope(ScopeKind.RELEASE, str(operation.eni_id))


def _scopes(operation: Operation, eni: EniRecord | None, exc: TerwayError) -> tuple[Scope, ...]:
    """A full vSwitch holds off itself and every ENI in it, a cloud that is away everything.

    Anything else holds off only what was tried, and so does the failure to give something back.
    """
    itself = _scope(operation)
    if itself.kind is ScopeKind.RELEASE:
        return (itself,)
    if exc.cause in (Cause.VSWITCH_FULL, Cause.INVALID_VSWITCH):
        vswitch = eni.vswitch_id if eni else operation.vswitch_id
        found = (of_vswitch(vswitch),) if vswitch else ()
        return (*found, itself) if eni or not vswitch else found
    # A creation may also time out because its ENI is not seen, which says nothing about other calls.
    unseen = exc.cause is Cause.TIMEOUT and operation.kind is not OperationKind.ASSIGN
    return (itself, EVERYTHING) if not unseen and concerns_all(exc) else (itself,)


def _unforeseen(operation: Operation, exc: Exception) -> CloudError:
    return CloudError(
        f"{operation.kind} of {operation.eni_id or 'a new ENI'} failed in a way nobody foresaw: {exc!r}",
        cause=Cause.INTERNAL,
        action=operation.kind,
        remedy="it is tried again by itself; report this with terwayd's log",
    )

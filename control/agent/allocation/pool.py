"""The pool of addresses: hands them out, asks the cloud for more, gives back what is too many.

Level-triggered. ``kick`` compares what is wanted with what is there and under way (``control.ipam.sizing``)
and starts what is missing; it runs after every change and is harmless to run again. The first pod that finds
the pool dry causes a call at once; pods that come while it is under way wait for it and are coalesced into
the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from control.agent.allocation.blocks import CREATION, EVERYTHING, Block, Blocks
from control.agent.allocation.exhausted import Room, exhausted, out_of_patience
from control.agent.allocation.operations import CloudWork, NotShown, new_token
from control.agent.allocation.scarcity import GROUP, Scarcity
from control.agent.allocation.vswitches import VSwitches
from control.agent.state.journal import Journal
from control.ipam import sizing, transitions
from control.ipam.choose import Choice, Wants, choose
from control.ipam.stock import GROWS, PoolStats, Refusals, Stock
from control.model.cloud import Cloud
from control.model.errors import Cause, CloudError, PoolExhausted, TerwayError
from control.model.ids import ClientToken, EniId, SecurityGroupId, VSwitchId
from control.model.policies import EniPolicy
from control.model.records import AddressRecord, EniRecord, EniState, Operation, OperationKind

log = logging.getLogger(__name__)

ACQUIRE_TIMEOUT = 100.0
"""Seconds an ADD waits for an address. The executable gives up after 120."""

RESUME_AFTER = 0.5
"""Seconds after its block is over until an operation whose outcome is unknown is taken up again."""


FROZEN_KEPT = 600.0
"""Seconds a frozen address that nobody holds may take to be seen again before it is given up."""


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


def _concerns_all(exc: TerwayError) -> bool:
    """Whoever is away now is away for every other call as well."""
    return exc.cause in _OF_EVERY_CALL and not isinstance(exc, NotShown)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    sizes: sizing.PoolSizes
    security_groups: tuple[SecurityGroupId, ...]
    policy: EniPolicy = EniPolicy.MOST_IPS
    reclaim: sizing.ReclaimSettings | None = None
    instance_type: str = "of this node"
    max_eni: int = 0
    """As eni-config has it, 0 for none: for the words of an error."""


@dataclass(slots=True)
class _Waiter:
    wants: Wants
    take: Callable[[Choice], None]
    done: asyncio.Future[None]


def _unforeseen(operation: Operation, exc: Exception) -> CloudError:
    return CloudError(
        f"{operation.kind} of {operation.eni_id or 'a new ENI'} failed in a way nobody foresaw: {exc!r}",
        cause=Cause.INTERNAL,
        action=operation.kind,
        remedy="it is tried again by itself; report this with terwayd's log",
    )


def _stopping() -> PoolExhausted:
    return PoolExhausted(
        "terwayd is stopping", cause=Cause.BUSY, remedy="the runtime tries again when the next one serves"
    )


def _ignore(_error: TerwayError) -> None:
    pass


def _nothing() -> None:
    pass


class Pool:
    def __init__(
        self, *, journal: Journal, work: CloudWork, cloud: Cloud, vswitches: VSwitches, settings: PoolSettings
    ) -> None:
        self._journal = journal
        self._work = work
        self._cloud = cloud
        self._vswitches = vswitches
        self._settings = settings
        self._stock = Stock(journal.book, settings.sizes)
        self._blocks = Blocks()
        self._release_blocks = Blocks()
        self._scarcity = Scarcity()
        self._waiters: deque[_Waiter] = deque()
        self._running: dict[ClientToken, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reclaimed_at = journal.now()
        self._closed = False
        self._held = False
        self._tries: dict[ClientToken, int] = {}
        self.on_failure: Callable[[TerwayError], None] = _ignore
        self.on_success: Callable[[], None] = _nothing

    # Handing out.

    async def acquire(self, wants: Wants, take: Callable[[Choice], None]) -> None:
        """Choose for ``wants`` and call ``take`` with the choice, now or when the cloud has brought more.

        ``take`` records the reservation and runs in the same step as the choice. Raises PoolExhausted with
        the cause and the next try, or whatever ``take`` raises. Cancelling gives up the place in the queue.
        """
        if not self._waiters and self._try(wants, take):
            self.kick()
            return
        if self._closed:
            raise _stopping()
        waiter = _Waiter(wants, take, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self.kick()
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT):
                await waiter.done
        except TimeoutError:
            told_no = self._blocks.latest(self._journal.now()) is not None
            raise (self._exhausted() if told_no else out_of_patience(self.stats(), ACQUIRE_TIMEOUT)) from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def _try(self, wants: Wants, take: Callable[[Choice], None]) -> bool:
        choice = choose(self._journal.book, wants, now=self._journal.now(), policy=self._settings.policy)
        if choice is None:
            return False
        take(choice)
        return True

    def _serve_waiters(self) -> None:
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.done.done():
                try:
                    if not self._try(waiter.wants, waiter.take):
                        return
                    waiter.done.set_result(None)
                except Exception as exc:  # noqa: BLE001  # it is raised in the ADD it belongs to
                    waiter.done.set_exception(exc)
            self._waiters.popleft()

    # Growing.

    def kick(self) -> None:
        """Serve who can be served, start what is missing, fail whom nothing can help.

        What was begun and has an unknown outcome goes first: asked again with its own token it brings what
        a new call would bring, and a new call beside it would bring it twice.
        """
        if self._closed:
            return
        self._serve_waiters()
        self.resume()
        usable = self._stock.usable(self._journal.now())
        if self._waiters or usable < self._settings.sizes.min_pool:
            self._grow()
        self._cloud.stand_by(usable == 0 and self._next_pod_needs_cloud())

    def hold(self) -> None:
        """Ask nothing new of the cloud before ``go_on``: it is being looked at what is there."""
        self._held = True

    def go_on(self, refused: TerwayError | None) -> None:
        """``refused``: why nobody could be asked; who waits is told so if it concerns every call."""
        self._held = False
        if refused is not None and _concerns_all(refused):
            self._blocks.add(EVERYTHING, refused, self._journal.now())
        if not self._closed:
            self.kick()

    def _grow(self) -> None:
        if self._held:
            return
        now = self._journal.now()
        refusals = Refusals(
            lambda eni: self._blocked(now, str(eni.eni_id), str(eni.vswitch_id)),
            self._blocked(now, CREATION),
            lambda eni: self._scarcity.most(now, str(eni.eni_id), str(eni.vswitch_id), GROUP),
            self._scarcity.most(now, CREATION, GROUP),
        )
        live = [w for w in self._waiters if not w.done.done()]
        view = self._stock.view(now, self._running.values(), refusals, waiting=len(live))
        growth = sizing.grow(view, self._settings.sizes)
        for step in growth.steps:
            self._begin(step)
        for waiter in live[len(live) - growth.short :]:
            self._waiters.remove(waiter)
            waiter.done.set_exception(self._exhausted())

    def _next_pod_needs_cloud(self) -> bool:
        stats = self.stats()
        return stats.idle == 0 and stats.total < stats.capacity

    def _begin(self, step: sizing.Step) -> None:
        now = self._journal.now()
        if isinstance(step, sizing.Assign):
            operation = Operation(
                new_token(), OperationKind.ASSIGN, now, step.eni_id, None, (), step.ipv4, step.ipv6
            )
        else:
            operation = Operation(
                new_token(),
                OperationKind.CREATE_ENI,
                now,
                security_groups=self._settings.security_groups,
                ipv4_count=step.ipv4,
                ipv6_count=step.ipv6,
            )
        self._start(operation, fresh=True)

    def _start(self, operation: Operation, *, fresh: bool) -> None:
        self._running[operation.token] = operation
        task = asyncio.create_task(self._run(operation, fresh=fresh), name=f"{operation.kind}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, operation: Operation, *, fresh: bool) -> None:
        try:
            if fresh:
                operation = await self._prepare(operation)
            if self._stays_unknown(operation):
                await self._work.settle(operation)
            else:
                await self._work.run(operation, resumed=not fresh)
            self._budget(operation).clear(self._subject(operation))
            self._blocks.clear(EVERYTHING)
            if operation.kind in GROWS:
                self._scarcity.answered(operation, self._eni_of(operation))
            self.on_success()
        except TerwayError as exc:
            self._failed(operation, exc)
        except asyncio.CancelledError:
            self._closed = True  # only the daemon's end cancels: begin nothing any more
            raise
        except Exception as exc:  # the last resort: without a block it would be resumed at once, for ever
            log.exception("%s failed in a way nobody foresaw", operation.kind)
            self._failed(operation, _unforeseen(operation, exc))
        finally:
            self._running.pop(operation.token, None)
            if operation.token not in self._journal.book.operations:
                self._tries.pop(operation.token, None)
            self.kick()

    def _stays_unknown(self, operation: Operation) -> bool:
        tries, age = self._tries.get(operation.token, 0), self._journal.now() - operation.since
        forgotten = operation.kind in GROWS and age > TOKEN_LIFE
        return forgotten or tries >= TRIES or (tries > 0 and age > OPERATION_LIFE)

    def _failed(self, operation: Operation, exc: TerwayError) -> None:
        log.warning("%s failed: %s", operation.kind, exc)
        over = operation.token not in self._journal.book.operations
        grows, now = operation.kind in GROWS, self._journal.now()
        if over and grows and self._scarcity.refused(operation, self._eni_of(operation), exc, now):
            return  # one address may still be had: asked for at once
        self._block(operation, exc)
        self.on_failure(exc)
        if not over:
            self._tries[operation.token] = self._tries.get(operation.token, 0) + 1
            block = self._budget(operation).active(self._subject(operation), now)
            left = block.until - now if block else 0.0
            asyncio.get_running_loop().call_later(left + RESUME_AFTER, self._resume_later)

    def _blocked(self, now: float, *names: str) -> bool:
        return any(self._blocks.active(name, now) is not None for name in (EVERYTHING, *names))

    def _budget(self, operation: Operation) -> Blocks:
        """Giving back has its own: a full vSwitch must not stop it, nor its failure an assignment."""
        releases = (OperationKind.RELEASE_ADDRESSES, OperationKind.RELEASE_ENI)
        return self._release_blocks if operation.kind in releases else self._blocks

    async def _prepare(self, operation: Operation) -> Operation:
        """Put the intent into the ledger; for a new ENI choose its vSwitch first.

        Raises MetadataError before anything is made that could not be used.
        """
        await self._work.metadata_answers()
        if operation.kind is OperationKind.CREATE_ENI:
            operation = await self._with_vswitch(operation)
            self._running[operation.token] = operation
        self._journal.record(transitions.begin_operation(operation))
        return operation

    async def _with_vswitch(self, operation: Operation) -> Operation:
        """One that has refused nothing, else one that may still have an address: it is asked for no more."""
        now = self._journal.now()
        refusals = {VSwitchId(n): b.error for n, b in self._blocks.all(now).items()}
        chosen = await self._vswitches.choose(refusals, last=self._scarcity.scarce(now))
        most = self._scarcity.most(self._journal.now(), str(chosen))
        ipv4, ipv6 = min(operation.ipv4_count, most), min(operation.ipv6_count, most)
        return replace(operation, vswitch_id=chosen, ipv4_count=ipv4, ipv6_count=ipv6)

    def _eni_of(self, operation: Operation) -> EniRecord | None:
        return self._journal.book.enis.get(operation.eni_id) if operation.eni_id else None

    def _subject(self, operation: Operation) -> str:
        return str(operation.eni_id) if operation.kind is not OperationKind.CREATE_ENI else CREATION

    def _block(self, operation: Operation, exc: TerwayError) -> None:
        """A full vSwitch blocks itself and every ENI in it, a cloud that is away everything.

        Anything else blocks only what was tried.
        """
        now = self._journal.now()
        if self._budget(operation) is self._release_blocks:
            self._release_blocks.add(self._subject(operation), exc, now)
            return
        enis = self._journal.book.enis
        if exc.cause in (Cause.VSWITCH_FULL, Cause.INVALID_VSWITCH):
            eni = enis.get(operation.eni_id) if operation.eni_id else None
            vswitch = eni.vswitch_id if eni else operation.vswitch_id
            if vswitch:
                self._blocks.add(str(vswitch), exc, now)
            if eni or not vswitch:
                self._blocks.add(self._subject(operation), exc, now)
            return
        self._blocks.add(self._subject(operation), exc, now)
        # A creation may also time out because its ENI is not seen, which says nothing about other calls.
        unseen = exc.cause is Cause.TIMEOUT and operation.kind is not OperationKind.ASSIGN
        if not unseen and _concerns_all(exc):
            self._blocks.add(EVERYTHING, exc, now)

    def _exhausted(self) -> PoolExhausted:
        now = self._journal.now()
        cooling = self._stock.cooling(now)
        usable_at = self._journal.book.usable_at(cooling[0]) if cooling else None
        told = self._settings
        enis = sum(eni.state is not EniState.RELEASING for eni in self._journal.book.enis.values())
        room = Room(told.sizes, told.instance_type, told.max_eni, enis)
        return exhausted(self.stats(), self._blocks.latest(now), usable_at, now=now, room=room)

    def blocks(self) -> dict[str, Block]:
        """By what is blocked: an ENI or vSwitch id, or words."""
        now = self._journal.now()
        releases = {f"release of {n}": b for n, b in self._release_blocks.all(now).items()}
        return self._blocks.all(now) | releases

    # Shrinking.

    def sync(self) -> None:
        """One pool sync: give back idle addresses beyond the maximum, whole ENIs where that covers it."""
        self.kick()
        self._release_frozen()
        if self._waiters:
            return
        count = self._to_release()
        for kind, eni_id, records in self._stock.shed(
            self._journal.now(), count, self._settings.policy, busy=self._busy()
        ):
            self._begin_release(kind, eni_id, records)

    def _busy(self) -> set[EniId | None]:
        """ENIs that an operation is about, worked on or waiting in the ledger."""
        return {o.eni_id for o in (*self._running.values(), *self._journal.book.operations.values())}

    def _release_frozen(self) -> None:
        """Unassign what has long been lost and nobody holds: it only takes up room on its ENI."""
        before = self._journal.now() - FROZEN_KEPT
        for eni in list(self._journal.book.serving()):
            lost = self._stock.lost(eni, before=before)
            if lost and eni.eni_id not in self._busy():
                self._begin_release(OperationKind.RELEASE_ADDRESSES, eni.eni_id, lost)

    def _to_release(self) -> int:
        now, sizes, usable = (
            self._journal.now(),
            self._settings.sizes,
            self._stock.usable(self._journal.now()),
        )
        if self._settings.reclaim is None:
            return sizing.excess(usable, sizes)
        due = now - self._reclaimed_at >= self._settings.reclaim.interval
        quiet = now - self._journal.changed_at
        count = sizing.reclaim(usable, sizes, self._settings.reclaim, quiet=quiet, due=due)
        if due and count:
            self._reclaimed_at = now
        return count

    def _begin_release(self, kind: OperationKind, eni_id: EniId, records: list[AddressRecord]) -> None:
        now = self._journal.now()
        operation = Operation(new_token(), kind, now, eni_id, addresses=tuple(r.address for r in records))
        self._journal.record(transitions.begin_release(self._journal.book, operation, now))
        self._start(operation, fresh=False)

    # Life.

    def resume(self) -> None:
        """Take up every operation of the ledger that nobody is working on: after a start, or a failure."""
        now = self._journal.now()
        for operation in list(self._journal.book.operations.values()):
            blocked = self._budget(operation).active(self._subject(operation), now)
            if operation.token not in self._running and blocked is None:
                log.info("resuming %s %s", operation.kind, operation.eni_id or operation.token)
                self._start(operation, fresh=False)

    def _resume_later(self) -> None:
        if not self._closed:
            self.resume()

    def stats(self) -> PoolStats:
        return self._stock.stats(self._journal.now(), self._running.values(), waiting=len(self._waiters))

    @property
    def settled(self) -> bool:
        """Nothing under way and nobody waiting."""
        return not self._running and not self._waiters

    async def close(self) -> None:
        """Stop working. What was under way stays in the ledger as an intent."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_exception(_stopping())

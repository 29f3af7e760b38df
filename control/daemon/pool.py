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

from control.daemon.blocks import CREATION, Block, Blocks
from control.daemon.journal import Journal
from control.daemon.operations import CloudWork, new_token
from control.daemon.vswitches import VSwitches
from control.ipam import sizing, transitions
from control.ipam.choose import Choice, Wants, choose
from control.model.cloud import Cloud
from control.model.errors import Cause, CloudError, PoolExhausted, TerwayError
from control.model.ids import ClientToken, EniId, SecurityGroupId, VSwitchId
from control.model.policies import EniPolicy
from control.model.records import AddressRecord, AddressState, EniRecord, EniState, Operation, OperationKind

log = logging.getLogger(__name__)

ACQUIRE_TIMEOUT = 100.0
"""Seconds an ADD waits for an address. The executable gives up after 120."""

RESUME_AFTER = 0.5
"""Seconds after its block is over until an operation whose outcome is unknown is taken up again."""


FROZEN_KEPT = 600.0
"""Seconds a frozen address that nobody holds may take to be seen again before it is given up."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    sizes: sizing.PoolSizes
    security_groups: tuple[SecurityGroupId, ...]
    policy: EniPolicy = EniPolicy.MOST_IPS
    reclaim: sizing.ReclaimSettings | None = None


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Counts of addresses (pairs, in dual stack), the same for CLI, metrics and tests."""

    capacity: int
    total: int
    in_use: int
    idle: int
    """Usable now."""
    cooling: int
    frozen: int
    """And free ones of an ENI that does not serve."""
    releasing: int
    coming: int
    waiting: int


@dataclass(slots=True)
class _Waiter:
    wants: Wants
    take: Callable[[Choice], None]
    done: asyncio.Future[None]


def _brings(operation: Operation) -> int:
    """Addresses, or pairs: in dual stack one family may only make up for what it lacks."""
    return max(operation.ipv4_count, operation.ipv6_count)


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
        self._blocks = Blocks()
        self._release_blocks = Blocks()
        self._waiters: deque[_Waiter] = deque()
        self._running: dict[ClientToken, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reclaimed_at = journal.now()
        self._closed = False
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
            raise self._exhausted(f"waited {ACQUIRE_TIMEOUT:.0f} s") from None
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
        usable = self._usable()
        if self._waiters or usable < self._settings.sizes.min_pool:
            self._grow()
        self._cloud.stand_by(usable == 0 and self._next_pod_needs_cloud())

    def _grow(self) -> None:
        growth = sizing.grow(self._view(), self._settings.sizes)
        for step in growth.steps:
            self._begin(step)
        live = [w for w in self._waiters if not w.done.done()]
        for waiter in live[len(live) - growth.short :]:
            self._waiters.remove(waiter)
            waiter.done.set_exception(self._exhausted(""))

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
            await self._work.run(operation, resumed=not fresh)
            self._budget(operation).clear(self._subject(operation))
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
            self.kick()

    def _failed(self, operation: Operation, exc: TerwayError) -> None:
        log.warning("%s failed: %s", operation.kind, exc)
        self._block(operation, exc)
        self.on_failure(exc)
        if operation.token in self._journal.book.operations:
            now = self._journal.now()
            block = self._budget(operation).active(self._subject(operation), now)
            left = block.until - now if block else 0.0
            asyncio.get_running_loop().call_later(left + RESUME_AFTER, self._resume_later)

    def _budget(self, operation: Operation) -> Blocks:
        """Giving back has its own: a full vSwitch must not stop it, nor its failure an assignment."""
        releases = (OperationKind.RELEASE_ADDRESSES, OperationKind.RELEASE_ENI)
        return self._release_blocks if operation.kind in releases else self._blocks

    async def _prepare(self, operation: Operation) -> Operation:
        """Put the intent into the ledger; for a new ENI choose its vSwitch first."""
        if operation.kind is OperationKind.CREATE_ENI:
            operation = replace(operation, vswitch_id=await self._vswitches.choose(self._blocked_vswitches()))
            self._running[operation.token] = operation
        self._journal.record(transitions.begin_operation(operation))
        return operation

    def _blocked_vswitches(self) -> frozenset[VSwitchId]:
        return frozenset(VSwitchId(n) for n in self._blocks.all(self._journal.now()))

    def _subject(self, operation: Operation) -> str:
        return str(operation.eni_id) if operation.kind is not OperationKind.CREATE_ENI else CREATION

    def _block(self, operation: Operation, exc: TerwayError) -> None:
        """A full vSwitch blocks itself and every ENI in it, anything else only what was tried."""
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

    def _view(self) -> sizing.PoolView:
        book, now = self._journal.book, self._journal.now()
        pending: dict[EniId, tuple[int, int]] = {}
        coming = 0
        enis = []
        for o in self._running.values():
            if o.kind not in (OperationKind.CREATE_ENI, OperationKind.ASSIGN):
                continue
            coming += _brings(o)
            eni_id = o.eni_id or self._created(o.token)
            if eni_id is not None:
                pending[eni_id] = (o.ipv4_count, o.ipv6_count)
            else:
                enis.append(sizing.EniView(EniId(o.token), o.ipv4_count, o.ipv6_count, busy=True))
        busy = {o.eni_id for o in self._running.values()} | set(pending)
        for eni in book.enis.values():
            if eni.state is EniState.RELEASING:
                continue
            v4, v6 = pending.get(eni.eni_id, (0, 0))
            enis.append(
                sizing.EniView(
                    eni.eni_id,
                    sum(1 for a in book.of_eni(eni.eni_id) if a.address.version == 4) + v4,
                    sum(1 for a in book.of_eni(eni.eni_id) if a.address.version == 6) + v6,
                    busy=eni.eni_id in busy,
                    blocked=self._eni_blocked(eni, now)
                    or (eni.state is not EniState.SERVING and eni.eni_id not in pending),
                )
            )
        releasing = sum(1 for e in book.enis.values() if e.state is EniState.RELEASING)
        return sizing.PoolView(
            enis=tuple(enis),
            leaving=releasing,
            usable=self._usable(),
            coming=coming,
            waiting=sum(1 for w in self._waiters if not w.done.done()),
            create_blocked=self._blocks.active(CREATION, now) is not None,
        )

    def _created(self, token: ClientToken) -> EniId | None:
        operation = self._journal.book.operations.get(token)
        return operation.eni_id if operation is not None else None

    def _eni_blocked(self, eni: EniRecord, now: float) -> bool:
        return (
            self._blocks.active(str(eni.eni_id), now) is not None
            or self._blocks.active(str(eni.vswitch_id), now) is not None
        )

    def _usable(self) -> int:
        book, now = self._journal.book, self._journal.now()
        total = 0
        for eni in book.serving():
            free = len(book.usable(eni.eni_id, 4, now))
            if self._settings.sizes.dual:
                free = min(free, len(book.usable(eni.eni_id, 6, now)))
            total += free
        return total

    def _cooling(self) -> list[AddressRecord]:
        """IPv4 addresses of serving ENIs that will be usable by themselves, the next one first."""
        book = self._journal.book
        serving = {e.eni_id for e in book.serving()}
        cooling = book.cooling(self._journal.now())
        return [r for r in cooling if r.address.version == 4 and r.eni_id in serving]

    # Why not.

    def _exhausted(self, waited: str) -> PoolExhausted:
        now = self._journal.now()
        block = self._blocks.latest(now)
        stats = self.stats()
        state = (
            f"{stats.in_use} of {stats.capacity} addresses in use, {stats.cooling} cooling, "
            f"{stats.frozen} frozen"
        )
        lead = f"No available IP addresses on this node ({state}{'; ' + waited if waited else ''})"
        if block is not None:
            return self._refused(lead, block, now)
        cooling = self._cooling()
        if cooling:
            left = max(0.0, self._journal.book.usable_at(cooling[0]) - now)
            return PoolExhausted(
                f"{lead}: every address that is not in use was released a moment ago",
                cause=Cause.COOLING,
                remedy=f"the next one may be used in {left:.0f} s; the runtime tries again",
                retry_after=left,
            )
        return PoolExhausted(
            f"{lead}: the node has as many ENIs and addresses as its instance type or max_eni allows",
            cause=Cause.POOL_LIMIT,
            remedy="schedule the pod elsewhere, use a larger instance type, or raise max_eni",
        )

    def _refused(self, lead: str, block: Block, now: float) -> PoolExhausted:
        left = block.until - now
        return PoolExhausted(
            f"{lead}: {block.error.what}",
            cause=block.error.cause,
            remedy=f"{block.error.remedy + '; ' if block.error.remedy else ''}next try in {left:.0f} s",
            retry_after=left,
        )

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
        left = self._to_release()
        for eni in sorted(self._journal.book.serving(), key=self._release_order):
            if left <= 0:
                return
            if self._is_busy(eni):
                continue
            left -= self._release_from(eni, left)

    def _is_busy(self, eni: EniRecord) -> bool:
        known = (*self._running.values(), *self._journal.book.operations.values())
        return any(o.eni_id == eni.eni_id for o in known)

    def _release_frozen(self) -> None:
        """Unassign what has long been lost and nobody holds: it only takes up room on its ENI."""
        book, before = self._journal.book, self._journal.now() - FROZEN_KEPT
        for eni in list(book.serving()):
            lost = [
                r
                for r in book.of_eni(eni.eni_id)
                if r.state is AddressState.FROZEN and r.owner is None and r.since <= before
            ]
            lost = [r for r in lost if r.address != eni.primary_ip]
            if lost and not self._is_busy(eni):
                self._begin_release(OperationKind.RELEASE_ADDRESSES, eni.eni_id, lost)

    def _to_release(self) -> int:
        now, sizes, usable = self._journal.now(), self._settings.sizes, self._usable()
        if self._settings.reclaim is None:
            return sizing.excess(usable, sizes)
        due = now - self._reclaimed_at >= self._settings.reclaim.interval
        quiet = now - self._journal.changed_at
        count = sizing.reclaim(usable, sizes, self._settings.reclaim, quiet=quiet, due=due)
        if due and count:
            self._reclaimed_at = now
        return count

    def _release_order(self, eni: EniRecord) -> tuple[int, str]:
        """Emptiest first under most_ips (it is the one to get rid of), fullest first under least_ips."""
        count = sum(1 for _ in self._journal.book.of_eni(eni.eni_id))
        return (count if self._settings.policy is EniPolicy.MOST_IPS else -count, eni.eni_id)

    def _release_from(self, eni: EniRecord, most: int) -> int:
        book, now = self._journal.book, self._journal.now()
        records = list(book.of_eni(eni.eni_id))
        ipv4 = list(book.usable(eni.eni_id, 4, now))
        all_free = len(ipv4) == sum(1 for r in records if r.address.version == 4) and not any(
            r.owner for r in records
        )
        if all_free and len(ipv4) <= most and self._settings.sizes.min_pool < self._usable():
            self._begin_release(OperationKind.RELEASE_ENI, eni.eni_id, records)
            return len(ipv4)
        spare = [a for a in ipv4 if a != eni.primary_ip][: min(most, sizing.BATCH)]
        if not spare:
            return 0
        paired = list(book.usable(eni.eni_id, 6, now))[: len(spare)] if self._settings.sizes.dual else []
        self._begin_release(
            OperationKind.RELEASE_ADDRESSES, eni.eni_id, [book.addresses[a] for a in (*spare, *paired)]
        )
        return len(spare)

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
        book = self._journal.book
        serving = {e.eni_id for e in book.serving()}
        counts: dict[str, int] = {}
        for r in book.addresses.values():
            if r.address.version == 4:
                stuck = r.state is AddressState.FREE and r.eni_id not in serving
                state = AddressState.FROZEN if stuck else r.state
                counts[state.value] = counts.get(state.value, 0) + 1
        coming = sum(
            _brings(o)
            for o in self._running.values()
            if o.kind in (OperationKind.ASSIGN, OperationKind.CREATE_ENI)
        )
        return PoolStats(
            capacity=self._settings.sizes.capacity,
            total=sum(counts.values()),
            in_use=counts.get("assigned", 0),
            idle=self._usable(),
            cooling=len(self._cooling()),
            frozen=counts.get("frozen", 0),
            releasing=counts.get("releasing", 0),
            coming=coming,
            waiting=len(self._waiters),
        )

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

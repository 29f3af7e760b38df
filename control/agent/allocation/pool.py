"""The allocator of shared ENIs: a pool of their addresses that many pods are served from.

A facade over three parts, each of which reads by itself: ``queue`` has who waits, ``growth`` asks the cloud
for more, ``release`` gives back what is too many; ``runner`` carries out what either begins.
Level-triggered: ``kick`` runs after every change and is harmless to run again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from control.agent.allocation.growth import Growth
from control.agent.allocation.limits import Limits, exhausted, out_of_patience
from control.agent.allocation.queue import ACQUIRE_TIMEOUT, WaitingQueue, not_listed, stopping
from control.agent.allocation.release import Release
from control.agent.allocation.reservation import LedgerReservation, reserve
from control.agent.allocation.runner import OperationRunner, concerns_all
from control.agent.state.journal import Journal
from control.ipam import sizing
from control.ipam.allocator import AllocationRequest, Reservation
from control.ipam.choose import choose
from control.ipam.rejections import EVERYTHING, Rejections
from control.ipam.statistics import PoolStatistics, PoolStats
from control.model.cloud import Cloud
from control.model.errors import PoolExhausted, TerwayError
from control.model.ids import SecurityGroupId
from control.model.policies import EniPolicy
from control.model.records import EniState


@dataclass(frozen=True, slots=True)
class PoolSettings:
    sizes: sizing.PoolSizes
    security_groups: tuple[SecurityGroupId, ...]
    policy: EniPolicy = EniPolicy.MOST_IPS
    reclaim: sizing.ReclaimSettings | None = None
    instance_type: str = "of this node"
    max_eni: int = 0
    """As eni-config has it, 0 for none: for the words of an error."""


class Pool:
    """Implements ``control.ipam.allocator.Allocator`` for addresses of shared ENIs."""

    def __init__(
        self,
        *,
        journal: Journal,
        runner: OperationRunner,
        cloud: Cloud,
        rejections: Rejections,
        settings: PoolSettings,
    ) -> None:
        sizes = settings.sizes
        self._journal = journal
        self._runner = runner
        self._cloud = cloud
        self._rejections = rejections
        self._settings = settings
        self._statistics = PoolStatistics(journal.book, sizes, rejections)
        self._queue = WaitingQueue()
        self._growth = Growth(self._statistics, sizes, settings.security_groups, runner.begin)
        self._release = Release(
            journal=journal,
            statistics=self._statistics,
            runner=runner,
            sizes=sizes,
            policy=settings.policy,
            reclaim=settings.reclaim,
        )
        runner.on_end.append(self.kick)

    async def acquire(self, request: AllocationRequest) -> Reservation:
        """See ``Allocator.acquire``. Also raises LedgerError."""
        stopped = self._runner.closed
        return await self._queue.acquire(request, self._reserve, self.kick, late=self._late, stopped=stopped)

    def _late(self, request: AllocationRequest) -> PoolExhausted:
        del request
        if self._runner.pods_unlisted():
            return not_listed()
        told_no = self._rejections.latest(self._journal.now()) is not None
        return self._exhausted() if told_no else out_of_patience(self.stats(), ACQUIRE_TIMEOUT)

    def _reserve(self, request: AllocationRequest) -> LedgerReservation | None:
        """Choice and intent in one step. None if nothing can be handed out now."""
        if self._runner.pods_unlisted():
            return None
        now, book = self._journal.now(), self._journal.book
        chosen = choose(book, request, self._statistics.serving(now), now=now, policy=self._settings.policy)
        return None if chosen is None else reserve(self._journal, request, chosen)

    def kick(self) -> None:
        """Serve who can be served, start what is missing, fail whom nothing can help."""
        if self._runner.closed:
            return
        self._queue.serve(self._reserve)
        self._runner.resume()
        now = self._journal.now()
        if self._runner.on_hold:
            if self._rejections.held_off(now, EVERYTHING):
                self._queue.refuse_last(self._queue.live(), self._exhausted)
        elif not self._runner.pods_unlisted() and self._growth.is_due(now, waiting=len(self._queue)):
            under_way = tuple(self._runner.running)
            short = self._growth.grow(now, under_way, waiting=self._queue.live())
            self._queue.refuse_last(short, self._exhausted)
        dry = self._statistics.usable(now) == 0
        self._cloud.stand_by(dry and self._next_pod_needs_cloud())

    def wait_for_list(self, pods_unlisted: Callable[[], bool]) -> None:
        """Hand out, ask for and give back nothing while ``pods_unlisted``; ``changed`` tells of its end."""
        self._runner.pods_unlisted = pods_unlisted

    def changed(self) -> None:
        """What can be handed out, or asked for, may be more than a moment ago, to any allocator."""
        self._runner.changed()

    def hold(self) -> None:
        """Ask nothing new of the cloud before ``go_on``: it is being looked at what is there."""
        self._runner.on_hold = True

    def still_on_hold(self, refused: TerwayError) -> float:
        """It is not known yet what there is: who waits is told so. Seconds until it is asked again."""
        now = self._journal.now()
        rejection = self._rejections.hold_off(EVERYTHING, refused, now)
        self._runner.changed()
        return rejection.until - now

    def go_on(self, refused: TerwayError | None) -> None:
        """It is known what there is. ``refused``: why the cloud could not be asked all the same."""
        self._runner.on_hold = False
        if refused is None:
            self._rejections.clear(EVERYTHING)
        elif concerns_all(refused):
            self._rejections.hold_off(EVERYTHING, refused, self._journal.now())
        self._runner.changed()

    def sync(self) -> None:
        """One pool sync: give back what is too many, unless a pod waits for it."""
        self.kick()
        if self._runner.pods_unlisted():
            return
        self._release.release_lost()
        if not self._queue:
            self._release.release_idle()

    def resume(self) -> None:
        """Take up operations of the ledger that nobody is working on."""
        self._runner.resume()

    def stats(self) -> PoolStats:
        return self._statistics.stats(self._journal.now(), self._runner.running, waiting=len(self._queue))

    @property
    def settled(self) -> bool:
        """Nothing under way and nobody waiting."""
        return not self._runner.running and not self._queue

    async def close(self) -> None:
        """Stop working. What was under way stays in the ledger as an intent."""
        await self._runner.close()
        self._queue.refuse_all(stopping)

    def _next_pod_needs_cloud(self) -> bool:
        stats = self.stats()
        return stats.idle == 0 and stats.total < stats.capacity

    def _exhausted(self) -> PoolExhausted:
        now = self._journal.now()
        cooling = self._statistics.cooling(now)
        usable_at = self._journal.book.usable_at(cooling[0]) if cooling else None
        latest = self._rejections.latest(now)
        return exhausted(self.stats(), latest, usable_at, now=now, limits=self._limits())

    def _limits(self) -> Limits:
        told, enis = self._settings, self._journal.book.enis.values()
        frozen = next((e for e in enis if e.state is EniState.FROZEN), None)
        limits = Limits(told.sizes, told.instance_type, told.max_eni)
        return replace(
            limits,
            enis=sum(eni.state is not EniState.RELEASING for eni in enis),
            broken=f"ENI {frozen.eni_id} serves nobody new: {frozen.reason}" if frozen else "",
        )

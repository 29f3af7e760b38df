"""Who waits for an address: first come, first served, each for a bounded time and able to hang up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from control.ipam.allocator import AllocationRequest, Reservation
from control.model.errors import Cause, PoolExhausted, TerwayError

log = logging.getLogger(__name__)

ACQUIRE_TIMEOUT = 100.0
"""Seconds an ADD waits for an address. The executable gives up after 120."""

Attempt = Callable[[AllocationRequest], Reservation | None]
"""Reserve now; None if there is nothing for it now. What it raises is raised in the ADD it belongs to."""


@dataclass(slots=True)
class _Waiter:
    request: AllocationRequest
    done: asyncio.Future[Reservation]


class WaitingQueue:
    """One event loop's. The head keeps its place until it is served, refused or gone: nobody overtakes."""

    def __init__(self) -> None:
        self._waiters: deque[_Waiter] = deque()

    def __len__(self) -> int:
        """Those included that have hung up and not yet left."""
        return len(self._waiters)

    def live(self) -> int:
        """How many still want an address."""
        return len(self._live())

    async def acquire(
        self,
        request: AllocationRequest,
        reserve: Attempt,
        kick: Callable[[], None],
        *,
        late: Callable[[AllocationRequest], TerwayError],
        stopped: bool,
    ) -> Reservation:
        """``Allocator.acquire`` over this queue: at once if nobody is before it, else in its turn.

        ``kick`` sees to what is missing after either. ``late``: the error of who has waited for
        ``ACQUIRE_TIMEOUT``. ``stopped``: nobody serves the queue any more.
        """
        if not self:
            reservation = reserve(request)
            if reservation is not None:
                kick()
                return reservation
        if stopped:
            raise stopping()
        try:
            return await self._wait(request, kick, timeout=ACQUIRE_TIMEOUT)
        except TimeoutError:
            raise late(request) from None

    async def _wait(
        self, request: AllocationRequest, began: Callable[[], None], *, timeout: float
    ) -> Reservation:
        """Until ``serve`` has an answer. Raises TimeoutError, and whatever ``serve`` or ``refuse`` gave it.

        ``began`` is called once the place is taken. Who hangs up in the very moment gives back what was
        reserved.
        """
        waiter = _Waiter(request, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            began()
            async with asyncio.timeout(timeout):
                return await waiter.done
        except BaseException:
            _give_back(waiter.done)
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def serve(self, attempt: Attempt) -> None:
        """In order, until there is nothing for the next one."""
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.done.done():
                try:
                    reservation = attempt(waiter.request)
                except Exception as exc:  # noqa: BLE001  # it is raised in the ADD it belongs to
                    waiter.done.set_exception(exc)
                else:
                    if reservation is None:
                        return
                    waiter.done.set_result(reservation)
            self._waiters.popleft()

    def refuse_last(self, count: int, error: Callable[[], TerwayError]) -> None:
        """Tell the ``count`` that came last that nothing can help them now."""
        live = self._live()
        for waiter in live[len(live) - count :]:
            self._waiters.remove(waiter)
            waiter.done.set_exception(error())

    def refuse_all(self, error: Callable[[], TerwayError]) -> None:
        self.refuse_last(self.live(), error)

    def _live(self) -> list[_Waiter]:
        return [w for w in self._waiters if not w.done.done()]


def _give_back(done: asyncio.Future[Reservation]) -> None:
    """Reserved in the moment in which the waiter gave up: nobody will be told of it."""
    if not done.done() or done.cancelled() or done.exception() is not None:
        return
    reservation = done.result()
    try:
        reservation.release()
    except TerwayError as exc:
        log.error(
            "%s was reserved for an ADD that is gone and could not be freed yet: %s", reservation.record, exc
        )


def stopping() -> PoolExhausted:
    return PoolExhausted(
        "terwayd is stopping", cause=Cause.BUSY, remedy="the runtime tries again when the next one serves"
    )


def not_listed() -> PoolExhausted:
    return PoolExhausted(
        "the ledger is being rebuilt, and Kubernetes has not listed this node's pods yet: any address may be "
        "a running pod's",
        cause=Cause.KUBERNETES,
        remedy="check that the API server answers a list of pods; the runtime tries again",
    )

"""What becomes of an ENI that was frozen because its device is gone: asked about at once, and taken back at
once.

The next round of the watch is up to a minute away. Here cloud and metadata are asked as soon as an ADD has
shown the ENI to be broken, a few times more as their views may lag, and again when the kernel tells that
the device is back. One task per broken ENI; the rounds go on beside it, and after a restart they alone do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from control.agent.dataplane.ports import NodeKernel
from control.agent.reconcile.enis import Reconciler
from control.agent.state.journal import Journal
from control.model.errors import KernelError, TerwayError
from control.model.ids import EniId
from control.model.pod import EventType, Kubernetes
from control.model.records import EniRecord, EniState
from control.process.called_off import called_off

log = logging.getLogger(__name__)

FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0
"""Seconds between two looks while the device is away; doubles. After that its return alone is waited for."""
FIRST_LAG = 0.1
"""Seconds after the device's return until cloud and metadata are asked; doubles up to ``MAX_PAUSE``."""


class BrokenWatch:
    """``on_look`` is called after each look: there may be an ENI more, or room for one."""

    def __init__(
        self,
        *,
        journal: Journal,
        kernel: NodeKernel,
        kubernetes: Kubernetes,
        reconciler: Reconciler,
        on_look: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._kernel = kernel
        self._kubernetes = kubernetes
        self._reconciler = reconciler
        self._on_look = on_look
        self._tasks: dict[EniId, asyncio.Task[None]] = {}

    def follow(self, eni: EniRecord) -> None:
        """``eni`` was found broken just now. Says so, and looks after it until it serves again or is gone."""
        recorded = self._journal.book.enis.get(eni.eni_id, eni)
        told = (
            f"ENI {eni.eni_id} ({eni.mac}) is frozen: {recorded.reason}; no pod is put on it until it is back"
        )
        log.warning("%s", told)
        self._kubernetes.event(None, EventType.WARNING, "EniBroken", told, topic=eni.eni_id)
        if eni.eni_id not in self._tasks:
            task = asyncio.create_task(self._follow(eni), name=f"broken {eni.eni_id}")
            self._tasks[eni.eni_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(eni.eni_id, None))

    async def close(self) -> None:
        await called_off(*self._tasks.values())

    async def _follow(self, eni: EniRecord) -> None:
        pause, lag = FIRST_PAUSE, FIRST_LAG
        await self._look(eni.eni_id)
        while self._is_frozen(eni.eni_id):
            back = await self._appears(eni, pause)
            if back:
                await asyncio.sleep(lag)
            if back or pause < MAX_PAUSE:
                await self._look(eni.eni_id)
            lag = min(2 * lag, MAX_PAUSE) if back else FIRST_LAG
            pause = min(2 * pause, MAX_PAUSE)

    async def _appears(self, eni: EniRecord, pause: float) -> bool:
        try:
            return await self._kernel.link_appears(eni.mac, timeout=pause)
        except KernelError as exc:  # no descriptor is left, say: looked at all the same
            log.warning("the return of ENI %s cannot be waited for: %s", eni.eni_id, exc)
            await asyncio.sleep(pause)
            return False

    async def _look(self, eni_id: EniId) -> None:
        try:
            await self._reconciler.look_at(eni_id)
        except TerwayError as exc:
            log.warning("ENI %s is looked at again soon: %s", eni_id, exc)
        except Exception:  # the last resort: the rounds go on without this
            log.exception("looking at ENI %s failed in a way nobody foresaw", eni_id)
        self._on_look()

    def _is_frozen(self, eni_id: EniId) -> bool:
        eni = self._journal.book.enis.get(eni_id)
        return eni is not None and eni.state is EniState.FROZEN

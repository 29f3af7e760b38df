"""Which ENIs the node has: asked until somebody has said it, and nothing new is made before that.

A ledger that knows every ENI that metadata shows needs no cloud for that; one that was lost does. What is
refused meanwhile is told to whoever waits for an address, and asked again by the hold-off of that refusal.
Metadata and the kernel alone name the ENIs that running pods lean on (``Reconciler``), so that pods are
served from these while the cloud is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from control.agent.allocation.pool import Pool
from control.agent.reconcile.enis import Reconciler
from control.agent.reconcile.rebuild import Rebuild
from control.model.errors import Cause, CloudError, TerwayError
from control.process.timers import Timers

log = logging.getLogger(__name__)


class Inventory:
    """``learn`` is the start's, ``look`` everybody's after it."""

    def __init__(self, *, reconciler: Reconciler, rebuild: Rebuild, pool: Pool, timers: Timers) -> None:
        self._reconciler = reconciler
        self._rebuild = rebuild
        self._pool = pool
        self._timers = timers
        self._asked_once = asyncio.Event()

    async def learn(self) -> None:
        """Until it is known. Raises nothing but a cancellation."""
        while not self._rebuild.asked:
            refused = await self._look()
            known = refused is None or self._reconciler.complete
            left = 0.0
            if refused is not None and not known:
                left = self._pool.still_on_hold(refused)
            else:
                self._pool.go_on(refused)
            self._asked_once.set()
            if known:
                return
            await self._timers.sleep(left)

    async def asked_once(self, timeout: float) -> bool:
        """Whether there is an answer, or a refusal, ``timeout`` seconds from now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._asked_once.wait()
        return self._asked_once.is_set()

    async def look(self) -> None:
        """Hold the ledger's ENIs against metadata, and against the cloud if these differ, or if it was away
        at the start. Raises TerwayError."""
        await self._reconciler.all(ask_cloud=not self._rebuild.asked)
        if not self._rebuild.asked and self._reconciler.complete:
            self._rebuild.asked = True
            self._pool.go_on(None)

    async def _look(self) -> TerwayError | None:
        """Why it is not known yet."""
        try:
            await self.look()
        except TerwayError as exc:
            log.warning("starting from the ledger alone, the witnesses could not be asked: %s", exc)
            return exc
        except Exception as exc:  # the last resort: who waits for an address is told
            log.exception("asking the witnesses failed in a way nobody foresaw")
            return _unforeseen(exc)
        return None if self._rebuild.asked else self._reconciler.unseen()


def _unforeseen(exc: Exception) -> CloudError:
    return CloudError(
        f"asking which ENIs the node has failed in a way nobody foresaw: {exc!r}",
        cause=Cause.INTERNAL,
        action="DescribeNetworkInterfaces",
        remedy="it is asked again by itself; report this with terwayd's log",
    )

"""How many calls a minute: a token bucket per API, and the rest of a minute in which the cloud said no.

The cloud counts per account, region and API in calendar minutes; once it says ``Throttling``, calls of that
API are in vain until the next minute begins.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass

from control.aliyun.actions import DEFAULT_PER_MINUTE, PER_MINUTE, Action
from control.aliyun.errors import MINUTE
from control.aliyun.settings import Observe
from control.model.clock import Clock
from control.model.errors import ConfigError

log = logging.getLogger(__name__)

_LOGGED_WAIT = 5.0
_RECHECK = 0.5


@dataclass(slots=True)
class Bucket:
    """Pure: holds ``per_minute`` tokens when full and fills evenly. ``now`` is in seconds of the clock."""

    per_minute: int
    tokens: float
    filled_at: float

    def take(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        rate = self.per_minute / MINUTE
        self.tokens = min(self.per_minute, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        # A thousandth of a token is forgiven: the sum of many small fills is not exact.
        if self.tokens >= 0.999:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / rate


class RateLimiter:
    """``limits`` is `rate_limit` of eni-config: API name -> calls per minute.

    Raises ConfigError for a limit below 1. Names that the agent does not call are allowed and ignored.
    """

    def __init__(self, limits: Mapping[str, int], clock: Clock, observe: Observe) -> None:
        for name, limit in limits.items():
            if limit < 1:
                raise ConfigError(
                    f"rate_limit of {name} is {limit}",
                    remedy="give a number of calls per minute of 1 or more",
                )
        self._clock = clock
        self._observe = observe
        now = clock.now()
        self._buckets = {
            action: Bucket(limit, limit, now)
            for action in Action
            for limit in [limits.get(action, PER_MINUTE.get(action, DEFAULT_PER_MINUTE))]
        }
        self._turns = {action: asyncio.Lock() for action in Action}
        self._closed_until: dict[Action, float] = {}

    async def wait(self, action: Action) -> None:
        """Until ``action`` may be called; callers are served in the order they came."""
        started = self._clock.now()
        async with self._turns[action]:
            while (delay := self._buckets[action].take(self._clock.now())) > 0:
                await asyncio.sleep(min(delay, _RECHECK))
        waited = self._clock.now() - started
        self._observe(action, "", waited)
        if waited >= _LOGGED_WAIT:
            log.warning("%s waited %.1f s for its rate limit", action, waited)

    def throttled(self, action: Action, retry_after: float) -> None:
        """The cloud refused ``action``: it is closed for ``retry_after`` seconds.

        A little longer in truth, at random, since clocks differ and every node waits for the same second.
        """
        self._closed_until[action] = self._clock.now() + retry_after + random.uniform(0.1, 1.0)

    def closed_for(self, action: Action) -> float:
        """Seconds for which a call of ``action`` would be in vain, 0 if it would not."""
        return max(0.0, self._closed_until.get(action, 0.0) - self._clock.now())

"""When a failed call is worth another attempt. Pure.

Every call of this adapter may be repeated: reads change nothing, creations and assignments carry a token,
and the others aim at a state that a second call finds already there.
"""

from __future__ import annotations

from control.model.errors import Cause, CloudError

_FIRST: dict[Cause, float] = {
    Cause.CONFLICT: 0.2,
    Cause.INTERNAL: 0.2,
    Cause.UNREACHABLE: 0.1,
    Cause.TIMEOUT: 0.1,
}
"""Seconds before the second attempt; each further one waits twice as long."""


def delay_before_retry(error: CloudError, *, attempt: int, left: float, jitter: float) -> float | None:
    """Seconds to wait before the next attempt, None if there shall be none.

    ``attempt`` counts those that failed, from 1. ``left`` is the patience left, in seconds. ``jitter`` is
    a number from 0 to 1 at random, which stretches the delay by up to a half.
    """
    if error.cause is Cause.THROTTLED:
        delay = error.retry_after or 0.0
    elif error.cause in _FIRST:
        delay = _FIRST[error.cause] * 2 ** (attempt - 1)
    else:
        return None
    delay *= 1 + jitter / 2 if error.cause is not Cause.THROTTLED else 1
    return delay if delay < left else None

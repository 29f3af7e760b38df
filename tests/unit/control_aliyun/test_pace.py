"""The token bucket, the closed minute, and when to try again."""

from __future__ import annotations

import asyncio
import logging

import pytest

from control.aliyun.actions import PER_MINUTE, Action
from control.aliyun.ratelimit import Bucket, RateLimiter
from control.aliyun.retry import delay_before_retry
from control.aliyun.settings import unobserved
from control.model.clock import SystemClock
from control.model.errors import Cause, CloudError, ConfigError


def test_a_full_bucket_gives_a_burst_and_then_an_even_flow() -> None:
    bucket = Bucket(60, 60, 1000.0)
    assert [bucket.take(1000.0) for _ in range(60)] == [0.0] * 60
    assert bucket.take(1000.0) == pytest.approx(1.0)
    assert bucket.take(1000.4) == pytest.approx(0.6)
    assert bucket.take(1001.0) == 0.0
    assert bucket.take(1001.0) == pytest.approx(1.0)


def test_a_bucket_holds_no_more_than_a_minute() -> None:
    bucket = Bucket(3, 3, 0.0)
    taken = [bucket.take(10_000.0) for _ in range(4)]
    assert taken[:3] == [0.0] * 3
    assert taken[3] == pytest.approx(20.0)


@pytest.mark.parametrize("action", Action)
def test_every_action_has_a_limit(action: Action) -> None:
    assert 300 <= PER_MINUTE[action] <= 800


def test_a_limit_below_one_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="rate_limit of DescribeVSwitches is 0"):
        RateLimiter({"DescribeVSwitches": 0}, SystemClock(), unobserved)


def test_waiting_ends_with_the_clock_and_is_observed(caplog: pytest.LogCaptureFixture) -> None:
    clock, seen = SystemClock(), list[tuple[str, str, float]]()
    limiter = RateLimiter({Action.CREATE_ENI: 1}, clock, lambda *wait: seen.append(wait))

    async def scenario() -> None:
        await limiter.wait(Action.CREATE_ENI)
        second = asyncio.create_task(limiter.wait(Action.CREATE_ENI))
        await asyncio.sleep(0)
        await limiter.wait(Action.DESCRIBE_ENIS)
        assert not second.done()
        clock.advance(61)
        async with asyncio.timeout(10):
            await second

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert [api for api, _, _ in seen] == [Action.CREATE_ENI, Action.DESCRIBE_ENIS, Action.CREATE_ENI]
    assert seen[2][2] > 60
    assert "CreateNetworkInterface waited" in caplog.text


def test_a_closed_minute_ends_shortly_after_it_was_said_to() -> None:
    clock = SystemClock()
    limiter = RateLimiter({}, clock, unobserved)
    limiter.throttled(Action.CREATE_ENI, 30)
    assert 29 < limiter.closed_for(Action.CREATE_ENI) <= 31
    assert limiter.closed_for(Action.ATTACH_ENI) == 0
    clock.advance(31.5)
    assert limiter.closed_for(Action.CREATE_ENI) == 0


def failed(cause: Cause, retry_after: float | None = None) -> CloudError:
    return CloudError("no", cause=cause, action="x", retry_after=retry_after)


@pytest.mark.parametrize("cause", [Cause.CONFLICT, Cause.INTERNAL, Cause.UNREACHABLE, Cause.TIMEOUT])
def test_passing_failures_are_tried_again_with_growing_delays(cause: Cause) -> None:
    delays = [delay_before_retry(failed(cause), attempt=n, left=100, jitter=0) for n in (1, 2, 3)]
    first = delays[0]
    assert first is not None
    assert first <= 0.2
    assert delays == [first, first * 2, first * 4]
    stretched = delay_before_retry(failed(cause), attempt=1, left=100, jitter=1)
    assert stretched == pytest.approx(first * 1.5)


@pytest.mark.parametrize(
    "cause", [Cause.VSWITCH_FULL, Cause.ENI_STATE, Cause.CREDENTIALS, Cause.FORBIDDEN, Cause.REQUEST]
)
def test_lasting_failures_are_not_tried_again(cause: Cause) -> None:
    assert delay_before_retry(failed(cause), attempt=1, left=100, jitter=0) is None


def test_patience_bounds_it() -> None:
    assert delay_before_retry(failed(Cause.INTERNAL), attempt=1, left=0.1, jitter=0) is None
    assert delay_before_retry(failed(Cause.THROTTLED, 8.0), attempt=1, left=10, jitter=0) == 8.0
    assert delay_before_retry(failed(Cause.THROTTLED, 40.0), attempt=1, left=10, jitter=0) is None

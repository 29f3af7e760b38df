"""What a tired operator reads when a pod has no address."""

from __future__ import annotations

from control.agent.allocation.limits import Limits, exhausted, out_of_patience
from control.ipam.rejections import Rejection
from control.ipam.sizing import PoolSizes
from control.ipam.statistics import PoolStats
from control.model.errors import Cause, CloudError

STATS = PoolStats(
    capacity=6, total=6, in_use=5, idle=0, cooling=1, frozen=0, releasing=0, coming=0, waiting=1
)
LIMITS = Limits(PoolSizes(max_enis=1, per_eni=6), "ecs.g7.large", 1)
NOON = 1795608000.0
"""2026-11-25 12:00:00 UTC."""


def test_a_refusal_says_what_then_what_to_do_then_when_and_last_how_full_the_node_is() -> None:
    refusal = CloudError(
        "AssignPrivateIpAddresses of ENI eni-1 failed: Forbidden.RAM",
        cause=Cause.FORBIDDEN,
        action="AssignPrivateIpAddresses",
        remedy="grant it",
    )
    told = exhausted(STATS, Rejection(refusal, NOON + 5, 10.0), NOON + 20, now=NOON, limits=LIMITS)
    assert str(told) == (
        "AssignPrivateIpAddresses of ENI eni-1 failed: Forbidden.RAM; grant it; "
        "next try in 5 s (at 12:00:05 UTC); 5 of 6 addresses in use, 1 cooling"
    )
    assert (told.cause, told.retry_after) == (Cause.FORBIDDEN, 5.0)


def test_cooling_addresses_come_by_themselves() -> None:
    told = exhausted(STATS, None, NOON + 20, now=NOON, limits=LIMITS)
    assert told.cause is Cause.COOLING
    assert "may be used in 20 s (at 12:00:20 UTC)" in str(told)


def test_a_full_node_names_what_limits_it() -> None:
    told = exhausted(STATS, None, None, now=NOON, limits=LIMITS)
    assert told.cause is Cause.POOL_LIMIT
    assert "ecs.g7.large with `max_eni` 1 gives pods 1 ENI of 6 addresses" in str(told)
    assert "a larger instance type or `max_eni`;" in str(told)
    by_type = exhausted(STATS, None, None, now=NOON, limits=Limits(PoolSizes(2, 6), "ecs.g7.large", 0))
    assert "instance type ecs.g7.large gives pods 2 ENIs of 6 addresses" in str(by_type)
    assert "max_eni" not in str(by_type)


def test_a_cloud_that_is_slow_is_not_a_node_that_is_full() -> None:
    assert out_of_patience(STATS, 100.0).temporary


def test_another_vswitch_is_no_help_to_a_node_without_room_for_an_eni() -> None:
    full = CloudError("full", cause=Cause.VSWITCH_FULL, action="AssignPrivateIpAddresses", remedy="add one")
    for enis, expected in ((1, False), (2, True)):
        limits = Limits(PoolSizes(2, 6), "ecs.g7.large", 0, enis)
        told = str(exhausted(STATS, Rejection(full, NOON + 5, 5.0), None, now=NOON, limits=limits))
        assert ("another vSwitch serves other nodes only" in told) == expected

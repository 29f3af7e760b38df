"""How large the pool is and when it grows: arithmetic, with the bound that an ENI leak once lacked."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from control.ipam import sizing
from control.ipam.sizing import Assign, Create, EniView, PoolSizes, PoolView
from control.model.cloud import InstanceLimits
from control.model.ids import EniId

LIMITS = InstanceLimits("ecs.g7.xlarge", 4, 15, 15, 6, True)


def _sizes(**changes: int) -> PoolSizes:
    return PoolSizes(**{"max_enis": 3, "per_eni": 15, "min_pool": 0, "max_pool": 5, **changes})  # type: ignore[arg-type]


def _view(*enis: EniView, usable: int = 0, coming: int = 0, waiting: int = 0, leaving: int = 0) -> PoolView:
    return PoolView(enis, leaving=leaving, usable=usable, coming=coming, waiting=waiting)


@pytest.mark.parametrize(
    ("kwargs", "enis", "capacity", "floor", "ceiling"),
    [
        ({"min_pool": 0, "max_pool": 5}, 3, 45, 0, 5),
        ({"min_pool": 10, "max_pool": 5}, 3, 45, 10, 10),
        ({"min_pool": 0, "max_pool": 5, "max_eni": 1}, 1, 15, 0, 5),
        ({"min_pool": 0, "max_pool": 5, "ratio": 0.5}, 1, 15, 0, 5),
        ({"min_pool": 0, "max_pool": 5, "shift": -9}, 0, 0, 0, 0),
        ({"min_pool": 0, "max_pool": 5, "min_eni": 2}, 3, 45, 30, 30),
        ({"min_pool": 99, "max_pool": 999}, 3, 45, 45, 45),
    ],
)
def test_sizes_follow_the_instance_type(
    kwargs: dict[str, int], enis: int, capacity: int, floor: int, ceiling: int
) -> None:
    sizes = sizing.pool_sizes(LIMITS, **kwargs)  # type: ignore[arg-type]
    assert (sizes.max_enis, sizes.capacity, sizes.min_pool, sizes.max_pool) == (
        enis,
        capacity,
        floor,
        ceiling,
    )


def test_dual_stack_is_off_where_the_type_has_fewer_ipv6_addresses() -> None:
    fewer = InstanceLimits("ecs.g6.large", 2, 6, 1, 2, False)
    assert not sizing.pool_sizes(fewer, min_pool=0, max_pool=5, dual=True).dual
    assert sizing.pool_sizes(LIMITS, min_pool=0, max_pool=5, dual=True).dual


def test_first_pod_on_an_empty_node_creates_one_eni_with_the_idle_ones_in_the_same_call() -> None:
    growth = sizing.grow(_view(waiting=1), _sizes())
    assert growth.steps == (Create(6),)
    assert growth.short == 0


def test_room_on_a_serving_eni_is_used_before_a_new_eni() -> None:
    growth = sizing.grow(_view(EniView(EniId("eni-1"), 6), waiting=1), _sizes())
    assert growth.steps == (Assign(EniId("eni-1"), 6),)


def test_what_comes_while_a_call_is_under_way_waits_for_it() -> None:
    busy = EniView(EniId("eni-1"), 12, busy=True)
    growth = sizing.grow(_view(busy, coming=6, waiting=8), _sizes())
    assert growth.steps == ()
    assert growth.short == 0, "the busy ENI has room for the other two"


def test_more_waiting_than_the_busy_eni_can_ever_hold_makes_a_second_eni() -> None:
    busy = EniView(EniId("eni-1"), 15, busy=True)
    growth = sizing.grow(_view(busy, coming=6, waiting=9), _sizes())
    assert growth.steps == (Create(8),)


def test_room_that_one_call_does_not_fill_is_for_the_next_call_and_not_for_another_eni() -> None:
    sizes = _sizes(per_eni=30, max_enis=7)
    growth = sizing.grow(_view(EniView(EniId("eni-1"), 6), waiting=24), sizes)
    assert growth == sizing.Growth((Assign(EniId("eni-1"), 10),))
    cold = sizing.grow(_view(waiting=100), sizes)
    assert cold == sizing.Growth((Create(10),) * 4)


def test_serving_enis_are_asked_at_once_each_for_a_part() -> None:
    enis = (EniView(EniId("eni-1"), 6), EniView(EniId("eni-2"), 5))
    growth = sizing.grow(_view(*enis, waiting=12), _sizes(per_eni=30))
    assert growth.steps == (Assign(EniId("eni-1"), 10), Assign(EniId("eni-2"), 7))


def test_at_capacity_the_waiting_are_told_at_once() -> None:
    full = tuple(EniView(EniId(f"eni-{i}"), 15) for i in range(3))
    growth = sizing.grow(_view(*full, waiting=4), _sizes())
    assert growth.steps == ()
    assert growth.short == 4


def test_a_blocked_eni_gets_no_step_and_a_blocked_creation_none_either() -> None:
    blocked = EniView(EniId("eni-1"), 3, blocked=True)
    view = PoolView((blocked,), leaving=0, usable=0, coming=0, waiting=2, create_blocked=True)
    assert sizing.grow(view, _sizes()) == sizing.Growth((), 2)


def test_where_addresses_are_scarce_one_is_asked_for_and_none_to_spare() -> None:
    one, two = (EniView(EniId(f"eni-{i}"), 7 - i, most=1) for i in (1, 2))
    assert sizing.grow(_view(one, waiting=3), _sizes()) == sizing.Growth((Assign(EniId("eni-1"), 1),))
    both = sizing.grow(_view(one, two, waiting=3), _sizes())
    assert both.steps == (Assign(EniId("eni-1"), 1),), "a refusal tells of both"
    assert sizing.grow(_view(replace(one, most=4), waiting=3), _sizes()).steps == (Assign(EniId("eni-1"), 3),)
    cold = sizing.grow(replace(_view(waiting=3), create_most=1), _sizes())
    assert cold == sizing.Growth((Create(1),)), "one ENI has room for all three"


def test_an_eni_whose_vswitch_has_plenty_is_asked_first_and_as_ever() -> None:
    scarce, plenty = EniView(EniId("eni-1"), 9, most=1), EniView(EniId("eni-2"), 2)
    growth = sizing.grow(_view(scarce, plenty, waiting=2), _sizes())
    assert growth.steps == (Assign(EniId("eni-2"), 7),)
    many = sizing.grow(_view(scarce, plenty, waiting=14), _sizes())
    assert many.steps == (Assign(EniId("eni-2"), 10), Assign(EniId("eni-1"), 1))


def test_scarcity_does_not_leave_anybody_waiting_for_room_that_is_not_there() -> None:
    view = replace(_view(EniView(EniId("eni-1"), 14, most=1), waiting=17), create_most=1)
    one_slot = sizing.grow(view, _sizes(max_enis=2))
    assert one_slot == sizing.Growth((Assign(EniId("eni-1"), 1), Create(1)), 1)


def test_dual_stack_catches_up_with_missing_ipv6() -> None:
    sizes = PoolSizes(3, 15, 0, 5, dual=True)
    growth = sizing.grow(_view(EniView(EniId("eni-1"), 4, 2), waiting=1), sizes)
    assert growth.steps == (Assign(EniId("eni-1"), 4, 6),)
    full = sizing.grow(_view(EniView(EniId("eni-1"), 15, 5), waiting=1), sizes)
    assert full.steps == (Assign(EniId("eni-1"), 0, 6),)
    ahead = sizing.grow(_view(EniView(EniId("eni-1"), 5, 15), waiting=1), sizes)
    assert ahead.steps == (Assign(EniId("eni-1"), 6, 0),)


def test_minimum_is_kept_without_anybody_waiting() -> None:
    assert sizing.grow(_view(usable=1), _sizes(min_pool=4)).steps == (Create(3),)
    assert sizing.grow(_view(usable=4), _sizes(min_pool=4)).steps == ()


def test_no_input_makes_the_pool_ask_for_more_than_pods_and_maximum() -> None:
    """A stale pod once kept demand above zero for ever: upstream PR 1030, unbounded ENI creation."""
    rng = random.Random(20261123)
    for _ in range(20_000):
        sizes = _sizes(
            max_enis=rng.randint(0, 8),
            per_eni=rng.randint(1, 30),
            min_pool=rng.randint(0, 10),
            max_pool=rng.randint(10, 30),
        )
        enis = tuple(
            EniView(
                EniId(f"eni-{i}"), rng.randint(0, sizes.per_eni), 0, rng.random() < 0.3, rng.random() < 0.3
            )
            for i in range(rng.randint(0, sizes.max_enis))
        )
        view = PoolView(
            enis,
            leaving=rng.randint(0, max(0, sizes.max_enis - len(enis))),
            usable=rng.randint(0, 40),
            coming=rng.randint(0, 20),
            waiting=rng.randint(0, 120),
        )
        growth = sizing.grow(view, sizes)
        asked = sum(s.ipv4 for s in growth.steps)
        created = sum(isinstance(s, Create) for s in growth.steps)
        assert asked <= view.waiting + sizes.max_pool
        assert len(enis) + view.leaving + created <= sizes.max_enis
        assert all(1 <= s.ipv4 <= sizing.BATCH for s in growth.steps)
        by_eni = {e.eni_id: e for e in enis}
        for step in growth.steps:
            if isinstance(step, Assign):
                assert by_eni[step.eni_id].ipv4 + step.ipv4 <= sizes.per_eni
                assert not by_eni[step.eni_id].busy
        assert growth.short <= view.waiting


@pytest.mark.parametrize(
    ("usable", "quiet", "due", "expected"),
    [(9, 0, True, 4), (9, 99, False, 4), (5, 99, True, 3), (3, 99, True, 1), (2, 99, True, 0)],
)
def test_idle_reclaim_goes_below_the_maximum_and_never_below_the_minimum(
    usable: int, quiet: float, due: bool, expected: int
) -> None:
    settings = sizing.ReclaimSettings(after=60, interval=600, batch=3)
    sizes = _sizes(min_pool=2)
    assert sizing.reclaim(usable, sizes, settings, quiet=quiet, due=due) == expected

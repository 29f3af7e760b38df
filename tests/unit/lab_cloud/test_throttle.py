"""Flow control by strict minutes of the lab's clock. Field failures 29 and 30."""

from __future__ import annotations

import pytest
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_tea_openapi.exceptions import ThrottlingException

from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal

THROTTLED = Refusal("Throttling.User", 400)


def _to_the_next_minute(cloud: Bench) -> None:
    cloud.clock.advance(60 - cloud.clock.now() % 60)


def test_so_many_in_a_minute_and_again_in_the_next(cloud: Bench) -> None:
    cloud.state.throttle.limits["CreateNetworkInterface"] = 2
    _to_the_next_minute(cloud)
    cloud.create()
    cloud.create()
    assert refusal(cloud.create) == THROTTLED
    assert len(cloud.describe(type="Secondary")) == 2
    _to_the_next_minute(cloud)
    cloud.create()
    cloud.create()
    assert refusal(cloud.create) == THROTTLED
    assert cloud.state.calls()["CreateNetworkInterface"] == 6


def test_each_api_has_its_own_budget(cloud: Bench) -> None:
    cloud.state.throttle.limits["CreateNetworkInterface"] = 0
    assert refusal(cloud.create) == THROTTLED
    assert len(cloud.describe()) == 3


def test_a_retry_time_is_announced_if_wanted(cloud: Bench) -> None:
    cloud.state.throttle.limits["DescribeNetworkInterfaces"] = 0
    request = ecs.DescribeNetworkInterfacesRequest(region_id=REGION)
    assert refusal(lambda: cloud.ecs().describe_network_interfaces(request)) == THROTTLED
    cloud.state.throttle.announce_retry = True
    cloud.state.throttle.code = "Throttling"
    with pytest.raises(ThrottlingException) as throttled:
        cloud.ecs().describe_network_interfaces(request)
    assert throttled.value.code == "Throttling"
    assert 1 <= int(throttled.value.retry_after) <= 60


def test_defaults(cloud: Bench) -> None:
    limits = cloud.state.throttle.limits
    assert (limits["AssignPrivateIpAddresses"], limits["DescribeVSwitches"]) == (400, 300)
    assert limits.get("AttachNetworkInterface", cloud.state.throttle.default) == 500

"""Faults on demand, and the log of calls that tests count with."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_tea_util.models import RuntimeOptions

from lab.cloud.faults import Distortion, Fault
from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal

INTERNAL = Fault("AttachNetworkInterface", code="InternalError", status=500)


def test_an_error_so_many_times(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    cloud.state.faults.add(
        Fault("AttachNetworkInterface", code="InternalError", status=500, message="Oops.", count=2)
    )
    for _ in range(2):
        assert refusal(lambda: cloud.attach(eni)) == Refusal("InternalError", 500)
    assert cloud.status(eni) == "Available"
    cloud.attach(eni)


def test_for_one_instance_or_one_eni(cloud: Bench) -> None:
    one, two = cloud.create().network_interface_id, cloud.create().network_interface_id
    number = cloud.state.faults.add(
        Fault("AttachNetworkInterface", instance_id="i-node2", code="Forbidden", status=403)
    )
    cloud.attach(one, "i-node1")
    assert refusal(lambda: cloud.attach(two, "i-node2")) == Refusal("Forbidden", 403)
    cloud.state.faults.remove(number)
    cloud.attach(two, "i-node2")
    cloud.state.faults.add(Fault(eni_id=one, code="ServiceUnavailable", status=503))
    cloud.state.faults.add(Fault("AssignPrivateIpAddresses", instance_id="i-node2", code="Gone"))
    assert refusal(lambda: cloud.detach(one)) == Refusal("ServiceUnavailable", 503)
    assert refusal(lambda: cloud.assign(two, 1)) == Refusal("Gone", 400)
    cloud.state.faults.clear()
    cloud.detach(one)
    cloud.assign(two, 1)


def test_a_slow_answer_and_an_impatient_client(cloud: Bench) -> None:
    """The call has its effect all the same, which the log shows once it is over."""
    cloud.state.faults.add(Fault("CreateNetworkInterface", latency=0.3, count=1))
    request = ecs.CreateNetworkInterfaceRequest(
        region_id=REGION, v_switch_id="vsw-pods", security_group_id="sg-cluster"
    )
    with pytest.raises(Exception, match=r"(?i)timed? ?out"):
        cloud.ecs().create_network_interface_with_options(request, RuntimeOptions(read_timeout=50))
    deadline = time.monotonic() + 10
    while not cloud.state.calls().get("CreateNetworkInterface") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(cloud.describe(type="Secondary")) == 1


def test_a_second_write_while_one_is_slow_conflicts(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    cloud.state.faults.add(Fault("AssignPrivateIpAddresses", latency=30.0, count=1))
    conflict = Refusal("Operation.Conflict", 403)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(cloud.assign, eni, 1)
        try:
            deadline = time.monotonic() + 10
            while (seen := refusal(lambda: cloud.unassign(eni, "10.0.25.1"))) != conflict:
                assert seen == Refusal("InvalidIp.IpUnassigned", 403)
                assert time.monotonic() < deadline
        finally:
            cloud.openapi.stop()


def test_calls_are_counted_and_listed(cloud: Bench) -> None:
    cloud.create()
    refusal(lambda: cloud.attach("eni-none"))
    assert cloud.state.calls() == {"CreateNetworkInterface": 1, "AttachNetworkInterface": 1}
    create, attach = cloud.state.recent_calls()
    assert (create.code, attach.code) == ("", "InvalidEniId.NotFound")
    assert create.caller == f"{cloud.state.spec.access_key}@127.0.0.1"
    assert create.request_id != attach.request_id
    assert create.at <= attach.at <= cloud.clock.now()
    cloud.state.reset_calls()
    assert (cloud.state.calls(), cloud.state.recent_calls()) == ({}, ())


def test_answers_that_do_not_tell_what_happened(cloud: Bench) -> None:
    """The call has its effect, and its token the same untrue answer for good."""
    eni = cloud.create().network_interface_id
    cloud.attach(eni)
    for how, named in (("fewer", 1), ("another", 3)):
        cloud.state.faults.add(Fault("AssignPrivateIpAddresses", distortion=Distortion(how), count=1))
        told = cloud.assign(eni, 3, client_token=how)
        assert len(told) == named
        assert cloud.assign(eni, 3, client_token=how) == told
        if how == "another":
            assert set(told) == {"10.99.99.99"}
    cloud.state.faults.add(Fault("CreateNetworkInterface", distortion=Distortion.ANOTHER, count=1))
    assert cloud.create().network_interface_id == "eni-of-somebody-else"
    cloud.state.faults.add(Fault("CreateNetworkInterface", distortion=Distortion.EMPTY, count=1))
    assert cloud.create().network_interface_id is None
    assert len(cloud.describe(type="Secondary")) == 3
    (described,) = [e for e in cloud.describe(type="Secondary") if e.network_interface_id == eni]
    assert len(described.private_ip_sets.private_ip_set) == 1 + 3 + 3


def test_the_state_as_json_names_everything(cloud: Bench) -> None:
    made = cloud.create()
    cloud.state.faults.add(INTERNAL)
    cloud.state.occupy("vsw-pods", leave=7)
    state = cloud.state.describe_state()
    enis = state["enis"]
    assert isinstance(enis, list)
    assert enis[-1]["addresses"] == [made.private_ip_address]
    assert state["occupied"] == {"vsw-pods": 4096 - 4 - 1 - 7}
    assert state["faults"]
    assert state["calls"] == {"CreateNetworkInterface": 1}

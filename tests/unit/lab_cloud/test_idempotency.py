"""ClientToken: one effect, one answer. Field failure 12: a lost answer must not leak an ENI."""

from __future__ import annotations

import pytest
from aliyunsdkecs.request.v20140526.CreateNetworkInterfaceRequest import CreateNetworkInterfaceRequest

from lab.cloud.errors import ApiError
from lab.cloud.faults import Drop, Fault
from lab.cloud.idempotency import ClientTokens
from tests.unit.lab_cloud.bench import Bench, Refusal, refusal


def test_the_same_call_again_has_the_first_answer_and_no_effect(cloud: Bench) -> None:
    first = cloud.create(client_token="t", secondary_private_ip_address_count=2)
    again = cloud.create(client_token="t", secondary_private_ip_address_count=2)
    assert again.network_interface_id == first.network_interface_id
    assert again.request_id != first.request_id
    assert len(cloud.describe(type="Secondary")) == 1
    given = cloud.assign(first.network_interface_id, 2, client_token="t")
    assert cloud.assign(first.network_interface_id, 2, client_token="t") == given


def test_the_envelope_of_the_older_style_is_not_part_of_the_call(cloud: Bench) -> None:
    """Each try has a nonce, a time and a signature of its own."""
    request = CreateNetworkInterfaceRequest()
    request.set_VSwitchId("vsw-pods")
    request.set_SecurityGroupId("sg-cluster")
    request.set_ClientToken("t")
    assert cloud.rpc_call(request)["NetworkInterfaceId"] == cloud.rpc_call(request)["NetworkInterfaceId"]
    newer = cloud.create(client_token="t")
    assert len(cloud.describe(type="Secondary")) == 1
    assert newer.network_interface_id == cloud.describe(type="Secondary")[0].network_interface_id


def test_other_parameters_do_not_go_with_a_used_token(cloud: Bench) -> None:
    cloud.create(client_token="t")
    assert refusal(lambda: cloud.create(client_token="t", description="other")) == Refusal(
        "IdempotentParameterMismatch", 400
    )
    assert len(cloud.describe(type="Secondary")) == 1


def test_a_token_lasts_a_day_of_the_labs_clock(cloud: Bench) -> None:
    first = cloud.create(client_token="t").network_interface_id
    cloud.clock.advance(23 * 3600)
    assert cloud.create(client_token="t").network_interface_id == first
    cloud.clock.advance(3601)
    assert cloud.create(client_token="t").network_interface_id != first


def test_a_refused_call_may_be_repeated_with_its_token(cloud: Bench) -> None:
    cloud.state.occupy("vsw-pods", leave=0)
    full = Refusal("InvalidVSwitchId.IpNotEnough", 403)
    assert refusal(lambda: cloud.create(client_token="t")) == full
    cloud.state.release_occupied("vsw-pods")
    assert cloud.create(client_token="t").network_interface_id


@pytest.mark.parametrize(("drop", "effects"), [(Drop.AFTER, 1), (Drop.BEFORE, 0)])
def test_a_lost_answer_and_the_retry(cloud: Bench, drop: Drop, effects: int) -> None:
    cloud.state.faults.add(Fault("CreateNetworkInterface", drop=drop, count=1))
    with pytest.raises(Exception, match=r"(?i)connection|remote|aborted") as lost:
        cloud.create(client_token="t")
    assert getattr(lost.value, "code", None) is None
    assert len(cloud.describe(type="Secondary")) == effects
    made = cloud.create(client_token="t").network_interface_id
    assert [eni.network_interface_id for eni in cloud.describe(type="Secondary")] == [made]
    codes = [c.code for c in cloud.state.recent_calls() if c.action == "CreateNetworkInterface"]
    assert codes == ["Dropped", ""]


def test_without_a_token_a_lost_answer_is_an_eni_more(cloud: Bench) -> None:
    cloud.state.faults.add(Fault("CreateNetworkInterface", drop=Drop.AFTER, count=1))
    with pytest.raises(Exception, match=r"(?i)connection|remote|aborted"):
        cloud.create()
    cloud.create()
    assert len(cloud.describe(type="Secondary")) == 2


def test_a_token_whose_call_is_under_way() -> None:
    tokens = ClientTokens()
    assert tokens.begin("A", "t", {"x": "1"}, now=0.0) is None
    with pytest.raises(ApiError) as processing:
        tokens.begin("A", "t", {"x": "1"}, now=0.0)
    assert (processing.value.code, processing.value.status) == ("IdempotentProcessing", 403)
    assert tokens.begin("B", "t", {"x": "1"}, now=0.0) is None
    tokens.give_up("A", "t")
    assert tokens.begin("A", "t", {"x": "2"}, now=0.0) is None
    tokens.finish("A", "t", {"answer": 1})
    assert tokens.begin("A", "t", {"x": "2"}, now=0.0) == {"answer": 1}

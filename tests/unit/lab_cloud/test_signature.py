"""Both signature styles, and everything the gateway refuses before an action is looked at."""

from __future__ import annotations

import pytest
from alibabacloud_ecs20140526 import models as ecs
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkecs.request.v20140526.AssignPrivateIpAddressesRequest import AssignPrivateIpAddressesRequest
from aliyunsdkecs.request.v20140526.CreateNetworkInterfaceRequest import CreateNetworkInterfaceRequest
from aliyunsdkecs.request.v20140526.DescribeNetworkInterfacesRequest import DescribeNetworkInterfacesRequest

from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal
from tests.unit.lab_cloud.wire import Signed, acs3, rpc, timestamp

ACTION = "DescribeNetworkInterfaces"


def _signed(style: str, cloud: Bench) -> Signed:
    query = {"VpcId": "vpc-lab", "NetworkInterfaceName": "a b+c*d~e/é"}
    return acs3(cloud, ACTION, query) if style == "acs3" else rpc(cloud, ACTION, query)


@pytest.fixture(params=["acs3", "rpc"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_signed_call_is_answered(cloud: Bench, style: str) -> None:
    status, body, headers = _signed(style, cloud).send(cloud)
    assert (status, body["TotalCount"]) == (200, 0)
    assert headers["x-acs-request-id"] == body["RequestId"]


def test_a_changed_parameter_is_noticed(cloud: Bench, style: str) -> None:
    signed = _signed(style, cloud)
    signed.query["VpcId"] = "vpc-other"
    assert signed.code(cloud) == ("SignatureDoesNotMatch", 400)


def test_an_added_parameter_is_noticed(cloud: Bench, style: str) -> None:
    signed = _signed(style, cloud)
    signed.query["Status"] = ""
    assert signed.code(cloud) == ("SignatureDoesNotMatch", 400)


def test_another_method_is_noticed(cloud: Bench, style: str) -> None:
    signed = _signed(style, cloud)
    signed.method = "GET" if signed.method == "POST" else "POST"
    assert signed.code(cloud) == ("SignatureDoesNotMatch", 400)


def test_the_same_request_works_once(cloud: Bench, style: str) -> None:
    signed = _signed(style, cloud)
    assert signed.code(cloud) == ("", 200)
    assert signed.code(cloud) == ("SignatureNonceUsed", 400)


@pytest.mark.parametrize("skew", [-1000.0, 1000.0])
def test_a_clock_that_is_wrong(cloud: Bench, style: str, skew: float) -> None:
    cloud.openapi.authenticator.clock_skew = skew
    assert _signed(style, cloud).code(cloud) == ("InvalidTimeStamp.Expired", 400)
    cloud.openapi.authenticator.clock_skew = skew / 2
    assert _signed(style, cloud).code(cloud) == ("", 200)


def test_the_labs_clock_may_jump_a_day_without_locking_clients_out(cloud: Bench, style: str) -> None:
    cloud.clock.advance(86400)
    assert _signed(style, cloud).code(cloud) == ("", 200)


@pytest.mark.parametrize("header", ["x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce"])
def test_a_changed_acs3_header_is_noticed(cloud: Bench, header: str) -> None:
    signed = acs3(cloud, ACTION, {})
    signed.headers[header] = timestamp(5) if header == "x-acs-date" else "DeleteNetworkInterface"
    assert signed.code(cloud) == ("SignatureDoesNotMatch", 400)


def test_a_changed_acs3_body_is_noticed(cloud: Bench) -> None:
    signed = acs3(cloud, ACTION, {})
    signed.body = "VpcId=vpc-lab"
    assert signed.code(cloud) == ("SignatureDoesNotMatch", 400)


@pytest.mark.parametrize("header", ["x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce"])
def test_a_header_outside_the_signature_does_not_count(cloud: Bench, header: str) -> None:
    signed = acs3(cloud, ACTION, {}, unsigned=header)
    assert header in signed.headers
    assert header not in signed.headers["Authorization"]
    assert signed.code(cloud) == ("SignatureDoesNotMatch", 400)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [("ACS3-HMAC-SHA256 nonsense", "IncompleteSignature"), ("Bearer x", "MissingParameter")],
)
def test_a_malformed_authorization(cloud: Bench, authorization: str, code: str) -> None:
    signed = acs3(cloud, ACTION, {})
    signed.headers["Authorization"] = authorization
    assert signed.code(cloud) == (code, 400)


def test_a_missing_acs3_header(cloud: Bench) -> None:
    signed = acs3(cloud, ACTION, {})
    del signed.headers["x-acs-date"]
    assert signed.code(cloud) == ("MissingParameter", 400)


def test_a_date_in_another_format(cloud: Bench) -> None:
    assert acs3(cloud, ACTION, {}, x_acs_date="yesterday").code(cloud) == ("InvalidTimeStamp.Format", 400)


def test_rpc_parameters_in_a_form(cloud: Bench) -> None:
    signed = rpc(cloud, ACTION, {}, method="POST", form={"NetworkInterfaceId.1": "eni-node1", "Status": ""})
    status, body, _ = signed.send(cloud)
    assert (status, body["TotalCount"]) == (200, 1)
    signed = rpc(cloud, ACTION, {}, method="POST", form={"NetworkInterfaceId.1": "eni-node1"})
    signed.body = signed.body.replace("node1", "node2")
    assert signed.code(cloud) == ("SignatureDoesNotMatch", 400)


@pytest.mark.parametrize("name", ["SignatureNonce", "Timestamp", "AccessKeyId"])
def test_a_missing_rpc_parameter(cloud: Bench, name: str) -> None:
    signed = rpc(cloud, ACTION, {})
    del signed.query[name]
    assert signed.code(cloud) == ("MissingParameter", 400)


def test_wrong_keys_in_the_newer_sdk(cloud: Bench) -> None:
    def describe(**credentials: str) -> Refusal:
        request = ecs.DescribeNetworkInterfacesRequest(region_id=REGION)
        return refusal(lambda: cloud.ecs(**credentials).describe_network_interfaces(request))

    assert describe(secret="wrong") == Refusal("SignatureDoesNotMatch", 400)
    assert describe(key="LTAIunknown") == Refusal("InvalidAccessKeyId.NotFound", 404)


def test_wrong_keys_in_the_older_sdk(cloud: Bench) -> None:
    """It tells a wrong secret from a bug by the string to sign that our message quotes."""
    with pytest.raises(ServerException) as wrong:
        cloud.rpc_call(DescribeNetworkInterfacesRequest(), cloud.rpc(secret="wrong"))
    assert wrong.value.get_error_code() == "InvalidAccessKeySecret"
    with pytest.raises(ServerException) as unknown:
        cloud.rpc_call(DescribeNetworkInterfacesRequest(), cloud.rpc(key="LTAIunknown"))
    assert (unknown.value.get_error_code(), unknown.value.get_http_status()) == (
        "InvalidAccessKeyId.NotFound",
        404,
    )


def test_the_older_sdk_writes_too(cloud: Bench) -> None:
    create = CreateNetworkInterfaceRequest()
    create.set_VSwitchId("vsw-pods")
    create.set_SecurityGroupIdss(["sg-cluster", "sg-other"])
    create.set_Description("interface create by terway, 100% of *this* ~")
    create.set_Tags([{"Key": "creator", "Value": "terway"}])
    made = cloud.rpc_call(create)
    assert made["SecurityGroupIds"]["SecurityGroupId"] == ["sg-cluster", "sg-other"]
    assert made["Tags"]["Tag"] == [{"TagKey": "creator", "TagValue": "terway"}]
    assign = AssignPrivateIpAddressesRequest()
    assign.set_NetworkInterfaceId(made["NetworkInterfaceId"])
    assign.set_SecondaryPrivateIpAddressCount(3)
    given = cloud.rpc_call(assign)["AssignedPrivateIpAddressesSet"]["PrivateIpSet"]["PrivateIpAddress"]
    assert len(given) == 3
    assign.set_SecondaryPrivateIpAddressCount(40)
    cloud.attach(made["NetworkInterfaceId"])
    with pytest.raises(ServerException) as refused:
        cloud.rpc_call(assign)
    assert refused.value.get_error_code() == "InvalidOperation.Ipv4CountExceeded"


@pytest.mark.parametrize(
    ("action", "version", "expected"),
    [
        ("NoSuchAction", "2014-05-26", ("InvalidAction.NotFound", 404)),
        ("DescribeVSwitches", "2014-05-26", ("InvalidAction.NotFound", 404)),
        ("DescribeVSwitches", "2016-04-28", ("", 200)),
        ("DescribeVSwitches", "1999-01-01", ("InvalidVersion", 400)),
    ],
)
def test_the_version_tells_the_api(
    cloud: Bench, action: str, version: str, expected: tuple[str, int]
) -> None:
    assert acs3(cloud, action, {}, x_acs_version=version).code(cloud) == expected


def test_ram_forbids(cloud: Bench) -> None:
    cloud.state.credentials.deny("CreateNetworkInterface")
    assert refusal(cloud.create) == Refusal("Forbidden.RAM", 403)
    cloud.state.credentials.allow_all()
    cloud.state.credentials.deny("CreateNetworkInterface", "AnotherRole")
    cloud.create()

from __future__ import annotations

import pytest

from control.aliyun.errors import Refusal, Subject, Transport, cause_of, cloud_error
from control.model.errors import Cause, CloudError

SUBJECT = Subject(
    eni="eni-1", instance="i-1", vswitch="vsw-1", groups="sg-1, sg-2", instance_type="ecs.g7.large"
)

CODES = {
    "Throttling": Cause.THROTTLED,
    "Throttling.User": Cause.THROTTLED,
    "Throttling.Api": Cause.THROTTLED,
    "InternalError": Cause.INTERNAL,
    "ServiceUnavailable": Cause.INTERNAL,
    "Operation.Conflict": Cause.CONFLICT,
    "IdempotentProcessing": Cause.CONFLICT,
    "IdempotentFailed": Cause.IDEMPOTENCY,
    "IdempotentParameterMismatch": Cause.IDEMPOTENCY,
    "InvalidVSwitchId.IpNotEnough": Cause.VSWITCH_FULL,
    "InvalidVSwitchId.NotFound": Cause.INVALID_VSWITCH,
    "InvalidVSwitch.Ipv6NotTurnOn": Cause.INVALID_VSWITCH,
    "QuotaExceeded.PrivateIpAddress": Cause.VSWITCH_FULL,
    "QuotaExceeded.Eni": Cause.ENI_QUOTA,
    "MaxEniCountExceeded": Cause.ENI_QUOTA,
    "EniPerInstanceLimitExceeded": Cause.ENI_QUOTA,
    "SecurityGroupInstanceLimitExceed": Cause.SECURITY_GROUP_FULL,
    "InvalidOperation.EniCountExceeded": Cause.SECURITY_GROUP_FULL,
    "InvalidSecurityGroupId.NotFound": Cause.INVALID_SECURITY_GROUP,
    "InvalidSecurityGroupId.NotVpc": Cause.INVALID_SECURITY_GROUP,
    "InvalidOperation.VpcMismatch": Cause.INVALID_SECURITY_GROUP,
    "InvalidOperation.MultiGroupType": Cause.INVALID_SECURITY_GROUP,
    "InvalidOperation.NotSupportEnterpriseGroup": Cause.INVALID_SECURITY_GROUP,
    "InvalidIp.IpUnassigned": Cause.ADDRESS_GONE,
    "InvalidEniId.NotFound": Cause.ENI_GONE,
    "InvalidEcsId.NotFound": Cause.INSTANCE_GONE,
    "InvalidOperation.Ipv4CountExceeded": Cause.IP_QUOTA,
    "InvalidOperation.Ipv6CountExceeded": Cause.IP_QUOTA,
    "InvalidOperation.InvalidEniState": Cause.ENI_STATE,
    "Forbidden.RAM": Cause.FORBIDDEN,
    "Forbidden.RegionId": Cause.UNSUPPORTED,
    "Abs.InvalidAccount.NotFound": Cause.CREDENTIALS,
    "InvalidAccessKeyId.NotFound": Cause.CREDENTIALS,
    "InvalidAccessKeyId.Inactive": Cause.CREDENTIALS,
    "SignatureDoesNotMatch": Cause.CREDENTIALS,
    "InvalidTimeStamp.Expired": Cause.CREDENTIALS,
    "InvalidSecurityToken.Malformed": Cause.CREDENTIALS,
    "InvalidSecurityToken.Expired": Cause.CREDENTIALS_EXPIRED,
    "InvalidRegionId.NotFound": Cause.CONFIG,
    "InvalidParameter.Description": Cause.REQUEST,
}


def error(refusal: Refusal, *, now: float = 0.0) -> CloudError:
    return cloud_error(refusal, action="CreateNetworkInterface", subject=SUBJECT, now=now)


@pytest.mark.parametrize(("code", "cause"), CODES.items(), ids=str)
def test_codes_have_causes(code: str, cause: Cause) -> None:
    assert cause_of(Refusal(code=code, status=400)) is cause


@pytest.mark.parametrize("code", CODES)
def test_each_error_says_what_was_tried_and_what_to_do(code: str) -> None:
    raised = error(Refusal(code=code, status=400, message="no", request_id="REQ-1"))
    assert raised.what.startswith("CreateNetworkInterface of ENI eni-1, instance i-1, vSwitch vsw-1")
    assert raised.what.endswith(f"failed: {code} (no), request REQ-1")
    assert len(raised.remedy) > 20
    assert "{" not in raised.remedy
    assert (raised.action, raised.code, raised.request_id) == ("CreateNetworkInterface", code, "REQ-1")


@pytest.mark.parametrize("transport", Transport)
def test_each_broken_call_says_how_and_what_to_do(transport: Transport) -> None:
    raised = error(Refusal(transport=transport))
    assert transport in raised.what
    assert raised.remedy
    assert raised.temporary


def test_time_outs_are_told_from_refusals() -> None:
    assert cause_of(Refusal(transport=Transport.CONNECT_TIMEOUT)) is Cause.TIMEOUT
    assert cause_of(Refusal(transport=Transport.READ_TIMEOUT)) is Cause.TIMEOUT
    assert cause_of(Refusal(transport=Transport.REFUSED)) is Cause.UNREACHABLE


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (400, Cause.REQUEST),
        (401, Cause.CREDENTIALS),
        (403, Cause.FORBIDDEN),
        (404, Cause.REQUEST),
        (429, Cause.THROTTLED),
        (500, Cause.INTERNAL),
        (503, Cause.INTERNAL),
    ],
)
def test_an_unknown_code_goes_by_its_status(status: int, cause: Cause) -> None:
    assert cause_of(Refusal(code="Unheard.Of", status=status)) is cause


def test_throttled_until_the_next_minute() -> None:
    assert error(Refusal(code="Throttling"), now=120.0).retry_after == 60
    assert error(Refusal(code="Throttling"), now=179.5).retry_after == 0.5
    assert error(Refusal(code="InternalError")).retry_after is None


def test_a_told_time_may_be_in_seconds_or_milliseconds() -> None:
    assert error(Refusal(code="Throttling", retry_after=40)).retry_after == 40
    assert error(Refusal(code="Throttling", retry_after=40_000)).retry_after == 40


def test_the_remedy_names_the_object() -> None:
    assert "vSwitch vsw-1" in error(Refusal(code="InvalidVSwitchId.IpNotEnough")).remedy
    assert "sg-1, sg-2" in error(Refusal(code="InvalidSecurityGroupId.NotFound")).remedy
    assert "instance i-1" in error(Refusal(code="EniPerInstanceLimitExceeded")).remedy
    assert "ecs.g7.large" in error(Refusal(code="InvalidInstanceType.NotFound")).remedy
    assert "CreateNetworkInterface" in error(Refusal(code="Forbidden.RAM")).remedy


def test_words_that_operators_look_for() -> None:
    assert "QuotaExceeded.Eni" in str(error(Refusal(code="EniPerInstanceLimitExceeded")))
    assert "No available IP addresses" in str(error(Refusal(code="InvalidVSwitchId.IpNotEnough")))
    assert "No available IP addresses" in str(error(Refusal(code="SecurityGroupInstanceLimitExceed")))


def test_a_refused_signature_does_not_repeat_the_request_it_was_made_of() -> None:
    """The gateway answers with the string it signed, in which a role's token stands."""
    message = (
        "Specified signature is not matched with our calculation. server string to sign is:GET&%2F&S3CRET"
    )
    raised = error(Refusal(code="SignatureDoesNotMatch", status=400, message=message))
    assert "S3CRET" not in f"{raised} {raised.what}"
    assert "(Specified signature is not matched with our calculation.)" in raised.what


def test_a_page_of_diagnosis_leaves_room_for_what_to_do() -> None:
    raised = error(Refusal(code="Forbidden.RAM", status=403, message="Denied. " * 500))
    assert len(str(raised)) < 600
    assert "grant CreateNetworkInterface" in str(raised)


def test_an_eni_is_named_with_its_vswitch_and_its_group_where_that_is_to_blame() -> None:
    subject = Subject(eni="eni-1", vswitch="vsw-1", groups="sg-1")

    def told(code: str) -> CloudError:
        return cloud_error(
            Refusal(code=code, status=403), action="AssignPrivateIpAddresses", subject=subject, now=0.0
        )

    assert "security group sg-1 may hold no more" in told("SecurityGroupInstanceLimitExceed").remedy
    assert told("Throttling").what.startswith(
        "AssignPrivateIpAddresses of ENI eni-1, vSwitch vsw-1 failed: Throttling"
    )

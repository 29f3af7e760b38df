"""Errors of the OpenAPI, with the codes and HTTP statuses of the API reference.

One function per code that arises from state, so that a code is spelled in one place.
Sources: the error tables of CreateNetworkInterface, AttachNetworkInterface, AssignPrivateIpAddresses,
AssignIpv6Addresses and their opposites, and ECS's table of common client errors.
QuotaExceeded.Eni is what clusters have reported for the account's quota; the reference also knows
MaxEniCountExceeded for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.cloud.model import Eni


class ApiError(Exception):
    """An answer with ``status`` >= 400. ``retry_after`` (seconds) is sent as x-acs-retry-after if set."""

    def __init__(self, code: str, message: str, *, status: int = 400, retry_after: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after = retry_after


def missing_parameter(name: str) -> ApiError:
    return ApiError(
        "MissingParameter",
        f'The input parameter "{name}" that is mandatory for processing this request is not supplied.',
    )


def invalid_parameter(name: str, why: str) -> ApiError:
    return ApiError("InvalidParameter", f'The specified parameter "{name}" is not valid: {why}.')


def unsupported_parameter(name: str, action: str) -> ApiError:
    return ApiError(
        "UnsupportedParameter", f'The parameter "{name}" of {action} is not supported by this cloud.'
    )


def eni_not_found(eni_id: str) -> ApiError:
    return ApiError("InvalidEniId.NotFound", f'The specified EniId "{eni_id}" is not found.', status=404)


def ecs_not_found(instance_id: str) -> ApiError:
    return ApiError("InvalidEcsId.NotFound", f'The specified EcsId "{instance_id}" is not found.', status=404)


def instance_not_found(instance_id: str) -> ApiError:
    return ApiError(
        "InvalidInstanceId.NotFound",
        f'The specified InstanceId "{instance_id}" does not exist.',
        status=404,
    )


def vswitch_not_found(vswitch_id: str) -> ApiError:
    return ApiError(
        "InvalidVSwitchId.NotFound", f'The specified VSwitchId "{vswitch_id}" is not found.', status=404
    )


def group_not_found(group_id: str) -> ApiError:
    return ApiError(
        "InvalidSecurityGroupId.NotFound",
        f'The specified SecurityGroupId "{group_id}" is not found.',
        status=404,
    )


def vswitch_full(vswitch_id: str) -> ApiError:
    return ApiError(
        "InvalidVSwitchId.IpNotEnough",
        f'The specified VSwitch "{vswitch_id}" has not enough IpAddress.',
        status=403,
    )


def no_block(vswitch_id: str, length: int) -> ApiError:
    """The code is that of a full vSwitch: callers have one remedy for both, another vSwitch."""
    return ApiError(
        "InvalidVSwitchId.IpNotEnough",
        f'The specified VSwitch "{vswitch_id}" has no contiguous /{length} block of free addresses left.',
        status=403,
    )


def address_not_in_vswitch(address: str, vswitch_id: str) -> ApiError:
    return ApiError(
        "InvalidVSwitchId.IpInvalid",
        f'The specified IpAddress "{address}" is not valid in VSwitch "{vswitch_id}".',
        status=403,
    )


def address_taken(address: str) -> ApiError:
    return ApiError("InvalidIp.IpAssigned", f'The specified IP "{address}" is already assigned.', status=403)


def address_repeated(address: str) -> ApiError:
    return ApiError("InvalidIp.IpRepeated", f'The specified IP "{address}" is repeated.', status=403)


def address_malformed(address: str) -> ApiError:
    return ApiError("InvalidIp.Address", f'The specified IP "{address}" is not an address.', status=403)


def address_not_assigned(address: str) -> ApiError:
    return ApiError(
        "InvalidIp.IpUnassigned", f'The specified IP "{address}" is not assigned on this ENI.', status=403
    )


def ipv6_not_on(vswitch_id: str) -> ApiError:
    return ApiError(
        "InvalidVSwitch.Ipv6NotTurnOn", f'IPv6 is not turned on for VSwitch "{vswitch_id}".', status=403
    )


def too_many_ipv4(limit: int) -> ApiError:
    return ApiError(
        "InvalidOperation.Ipv4CountExceeded",
        f"The number of IPv4 addresses of this ENI exceeds the limit of {limit}.",
        status=403,
    )


def too_many_ipv6(limit: int) -> ApiError:
    return ApiError(
        "InvalidOperation.Ipv6CountExceeded",
        f"The number of IPv6 addresses of this ENI exceeds the limit of {limit}.",
        status=403,
    )


def too_many_enis(instance_type: str, limit: int) -> ApiError:
    return ApiError(
        "EniPerInstanceLimitExceeded",
        f"The number of ENI exceeds the limit of {limit} for the instance type {instance_type}.",
        status=403,
    )


def eni_quota(limit: int) -> ApiError:
    return ApiError(
        "QuotaExceeded.Eni", f"ENI quota exceeded: this account may have {limit} in the region.", status=403
    )


def address_quota(limit: int) -> ApiError:
    return ApiError(
        "QuotaExceeded.PrivateIpAddress",
        f"Private IP address quota exceeded: this VPC may have {limit} in use.",
    )


def group_full(group_id: str, limit: int) -> ApiError:
    return ApiError(
        "SecurityGroupInstanceLimitExceed",
        f'The maximum number of private IP addresses ({limit}) in security group "{group_id}" is exceeded.',
        status=403,
    )


def wrong_state(eni: Eni, expected: str) -> ApiError:
    return ApiError(
        "InvalidOperation.InvalidEniState",
        f'The operation is not allowed in the current ENI state. Expecting status of "{eni.eni_id}" is '
        f'"{expected}" while current status is "{eni.status}".',
    )


def has_members(trunk: Eni, members: Sequence[str]) -> ApiError:
    """No page names a code for it; this one is that of an ENI whose state forbids the call."""
    return ApiError(
        "InvalidOperation.InvalidEniState",
        f'The trunk ENI "{trunk.eni_id}" has members, which are to be detached first: {", ".join(members)}.',
    )


def conflict(eni_id: str) -> ApiError:
    return ApiError(
        "Operation.Conflict", f'The ENI "{eni_id}" is processing another task, try again later.', status=403
    )


def primary_not_detachable(eni_id: str) -> ApiError:
    return ApiError(
        "InvalidOperation.DetachPrimaryEniNotAllowed",
        f'Detaching primary ENI "{eni_id}" from its ECS instance is not allowed.',
    )


def wrong_type(eni: Eni, why: str) -> ApiError:
    return ApiError(
        "InvalidOperation.InvalidEniType",
        f'The operation is not allowed for ENI "{eni.eni_id}" of type {eni.eni_type}: {why}.',
        status=403,
    )


def zone_mismatch(eni: Eni, instance_zone: str) -> ApiError:
    return ApiError(
        "InvalidOperation.AvailabilityZoneMismatch",
        f'The VSwitch of ENI "{eni.eni_id}" is in zone {eni.zone}, the ECS instance in {instance_zone}.',
        status=403,
    )


def token_reused() -> ApiError:
    return ApiError(
        "IdempotentParameterMismatch",
        "Request uses a client token in a previous request but is not identical to that request.",
    )


def token_in_progress() -> ApiError:
    return ApiError(
        "IdempotentProcessing", "The previous idempotent request is still processing.", status=403
    )


def forbidden(action: str) -> ApiError:
    return ApiError("Forbidden.RAM", f"User not authorized to operate {action}.", status=403)

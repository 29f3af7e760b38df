"""Error codes of the OpenAPI and the HTTP status that each comes with, for whoever plays the cloud.

Sources: the error tables of the API reference's pages on ENIs, addresses, instances, vSwitches and security
groups, and ECS's table of common client and server errors. Those that arise from state here are in
``errors``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_BY_STATUS: Mapping[int, tuple[str, ...]] = {
    400: (
        "IdempotentParameterMismatch",
        "IncompleteSignature",
        "InvalidOperation.DetachPrimaryEniNotAllowed",
        "InvalidOperation.InvalidEniState",
        "InvalidParameter",
        "InvalidSecurityToken.Expired",
        "InvalidSecurityToken.Malformed",
        "InvalidSecurityToken.MismatchWithAccessKey",
        "InvalidTimeStamp.Expired",
        "InvalidTimeStamp.Format",
        "InvalidVersion",
        "MissingAccessKeyId",
        "MissingParameter",
        "MissingSecurityToken",
        "QuotaExceeded.PrivateIpAddress",
        "SignatureDoesNotMatch",
        "SignatureNonceUsed",
        "Throttling",
        "Throttling.Api",
        "Throttling.User",
        "UnsupportedOperation",
        "UnsupportedParameter",
    ),
    403: (
        "Abs.InvalidAccount.NotFound",
        "EniPerInstanceLimitExceeded",
        "Forbidden",
        "Forbidden.RAM",
        "Forbidden.RegionId",
        "IdempotentFailed",
        "IdempotentProcessing",
        "IncorrectInstanceStatus",
        "InvalidIp.Address",
        "InvalidIp.IpAssigned",
        "InvalidIp.IpRepeated",
        "InvalidIp.IpUnassigned",
        "InvalidOperation.AvailabilityZoneMismatch",
        "InvalidOperation.EniCountExceeded",
        "InvalidOperation.InvalidEcsState",
        "InvalidOperation.InvalidEniType",
        "InvalidOperation.Ipv4CountExceeded",
        "InvalidOperation.Ipv6CountExceeded",
        "InvalidOperation.MultiGroupType",
        "InvalidOperation.NotSupportEnterpriseGroup",
        "InvalidOperation.VpcMismatch",
        "InvalidUserType.NotSupported",
        "InvalidVSwitch.Ipv6NotTurnOn",
        "InvalidVSwitchId.IpInvalid",
        "InvalidVSwitchId.IpNotEnough",
        "LastTokenProcessing",
        "MaxEniCountExceeded",
        "NoPermission",
        "Operation.Conflict",
        "OperationConflict",
        "QuotaExceeded.Eni",
        "SecurityGroupInstanceLimitExceed",
    ),
    404: (
        "InvalidAccessKeyId.NotFound",
        "InvalidAction.NotFound",
        "InvalidEcsId.NotFound",
        "InvalidEniId.NotFound",
        "InvalidInstanceId.NotFound",
        "InvalidInstanceType.NotFound",
        "InvalidRegionId.NotFound",
        "InvalidSecurityGroupId.NotFound",
        "InvalidVSwitchId.NotFound",
        "InvalidVswitchID.NotFound",
    ),
    500: ("InternalError", "UnknownError"),
    503: (
        "ServiceUnavailable",
        "ServiceUnavailable.Throttling",
    ),
}

ERROR_CODES: Mapping[str, int] = MappingProxyType(
    {code: status for status, codes in _BY_STATUS.items() for code in codes}
)

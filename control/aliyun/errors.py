"""What the cloud's refusals mean. The only place that knows error codes of the OpenAPI.

A ``Refusal`` is the bare fact (code, HTTP status, or how the connection failed); ``cloud_error`` gives it
a cause and a sentence an operator can act on. Sources of the codes: the ECS API reference, and the list
that Terway's own client handles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from control.model.errors import Cause, CloudError

MINUTE = 60.0
_MESSAGE_LIMIT = 200
"""Characters of the cloud's own words: a refusal by RAM may come with a page of diagnosis, and an event's
message ends at 1024."""


class Transport(StrEnum):
    """How a call ended without any answer of the cloud."""

    REFUSED = "connection refused"
    DNS = "name not resolved"
    TLS = "TLS handshake failed"
    CONNECT_TIMEOUT = "no connection in time"
    READ_TIMEOUT = "no answer in time"
    BROKEN = "connection broke"
    WORKER = "the SDK process ended"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a call was about. Fields that do not apply are empty."""

    eni: str = ""
    instance: str = ""
    vswitch: str = ""
    groups: str = ""
    instance_type: str = ""
    endpoint: str = ""
    """Host of the API. For the words of a remedy only."""

    def __str__(self) -> str:
        """Groups are what an ENI is made with; of one that exists only a remedy names them."""
        named = (
            ("ENI", self.eni),
            ("instance", self.instance),
            ("vSwitch", self.vswitch),
            (_groups_word(self.groups), "" if self.eni else self.groups),
            ("instance type", self.instance_type),
        )
        return ", ".join(f"{kind} {value}" for kind, value in named if value)


def _groups_word(groups: str) -> str:
    return "security groups" if "," in groups else "security group"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer >= 400, or no answer (``transport`` says how). ``status`` is 0 without an answer."""

    code: str = ""
    status: int = 0
    message: str = ""
    request_id: str = ""
    retry_after: float | None = None
    """Of x-acs-retry-after. Its unit is not documented: up to 60 it is taken for seconds, above for
    milliseconds, since no throttling lasts longer than a minute."""
    transport: Transport | None = None


# A code matches the longest entry it equals or starts with.
_CAUSES: Mapping[str, Cause] = MappingProxyType(
    {
        "Throttling": Cause.THROTTLED,
        "ServiceUnavailable.Throttling": Cause.THROTTLED,
        "InvalidVSwitchId.IpNotEnough": Cause.VSWITCH_FULL,
        # "Don't have enough private IPs in this switch", or in its VPC: another vSwitch is worth a try.
        "QuotaExceeded.PrivateIpAddress": Cause.VSWITCH_FULL,
        "QuotaExceeded.Eni": Cause.ENI_QUOTA,
        "MaxEniCountExceeded": Cause.ENI_QUOTA,
        "EniPerInstanceLimitExceeded": Cause.ENI_QUOTA,
        "InvalidOperation.Ipv4CountExceeded": Cause.IP_QUOTA,
        "InvalidOperation.Ipv6CountExceeded": Cause.IP_QUOTA,
        "SecurityGroupInstanceLimitExceed": Cause.SECURITY_GROUP_FULL,
        # "The maximum number of eni in a enterprise level security group is exceeded."
        "InvalidOperation.EniCountExceeded": Cause.SECURITY_GROUP_FULL,
        "InvalidSecurityGroupId": Cause.INVALID_SECURITY_GROUP,
        "InvalidSecurityGroup": Cause.INVALID_SECURITY_GROUP,
        "InvalidOperation.VpcMismatch": Cause.INVALID_SECURITY_GROUP,
        "InvalidOperation.MultiGroupType": Cause.INVALID_SECURITY_GROUP,
        "InvalidOperation.NotSupportEnterpriseGroup": Cause.INVALID_SECURITY_GROUP,
        "InvalidVSwitchId": Cause.INVALID_VSWITCH,
        "InvalidVSwitch": Cause.INVALID_VSWITCH,
        "InvalidOperation.AvailabilityZoneMismatch": Cause.INVALID_VSWITCH,
        "InvalidVswitchID": Cause.INVALID_VSWITCH,
        "InvalidEniId.NotFound": Cause.ENI_GONE,
        "InvalidOperation.InvalidEniState": Cause.ENI_STATE,
        "InvalidOperation.InvalidEniType": Cause.ENI_STATE,
        "InvalidOperation.InvalidEcsState": Cause.ENI_STATE,
        "InvalidOperation.DetachPrimaryEniNotAllowed": Cause.ENI_STATE,
        "IncorrectInstanceStatus": Cause.ENI_STATE,
        "InvalidEcsId.NotFound": Cause.INSTANCE_GONE,
        "InvalidInstanceId.NotFound": Cause.INSTANCE_GONE,
        "InvalidIp.IpUnassigned": Cause.ADDRESS_GONE,
        "Operation.Conflict": Cause.CONFLICT,
        "OperationConflict": Cause.CONFLICT,
        "LastTokenProcessing": Cause.CONFLICT,
        "IdempotentProcessing": Cause.CONFLICT,
        "IdempotentFailed": Cause.IDEMPOTENCY,
        "IdempotentParameterMismatch": Cause.IDEMPOTENCY,
        "InvalidSecurityToken.Expired": Cause.CREDENTIALS_EXPIRED,
        "InvalidSecurityToken": Cause.CREDENTIALS,
        "MissingSecurityToken": Cause.CREDENTIALS,
        "InvalidAccessKeyId": Cause.CREDENTIALS,
        "Abs.InvalidAccount": Cause.CREDENTIALS,
        "MissingAccessKeyId": Cause.CREDENTIALS,
        "SignatureDoesNotMatch": Cause.CREDENTIALS,
        "IncompleteSignature": Cause.CREDENTIALS,
        "InvalidTimeStamp": Cause.CREDENTIALS,
        "Forbidden": Cause.FORBIDDEN,
        "NoPermission": Cause.FORBIDDEN,
        "Forbidden.RegionId": Cause.UNSUPPORTED,
        "InvalidUserType.NotSupported": Cause.UNSUPPORTED,
        "InvalidInstanceType": Cause.UNSUPPORTED,
        "InvalidAction": Cause.UNSUPPORTED,
        "InvalidVersion": Cause.UNSUPPORTED,
        "UnsupportedOperation": Cause.UNSUPPORTED,
        "UnsupportedParameter": Cause.UNSUPPORTED,
        "InternalError": Cause.INTERNAL,
        "ServiceUnavailable": Cause.INTERNAL,
        "UnknownError": Cause.INTERNAL,
        # A nonce is random and new for each attempt, so another attempt mends it.
        "SignatureNonceUsed": Cause.INTERNAL,
        "InvalidRegionId": Cause.CONFIG,
        "InvalidParameter": Cause.REQUEST,
        "MissingParameter": Cause.REQUEST,
    }
)

# What the operator can do about each cause.
_REMEDIES: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.THROTTLED: "it is tried again by itself; if it stays so, lower `rate_limit` in eni-config or"
        " raise this API's quota in Quota Center",
        Cause.VSWITCH_FULL: "No available IP addresses: add a vSwitch of this zone to `vswitches` in"
        " eni-config, or free addresses in {vswitch}",
        Cause.ENI_QUOTA: "QuotaExceeded.Eni: {instance} has as many ENIs as its type allows; detach those"
        " that the agent did not make, use a larger instance type, or lower `max_eni`",
        Cause.IP_QUOTA: "{eni} has as many addresses as the instance type allows; pods beyond that need"
        " another ENI or another node",
        Cause.SECURITY_GROUP_FULL: "No available IP addresses: {groups} may hold no more; use an advanced"
        " security group, or another one, in `security_group` of eni-config, or free addresses in it",
        Cause.INVALID_SECURITY_GROUP: "correct `security_group` or `security_groups` in eni-config: {groups}"
        " must exist in this region and belong to the VPC of {vswitch}",
        Cause.INVALID_VSWITCH: "correct `vswitches` in eni-config: {vswitch} must exist in this region and in"
        " the node's zone",
        Cause.ENI_STATE: "the state of {eni} does not allow this now; it is looked at again, and if it stays"
        " so, see the ENI and its instance in the ECS console",
        Cause.ENI_GONE: "{eni} does not exist any more; somebody else deleted it, and the agent replaces it",
        Cause.INSTANCE_GONE: "{instance} does not exist in this region; check `region_id`, and that this node"
        " is that instance",
        Cause.ADDRESS_GONE: "the address is already released; nothing to do",
        Cause.CONFLICT: "another operation on {eni} is under way; it is tried again by itself",
        Cause.IDEMPOTENCY: "the call before it with the same token asked for something else; a new token is"
        " used next time",
        Cause.CREDENTIALS: "check `access_key` and `access_secret`, or the RAM role bound to the instance",
        Cause.CREDENTIALS_EXPIRED: "a new token is read from the metadata service by itself; if it stays so,"
        " check the node's clock and its RAM role",
        Cause.FORBIDDEN: "grant {action} to the access key's user or to the node's RAM role; docs/install.md"
        " has the whole policy",
        Cause.UNSUPPORTED: "the cloud does not offer this for {instance_type} in this region",
        Cause.UNREACHABLE: "check the node's route and security group towards {endpoint}",
        Cause.TIMEOUT: "check the node's route and security group towards {endpoint}",
        Cause.INTERNAL: "the cloud has a fault; it is tried again by itself",
        Cause.CONFIG: "correct `region_id` in eni-config; without it the metadata service's is used",
        Cause.REQUEST: "report this with the request id: the agent sent what the cloud does not take",
    }
)

# Sentences of single codes and transport failures, which go before the one of their cause.
_SPECIAL: Mapping[str, str] = MappingProxyType(
    {
        "InvalidOperation.MultiGroupType": "{groups} are basic and advanced ones: give groups of one type in"
        " `security_groups` of eni-config",
        "InvalidOperation.NotSupportEnterpriseGroup": "{instance_type} takes no advanced security group:"
        " give a basic one in `security_group` of eni-config",
        "InvalidVSwitch.Ipv6NotTurnOn": "turn on IPv6 for {vswitch}, or set `ip_stack` of eni-config to ipv4",
        "MaxEniCountExceeded": "QuotaExceeded.Eni: the account's ENI quota here is used up; raise it in"
        " Quota Center or delete ENIs that nothing uses",
        "QuotaExceeded.Eni": "the account's ENI quota of this region is used up; raise it in Quota Center or"
        " delete ENIs that nothing uses",
        "InvalidTimeStamp": "the node's clock is off; set it (NTP)",
        "InvalidAccessKeyId": "no such access key, or it is disabled; check `access_key` in eni-config",
        "SignatureDoesNotMatch": "`access_secret` does not belong to `access_key`; correct it in eni-config",
        Transport.REFUSED: "nothing listens at {endpoint}; check its address and scheme",
        Transport.DNS: "check the node's resolver (/etc/resolv.conf) and the name of {endpoint}",
        Transport.TLS: "check the node's clock, its CA certificates, and proxies in between",
        Transport.WORKER: "it is started again by itself; if it stays so, look for an out-of-memory kill",
    }
)


def cloud_error(refusal: Refusal, *, action: str, subject: Subject, now: float) -> CloudError:
    """The one mapping into the product's errors.

    ``now`` is the clock's time: a throttled call carries ``retry_after``, the seconds left of this minute,
    because the cloud counts calls per calendar minute.
    """
    cause = cause_of(refusal)
    return CloudError(
        _what(refusal, action, subject),
        cause=cause,
        action=action,
        code=refusal.code,
        request_id=refusal.request_id,
        remedy=_remedy(refusal, cause, action, subject),
        retry_after=_retry_after(refusal, cause, now),
    )


def _retry_after(refusal: Refusal, cause: Cause, now: float) -> float | None:
    told = refusal.retry_after
    if told is not None:
        return told if told <= MINUTE else told / 1000
    return MINUTE - now % MINUTE if cause is Cause.THROTTLED else None


def cause_of(refusal: Refusal) -> Cause:
    if refusal.transport is not None:
        timeouts = (Transport.CONNECT_TIMEOUT, Transport.READ_TIMEOUT)
        return Cause.TIMEOUT if refusal.transport in timeouts else Cause.UNREACHABLE
    known = _longest(_CAUSES, refusal.code)
    return _CAUSES[known] if known else _cause_of_status(refusal.status)


def _cause_of_status(status: int) -> Cause:
    by_status = {401: Cause.CREDENTIALS, 403: Cause.FORBIDDEN, 429: Cause.THROTTLED}
    return by_status.get(status, Cause.INTERNAL if status >= 500 or status == 0 else Cause.REQUEST)


def _longest(table: Mapping[str, object], code: str) -> str:
    """The longest key that is ``code`` or its prefix, "" if none is."""
    return max((key for key in table if code.startswith(key)), key=len, default="")


def _what(refusal: Refusal, action: str, subject: Subject) -> str:
    about = f" of {subject}" if str(subject) else ""
    reason = refusal.code or refusal.transport or f"HTTP {refusal.status}"
    message = _told(refusal.message)
    detail = f" ({message})" if message else ""
    request = f", request {refusal.request_id}" if refusal.request_id else ""
    return f"{action}{about} failed: {reason}{detail}{request}"


def _told(message: str) -> str:
    """The cloud's own words. A refused signature is answered with the request, and a token may be in that."""
    words = message.partition("server string to sign is")[0].strip()
    return words if len(words) <= _MESSAGE_LIMIT else f"{words[:_MESSAGE_LIMIT]}..."


def _remedy(refusal: Refusal, cause: Cause, action: str, subject: Subject) -> str:
    special = _longest(_SPECIAL, refusal.transport or refusal.code)
    sentence = _SPECIAL[special] if special else _REMEDIES[cause]
    return sentence.format(
        action=action,
        eni=f"ENI {subject.eni}" if subject.eni else "the ENI",
        instance=f"instance {subject.instance}" if subject.instance else "the instance",
        vswitch=f"vSwitch {subject.vswitch}" if subject.vswitch else "the vSwitch",
        groups=f"{_groups_word(subject.groups)} {subject.groups}" if subject.groups else "the security group",
        instance_type=subject.instance_type or "this instance type",
        endpoint=f"the OpenAPI endpoint {subject.endpoint}".rstrip(),
    )

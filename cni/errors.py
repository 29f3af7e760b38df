"""What a runtime is told when something fails: a number, one line, and the details.

The runtime prints ``msg; details`` and, whatever the number, tries again; the number is for operators and
dashboards. Below 100 the specification (1.1.0, "Error") and libcni give the meaning, from 100 on we do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType

from cni.fields import show
from cni.version import SUPPORTED, echo


class Code(IntEnum):
    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    """The runtime need not call DEL."""
    ENVIRONMENT = 4
    IO = 5
    DECODE = 6
    CONFIG = 7
    NETNS = 8
    """libcni's: CNI_NETNS is missing, not a network namespace, or the node's own."""
    TRY_AGAIN = 11
    """Goes away by itself: the daemon is away, a throttled API, a pool that is being filled."""
    NOT_READY = 50
    """STATUS only: an ADD would fail."""
    NOT_READY_DEGRADED = 51
    """STATUS only: an ADD would fail, and running pods may have lost connectivity."""
    VSWITCH_FULL = 100
    ENI_QUOTA = 101
    ADDRESS_QUOTA = 102
    """No address to be had: the instance type's ENIs, the pool's own limit or a security group is full."""
    INVALID_REFERENCE = 103
    """A security group or vSwitch of the configuration does not exist or does not fit."""
    DATAPATH = 105
    """The kernel refused a part of the pod's network."""
    UNSUPPORTED = 106
    """The instance type or region cannot do it, trunking for one."""
    POD_NOT_FOUND = 107
    CREDENTIALS = 108
    CLOUD_STATE = 109
    """The cloud's ENIs are not what the node's ledger says; the next reconcile looks again."""


class CniError(Exception):
    """One failed CNI operation, to be told to the runtime.

    ``msg`` is what failed, in words that stay the same from case to case; ``details`` is on which object,
    with which value, and what to do.
    """

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        self.code = code
        self.msg = msg
        self.details = details
        super().__init__(f"{msg}: {details}" if details else msg)

    def encode(self, version: object) -> bytes:
        """One JSON object and a newline, in ASCII. ``version`` is the cniVersion of the request, if known."""
        body = {"cniVersion": echo(version), "code": int(self.code), "msg": self.msg, "details": self.details}
        return json.dumps(body).encode() + b"\n"


NO_ADDRESS = "No available IP addresses"
ENI_QUOTA = "QuotaExceeded.Eni: ENI quota exceeded"
TRUNKING_UNSUPPORTED = "Trunking not supported on instance type"

CODE_OF_CAUSE: Mapping[str, tuple[Code, str]] = MappingProxyType(
    {
        "Throttled": (Code.TRY_AGAIN, "the cloud throttles the calls of this account"),
        "OperationConflict": (Code.TRY_AGAIN, "another operation on the ENI is under way"),
        "Unreachable": (Code.TRY_AGAIN, "the cloud's API cannot be reached"),
        "Timeout": (Code.TRY_AGAIN, "the cloud's API did not answer in time"),
        "CloudInternalError": (Code.TRY_AGAIN, "the cloud's API failed"),
        "MetadataUnavailable": (Code.TRY_AGAIN, "the instance metadata service failed"),
        "KubernetesUnavailable": (Code.TRY_AGAIN, "the Kubernetes API cannot be reached"),
        "AddressesCooling": (Code.TRY_AGAIN, NO_ADDRESS + " until released ones have cooled down"),
        "AlreadyInProgress": (Code.TRY_AGAIN, "a request for this pod is being processed"),
        "CredentialsExpired": (Code.TRY_AGAIN, "the cloud credentials have expired"),
        "VSwitchFull": (Code.VSWITCH_FULL, NO_ADDRESS + ": the vSwitch is full"),
        "EniQuotaReached": (Code.ENI_QUOTA, ENI_QUOTA),
        "AddressQuotaReached": (Code.ADDRESS_QUOTA, NO_ADDRESS + ": the ENI is full"),
        "SecurityGroupFull": (Code.ADDRESS_QUOTA, NO_ADDRESS + ": the security group is full"),
        "PoolAtCapacity": (Code.ADDRESS_QUOTA, NO_ADDRESS + ": the node is full"),
        "InvalidSecurityGroup": (Code.INVALID_REFERENCE, "invalid security group"),
        "InvalidVSwitch": (Code.INVALID_REFERENCE, "invalid vSwitch"),
        "KernelRefused": (Code.DATAPATH, "the pod's network cannot be set up"),
        "Unsupported": (Code.UNSUPPORTED, "not supported on this instance type or in this region"),
        "PodNotFound": (Code.POD_NOT_FOUND, "the pod is not in Kubernetes"),
        "BadCredentials": (Code.CREDENTIALS, "the cloud refuses the credentials"),
        "ForbiddenByRam": (Code.CREDENTIALS, "the cloud credentials lack a permission"),
        "EniInWrongState": (Code.CLOUD_STATE, "the ENI is in the wrong state"),
        "EniNotFound": (Code.CLOUD_STATE, "the ENI does not exist"),
        "InstanceNotFound": (Code.CLOUD_STATE, "the instance does not exist"),
        "AddressNotAssigned": (Code.CLOUD_STATE, "the address is not assigned to the ENI"),
        "IdempotentParameterMismatch": (Code.CLOUD_STATE, "the cloud knows this call with other arguments"),
        "LedgerUnavailable": (Code.IO, "the node's ledger cannot be written"),
        "InvalidConfiguration": (Code.CONFIG, "invalid configuration"),
        "InvalidRequest": (Code.ENVIRONMENT, "the request cannot be fulfilled"),
    }
)
"""Cause (``control.model.errors.Cause``, whose words are the keys) to code and message.

Temporary causes, and only they, are TRY_AGAIN. The seed's error texts stand at the start of the messages.
"""


def failure(cause: str, details: str, *, msg: str = "") -> CniError:
    """The error for one cause. ``msg`` replaces the table's, TRUNKING_UNSUPPORTED for one.

    A cause that is not in the table is TRY_AGAIN with the cause as message. The runtime shows message and
    details in one line: what the first says is taken out of the second.
    """
    code, usual = CODE_OF_CAUSE.get(cause, (Code.TRY_AGAIN, cause))
    told = msg or usual
    if told.startswith(NO_ADDRESS):
        details = details.replace(f"{NO_ADDRESS}: ", "", 1)
    return CniError(code, told, details)


def incompatible(named: str, *, supported: Sequence[str] = SUPPORTED, for_what: str = "") -> CniError:
    """``named``: cniVersion of the configuration; "" (absent) is what the specification reads as 0.1.0."""
    tail = f" for {for_what}" if for_what else ""
    return CniError(
        Code.INCOMPATIBLE_VERSION,
        "incompatible CNI versions",
        f"config is {show(named or '0.1.0')}, plugin supports{tail}: {', '.join(supported)}",
    )

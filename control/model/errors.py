"""The errors of the product, on two axes: what caused it, and whether trying again can help.

::

    TerwayError
    ├── CloudError        the OpenAPI said no; carries the cloud's own code and request id
    ├── MetadataError     the metadata service did not answer, or not in its format
    ├── KubernetesError   the API server did not answer, or refused
    ├── PodNotFound       Kubernetes says there is no such pod
    ├── PoolExhausted     no address can be had now; says why and when the next try is
    ├── KernelError       a netlink call or a sysctl failed; says on which object
    │   ├── AddressInUse  a running pod carries the address that another was to get
    │   └── UplinkBroken  the kernel would not send a pod's packets by its ENI
    ├── LedgerError       the ledger on disk cannot be read or written
    ├── ConfigError       a setting is wrong: names key, value and what is allowed
    └── RequestError      the runtime asked for something impossible (bad netns, name taken)

Adapters map foreign exceptions into this tree in one place each. ``str(error)`` is one line that says
what was tried, on which object, and what the operator can do.
"""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why something is missing. The same word is metric label, event reason suffix and CLI text."""

    THROTTLED = "Throttled"
    VSWITCH_FULL = "VSwitchFull"
    ENI_QUOTA = "EniQuotaReached"
    IP_QUOTA = "AddressQuotaReached"
    SECURITY_GROUP_FULL = "SecurityGroupFull"
    INVALID_SECURITY_GROUP = "InvalidSecurityGroup"
    INVALID_VSWITCH = "InvalidVSwitch"
    ENI_STATE = "EniInWrongState"
    ENI_GONE = "EniNotFound"
    INSTANCE_GONE = "InstanceNotFound"
    ADDRESS_GONE = "AddressNotAssigned"
    CONFLICT = "OperationConflict"
    IDEMPOTENCY = "IdempotentParameterMismatch"
    CREDENTIALS = "BadCredentials"
    CREDENTIALS_EXPIRED = "CredentialsExpired"
    FORBIDDEN = "ForbiddenByRam"
    UNSUPPORTED = "Unsupported"
    UNREACHABLE = "Unreachable"
    TIMEOUT = "Timeout"
    INTERNAL = "CloudInternalError"
    METADATA = "MetadataUnavailable"
    KUBERNETES = "KubernetesUnavailable"
    POD_UNKNOWN = "PodNotFound"
    POOL_LIMIT = "PoolAtCapacity"
    COOLING = "AddressesCooling"
    KERNEL = "KernelRefused"
    LEDGER = "LedgerUnavailable"
    CONFIG = "InvalidConfiguration"
    REQUEST = "InvalidRequest"
    BUSY = "AlreadyInProgress"


TEMPORARY = frozenset(
    {
        Cause.THROTTLED,
        Cause.CONFLICT,
        Cause.UNREACHABLE,
        Cause.TIMEOUT,
        Cause.INTERNAL,
        Cause.METADATA,
        Cause.KUBERNETES,
        Cause.COOLING,
        Cause.BUSY,
        Cause.CREDENTIALS_EXPIRED,
    }
)
"""Causes that go away by themselves. The others need somebody to change something first."""


class TerwayError(Exception):
    """``what`` was tried on which object and failed; ``remedy`` is what the operator can do.

    ``retry_after`` is in seconds, None if no better time is known than the caller's own backoff.
    """

    default_cause: Cause = Cause.INTERNAL

    def __init__(
        self, what: str, *, cause: Cause | None = None, remedy: str = "", retry_after: float | None = None
    ) -> None:
        self.what = what
        self.cause = cause if cause is not None else self.default_cause
        self.remedy = remedy
        self.retry_after = retry_after
        super().__init__(f"{what}; {remedy}" if remedy else what)

    @property
    def temporary(self) -> bool:
        return self.cause in TEMPORARY


class CloudError(TerwayError):
    """The OpenAPI refused ``action``. ``code`` is the cloud's error code, "" if none came back."""

    def __init__(
        self,
        what: str,
        *,
        cause: Cause,
        action: str,
        code: str = "",
        request_id: str = "",
        remedy: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.action = action
        self.code = code
        self.request_id = request_id
        super().__init__(what, cause=cause, remedy=remedy, retry_after=retry_after)


class MetadataError(TerwayError):
    default_cause = Cause.METADATA


class KubernetesError(TerwayError):
    default_cause = Cause.KUBERNETES


class PodNotFound(TerwayError):
    default_cause = Cause.POD_UNKNOWN


class PoolExhausted(TerwayError):
    default_cause = Cause.POOL_LIMIT


class KernelError(TerwayError):
    default_cause = Cause.KERNEL


class AddressInUse(KernelError):
    """Nothing of that pod was touched: another address is to be chosen when the kernel was asked anew."""


class UplinkBroken(KernelError):
    """Nothing of the ADD is left. Says nothing against the pod: another ENI is to be chosen."""


class LedgerError(TerwayError):
    default_cause = Cause.LEDGER


class ConfigError(TerwayError):
    default_cause = Cause.CONFIG


class RequestError(TerwayError):
    default_cause = Cause.REQUEST

"""How often the cloud and Kubernetes may be called, and how long a failed call waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cni.fields import Fields
from control.config.duration import ALLOWED, parse_duration


@dataclass(frozen=True, slots=True)
class Backoff:
    """One way to wait between tries. Durations in seconds; the n-th wait is ``duration * factor ** n``."""

    initial_delay: float = 0.0
    """``InitialDelay``: before the first try."""
    duration: float = 0.0
    """``Duration``: the first wait between two tries."""
    factor: float = 1.0
    """``Factor``: by which each wait is longer than the one before."""
    jitter: float = 0.0
    """``Jitter``: up to this share of a wait is added at random."""
    steps: int = 1
    """``Steps``: tries at most."""
    cap: float = 0.0
    """``Cap``: no wait is longer; 0: no cap."""


@dataclass(frozen=True, slots=True)
class ApiConf:
    rate_limit: Mapping[str, int] = field(default_factory=dict)
    """``rate_limit``: calls per minute by the name of the API; what is not named keeps the default."""
    backoff_override: Mapping[str, Backoff] = field(default_factory=dict)
    """``backoff_override``: waits by upstream's name of the case, e.g. eni_ops or wait_eni_status."""
    kube_client_qps: float = 0.0
    """``kube_client_qps``: requests per second to the Kubernetes API; 0 and less: no limit is set."""
    kube_client_burst: int = 0
    """``kube_client_burst``: how many at once; 0: the client's default."""


def read_api(fields: Fields) -> ApiConf:
    """Raises FieldError."""
    limits = fields.inner("rate_limit")
    overrides = fields.inner("backoff_override")
    return ApiConf(
        rate_limit={
            api: limits.integer(api, 1, low=1, high=1_000_000) for api in fields.table("rate_limit") or ()
        },
        backoff_override={
            name: _backoff(overrides.inner(name)) for name in fields.table("backoff_override") or ()
        },
        kube_client_qps=_qps(fields),
        kube_client_burst=fields.integer("kube_client_burst", 0),
    )


def _qps(fields: Fields) -> float:
    """The official client's -1 is "as many as one likes", which is what no limit of ours is."""
    value = fields.value("kube_client_qps")
    unlimited = isinstance(value, int | float) and not isinstance(value, bool) and -1e9 <= value < 0
    return 0.0 if unlimited else fields.number("kube_client_qps", 0.0)


def _backoff(fields: Fields) -> Backoff:
    return Backoff(
        initial_delay=_wait(fields, "InitialDelay"),
        duration=_wait(fields, "Duration"),
        factor=fields.number("Factor", 1.0),
        jitter=fields.number("Jitter", 0.0),
        steps=fields.integer("Steps", 1, low=1, high=10_000),
        cap=_wait(fields, "Cap"),
    )


def _wait(fields: Fields, key: str) -> float:
    """Go's JSON has a duration as whole nanoseconds; the words of ``parse_duration`` are taken as well."""
    value = fields.value(key)
    if not isinstance(value, str):
        return fields.integer(key, 0) / 1e9
    try:
        return parse_duration(value)
    except ValueError:
        raise fields.error(key, f"{ALLOWED}, or whole nanoseconds") from None

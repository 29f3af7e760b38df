"""How many addresses and ENIs a node holds: the settings behind ``control.ipam.sizing``."""

from __future__ import annotations

from dataclasses import dataclass

from cni.fields import Fields
from control.config.duration import ALLOWED, parse_duration, read_duration

SYNC_PERIOD = 120.0
SHORTEST_SYNC = 1.0
"""Seconds: a look at the pool that never ends would take the processor from the pods."""
COOL_DOWN = 30.0
_RATIO_MAX = 100.0


@dataclass(frozen=True, slots=True)
class PoolConf:
    """All durations are in seconds. "Idle" is an address on an ENI of the node that no pod has."""

    max_pool_size: int = 0
    """``max_pool_size``: idle addresses beyond this number are given back. Helm's value is 5."""
    min_pool_size: int = 0
    """``min_pool_size``: idle addresses to hold ready, so that a pod does not wait for the cloud."""
    warm_up_size: int | None = None
    """``ip_warm_up_size``: addresses to allocate once on a new node; centralised IPAM only."""
    reclaim_after: float | None = None
    """``idle_ip_reclaim_after``: time without a change after which idle addresses go down to the minimum,
    batch by batch. None: they stay, which is what an absent key, "", "0s" and a batch of 0 mean."""
    reclaim_batch_size: int = 5
    """``idle_ip_reclaim_batch_size``: addresses per batch. 0 switches reclaim off."""
    reclaim_interval: float = 600.0
    """``idle_ip_reclaim_interval``: time between two batches; "0s": a batch at every look at the pool."""
    reclaim_jitter: float = 0.1
    """``idle_ip_reclaim_jitter_factor``, a string: up to this share of the interval is added at random."""
    min_eni: int = 0
    """``min_eni``: the minimum pool is at least the addresses of so many ENIs, and the maximum with it."""
    max_eni: int = 0
    """``max_eni``: ENIs for pods at most; 0: as many as the instance type has."""
    cap_ratio: float = 1.0
    """``eni_cap_ratio``: the share of the instance type's ENIs to use. 0 is 1."""
    cap_shift: int = 0
    """``eni_cap_shift``: added to that number; negative leaves ENIs to others."""
    sync_period: float = SYNC_PERIOD
    """``ip_pool_sync_period``: time between two looks at the pool's size. A bad value is a warning and the
    default, as upstream's."""
    cool_down: float = COOL_DOWN
    """``ip_cool_down`` (this product's own key): a released address is not given to another pod for so long,
    lest packets of its last pod's peers reach the new one."""


def read_pool(fields: Fields) -> tuple[PoolConf, tuple[str, ...]]:
    """The settings and warnings about them. Raises FieldError."""
    sync_period, warnings = _sync_period(fields)
    conf = PoolConf(
        max_pool_size=fields.integer("max_pool_size", 0),
        min_pool_size=fields.integer("min_pool_size", 0),
        warm_up_size=_warm_up(fields),
        reclaim_after=read_duration(fields, "idle_ip_reclaim_after", 0.0) or None,
        reclaim_batch_size=fields.integer("idle_ip_reclaim_batch_size", 5),
        reclaim_interval=read_duration(fields, "idle_ip_reclaim_interval", 600.0),
        reclaim_jitter=_jitter(fields),
        min_eni=fields.integer("min_eni", 0),
        max_eni=fields.integer("max_eni", 0),
        cap_ratio=fields.number("eni_cap_ratio", 1.0, high=_RATIO_MAX) or 1.0,
        cap_shift=fields.integer("eni_cap_shift", 0, low=-1000, high=1000),
        sync_period=sync_period,
        cool_down=read_duration(fields, "ip_cool_down", COOL_DOWN),
    )
    if conf.min_pool_size > conf.max_pool_size:
        warnings += (
            f"min_pool_size {conf.min_pool_size} is more than max_pool_size {conf.max_pool_size}:"
            f" {conf.min_pool_size} idle addresses are held",
        )
    return conf, warnings


def _warm_up(fields: Fields) -> int | None:
    return None if fields.value("ip_warm_up_size") is None else fields.integer("ip_warm_up_size", 0)


def _jitter(fields: Fields) -> float:
    """Upstream has a string here; a number is taken as well."""
    key, allowed = "idle_ip_reclaim_jitter_factor", 'a number from 0 to 1 in quotes, "0.1"'
    value = fields.value(key)
    if value is None or value == "":
        return 0.1
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise fields.error(key, allowed)
    try:
        jitter = float(value)
    except (ValueError, OverflowError):
        raise fields.error(key, allowed) from None
    if not 0.0 <= jitter <= 1.0:
        raise fields.error(key, allowed)
    return jitter


def _sync_period(fields: Fields) -> tuple[float, tuple[str, ...]]:
    text = fields.text("ip_pool_sync_period")
    if not text:
        return SYNC_PERIOD, ()
    try:
        period = parse_duration(text)
    except ValueError:
        period = 0.0
    if period >= SHORTEST_SYNC:
        return period, ()
    problem = fields.error("ip_pool_sync_period", f"{ALLOWED}, at least {SHORTEST_SYNC:g}s")
    return SYNC_PERIOD, (f"{problem}; {SYNC_PERIOD:g}s is used",)

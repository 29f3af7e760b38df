"""Durations as Go writes them, and so eni_conf and the CRDs: ``30s``, ``1h10m``, ``1.5h``, ``0``."""

from __future__ import annotations

import re

from cni.fields import Fields

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MAX = float(2**63) / 1e9
"""Go counts nanoseconds in 64 bits: 292 years."""

ALLOWED = "a duration such as 30s, 10m or 1h30m"


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError for what Go's ParseDuration refuses, and for a negative duration."""
    rest = text.removeprefix("+")
    if rest == "0":
        return 0.0
    seconds, at = 0.0, 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None:
            break
        seconds += float(part[1]) * _SECONDS[part[2]]
        at = part.end()
    if not rest or at < len(rest) or seconds >= _MAX:
        raise ValueError(f"{text!a} is not {ALLOWED}")
    return seconds


def read_duration(fields: Fields, key: str, default: float) -> float:
    """Seconds under ``key``; ``default`` if absent or "". Raises FieldError."""
    text = fields.text(key)
    if not text:
        return default
    try:
        return parse_duration(text)
    except ValueError:
        raise fields.error(key, ALLOWED) from None

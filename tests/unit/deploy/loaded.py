"""Manifests as values."""

from __future__ import annotations

from typing import Any

import yaml  # type: ignore[import-untyped]  # as in control/kube/service_cidrs.py: it has no types


def by_kind(text: str) -> dict[str, Any]:
    """The objects of a stream of YAML documents; there is one of each kind."""
    return {item["kind"]: item for item in yaml.safe_load_all(text) if item}


def values(text: str) -> Any:
    return yaml.safe_load(text)

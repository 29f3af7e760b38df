"""The dashboard asks for series that the agent has, by labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from control.agent.introspection import fastpath_metrics
from control.agent.introspection.metrics import Metrics
from control.ipam.statistics import PoolStats
from deploy.render import HERE

PANELS: list[Any] = json.loads((HERE / "dashboard.json").read_text())["panels"]
_OF_PROMETHEUS = {"instance", "le"}


def series() -> dict[str, set[str]]:
    """Names and labels of what the agent without a fast path has counted, and of the fast path's own."""
    metrics = Metrics(lambda: PoolStats(*[1] * 9), lambda: {"00:16:3e:00:00:01": 1}, dual=False)
    metrics.openapi("CreateNetworkInterface", "", 0.1)
    metrics.limiter("CreateNetworkInterface", 0.1)
    metrics.request("ADD", "", 0.1)
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found | {
        "terway_fastpath_state": {"state", "why"},
        "terway_pod_packets_total": {"namespace", "pod", "direction", "path"},
        "terway_pod_dropped_packets_total": {"namespace", "pod"},
    }


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_series_are_there(panel: Any) -> None:
    known = series()
    for target in panel["targets"]:
        (name,) = set(re.findall(r"\b(?:terway|aliyun|rate_limiter)_\w+", target["expr"]))
        assert name in known
        asked = re.findall(r"by \(([^)]*)\)", target["expr"]) + re.findall(r"{(\w+)!?=", target["expr"])
        labels = {label.strip() for part in asked for label in part.split(",")}
        labels |= set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert labels <= known[name] | _OF_PROMETHEUS


def test_the_fast_paths_series_are_still_called_that() -> None:
    source = Path(fastpath_metrics.__file__).read_text()
    for name in ("terway_fastpath_state", "terway_pod_packets", "terway_pod_dropped_packets"):
        assert f'"{name}"' in source


def test_panels_do_not_overlap() -> None:
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in PANELS]
    assert len(set(places)) == len(places)
    assert len({p["id"] for p in PANELS}) == len(PANELS)

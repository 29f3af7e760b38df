"""Whom the chained bandwidth plugin limits, by its configuration and the pod's annotations."""

from __future__ import annotations

from typing import Any

import pytest

from cni.chain import Plugin
from control.agent.dataplane.shaping import EGRESS, INGRESS, Limits, Shaping, told
from control.model.ids import PodKey
from control.model.pod import Pod

HEARS = {"type": "bandwidth", "capabilities": {"bandwidth": True}}


def pod(**annotations: str) -> Pod:
    names = {"ingress": INGRESS, "egress": EGRESS}
    return Pod(PodKey("default", "web"), "uid", "node1", {names[k]: v for k, v in annotations.items()})


@pytest.mark.parametrize(
    ("plugin", "asks", "found"),
    [
        (None, {}, Limits()),
        (None, {"ingress": "8M"}, Limits(unheard=True)),
        (HEARS, {}, Limits()),
        (HEARS, {"ingress": "8M"}, Limits(ingress=True)),
        (HEARS, {"egress": "8M"}, Limits(egress=True)),
        (HEARS, {"ingress": "8M", "egress": "8M"}, Limits(ingress=True, egress=True)),
        (HEARS, {"ingress": ""}, Limits()),
        ({"type": "bandwidth"}, {"egress": "8M"}, Limits(unheard=True)),
        ({"type": "bandwidth", "capabilities": {"bandwidth": False}}, {"egress": "8M"}, Limits(unheard=True)),
        ({"type": "bandwidth", "capabilities": []}, {}, Limits()),
        ({"type": "bandwidth", "ingressRate": 8000, "ingressBurst": 80}, {}, Limits(ingress=True)),
        ({"type": "bandwidth", "egressRate": 8000, "ingressRate": 0}, {}, Limits(egress=True)),
    ],
)
def test_limits(plugin: dict[str, Any] | None, asks: dict[str, str], found: Limits) -> None:
    plugins: tuple[Plugin, ...] = ({"type": "terway"}, *([plugin] if plugin else []))
    assert Shaping(lambda: plugins).limits(pod(**asks)) == found
    assert bool(told(found, on_host=True)) is (found != Limits())


def test_a_plugin_that_comes_or_goes_later_counts_from_then_on() -> None:
    plugins: list[tuple[Plugin, ...]] = [({"type": "terway"},)]
    shaping = Shaping(lambda: plugins[-1])
    assert shaping.limits(pod(egress="8M")) == Limits(unheard=True)
    plugins.append(({"type": "terway"}, HEARS))
    assert shaping.limits(pod(egress="8M")) == Limits(egress=True)
    plugins.append(())
    assert shaping.limits(pod(egress="8M")) == Limits(unheard=True)


def test_a_pod_without_a_link_on_the_host_is_told_that_nothing_shapes_it() -> None:
    """The chained plugin has nothing to put its bucket on."""
    limited = told(Limits(ingress=True), on_host=False)
    assert "no link on the host" in limited
    assert told(Limits(), on_host=False) == ""
    assert told(Limits(ingress=True), on_host=True) != limited

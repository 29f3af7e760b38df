"""What of the pool's settings is not as eni-config has it, and what of it switches reclaim off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni.plugin import PluginConf
from control.agent import mode
from control.agent.assembly import reclaim_settings
from control.agent.node_config import NodeConfig
from control.config import eni_conf
from control.config.cni_conf import NodeCniConf
from control.config.settings import Settings
from control.ipam.sizing import ReclaimSettings
from control.model.cloud import InstanceLimits

LIMITS = InstanceLimits("ecs.g7.xlarge", 4, 15, 15, 6, True)


def config(**keys: Any) -> NodeConfig:
    eni = eni_conf.parse(json.dumps(keys).encode())
    cni = NodeCniConf(Path("10-terway.conf"), PluginConf())
    return NodeConfig(Settings(node_name="node-1"), eni, cni, eni.credentials)


def told(**keys: Any) -> list[str]:
    made = config(**keys)
    return mode.sizes_changed(made, LIMITS, made.sizes(LIMITS))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"max_pool_size": 5, "min_eni": 2},
            ["min_eni 2", "30 idle addresses", "max_pool_size 5", "ecs.g7.xlarge"],
        ),
        ({"max_pool_size": 45, "min_eni": 5}, ["min_eni 5", "3 ENIs", "ecs.g7.xlarge"]),
        ({"max_pool_size": 45, "min_eni": 2, "max_eni": 1}, ["min_eni 2", "1 ENI for", "max_eni 1"]),
        ({"max_pool_size": 99, "min_pool_size": 50}, ["min_pool_size 50", "45 addresses"]),
    ],
)
def test_a_size_that_is_not_as_configured_is_told(keys: dict[str, int], words: list[str]) -> None:
    lines = told(**keys)
    assert lines
    assert all(word in lines[0] for word in words), lines


def test_sizes_as_configured_are_not_worth_a_word() -> None:
    assert told(max_pool_size=5, min_pool_size=2) == []
    assert told(max_pool_size=40, min_eni=1) == []
    assert told(max_pool_size=99) == [], "a maximum above the node's size limits nothing"


def test_a_batch_of_none_is_no_reclaim() -> None:
    settings = config(idle_ip_reclaim_after="1m", idle_ip_reclaim_batch_size=3)
    assert reclaim_settings(settings) == ReclaimSettings(60.0, 600.0, 3)
    for keys in ({"idle_ip_reclaim_batch_size": 0}, {"idle_ip_reclaim_after": "0s"}):
        off = config(**{"idle_ip_reclaim_after": "1m", **keys})
        assert reclaim_settings(off) is None
    assert reclaim_settings(replace(settings, eni=eni_conf.parse(b"{}"))) is None

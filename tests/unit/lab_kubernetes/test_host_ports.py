"""Host ports are lent to a cluster that has none, and taken back whatever happens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.client import Lab
from lab.kubernetes import host_ports, product
from lab.messages import LabError
from lab.nodes.agent import CHAIN, CONF, cni_conf

BEFORE = {"eni_conf": "{}", CONF: json.dumps(cni_conf())}


def quiet(_text: str) -> None:
    """Nobody waits for these steps."""


class Cluster:
    """Its eni-config; it has the DaemonSet."""

    def __init__(self) -> None:
        self.data: Mapping[str, str] = BEFORE
        self.kubernetes = SimpleNamespace(put_config_map=self._put, request=self._get)

    def _put(self, _namespace: str, _name: str, data: Mapping[str, str]) -> None:
        self.data = data

    def _get(self, _verb: str, _path: str) -> dict[str, Any]:
        return {"data": self.data}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(product, "restart", lambda _lab, _say: None)
    return Cluster()


def test_they_are_there_for_the_time_of_the_block(cluster: Cluster) -> None:
    with host_ports.lent(cast(Lab, cluster), quiet):
        assert CHAIN in cluster.data
    assert cluster.data == BEFORE


@pytest.mark.parametrize("wrong", [LabError, KeyboardInterrupt])
def test_agents_that_do_not_come_back_get_the_old_configuration(
    wrong: type[BaseException], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def restart(_lab: Lab, _say: object) -> None:
        seen.append(CHAIN in cluster.data)
        if len(seen) == 1:
            raise wrong

    monkeypatch.setattr(product, "restart", restart)
    with pytest.raises(wrong), host_ports.lent(cast(Lab, cluster), quiet):
        pytest.fail("there are no host ports")
    assert seen == [True, False]
    assert cluster.data == BEFORE

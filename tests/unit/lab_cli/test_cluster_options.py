"""``./run lab up --kubernetes``: what it asks of the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cli.main import main
from lab.kubernetes import cluster
from lab.kubernetes.cluster import Agent, Wanted
from lab.messages import LabError
from lab.spec import LabSpec


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where labs would be; root is asked for nothing."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("TERWAY_LAB_DIR", str(tmp_path))
    monkeypatch.delenv("TERWAY_KUBE_BIN", raising=False)
    return tmp_path


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[LabSpec, Wanted]:
    seen: list[tuple[LabSpec, Wanted]] = []

    def bring_up(spec: LabSpec, wanted: Wanted, _say: object) -> None:
        seen.append((spec, wanted))
        raise LabError("not today")

    monkeypatch.setattr(cluster, "bring_up", bring_up)
    assert main(["up", "--kubernetes", *words]) == 1
    return seen[0]


def test_it_is_the_cluster_of_run_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, wanted = asked(monkeypatch)
    assert wanted == Wanted()
    assert [node.name for node in spec.nodes] == ["node1", "node2"]


def test_options_of_the_lab_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--nodes", "1", "--instance-type", "ecs.g7.4xlarge", "--mtu", "1400", "--agents", "--name", "x"]
    spec, wanted = asked(monkeypatch, *words)
    assert (len(spec.nodes), spec.mtu) == (1, 1400)
    assert wanted == Wanted(nodes=1, instance_type="ecs.g7.4xlarge", agent=Agent.PROCESS, name="x")


def test_the_families_of_a_specification_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"kubernetes": {"ip_stack": "dual"}}')
    assert asked(monkeypatch, "--spec", str(tmp_path / "spec.json"))[1].ip_stack == "dual"


def test_programs_of_a_lab_are_not_those_of_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--kubernetes", "--kube-bin", "/somewhere"]) == 1
    assert "name the programs in KUBE_BIN" in capsys.readouterr().err

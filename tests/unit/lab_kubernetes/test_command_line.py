"""What ``./run cluster`` understands and refuses, without bringing anything up."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.kubernetes import __main__ as command
from lab.kubernetes import cluster
from lab.kubernetes.cluster import Wanted
from lab.messages import LabError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As root, and where no cluster is up."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("TERWAY_LAB_DIR", str(tmp_path))


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> Wanted:
    """What would be brought up."""
    seen: list[Wanted] = []

    def up(wanted: Wanted, _say: object) -> None:
        seen.append(wanted)
        raise LabError("not today")

    monkeypatch.setattr(cluster, "up", up)
    assert command.main(words) == 1
    return seen[0]


def test_up_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch) == Wanted()
    assert asked(monkeypatch, "--nodes", "3") == Wanted(nodes=3)


def test_every_option_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["up", "--nodes", "1", "--proxy", "none", "--agent", "process", "--kubernetes", "1.35.9"]
    wanted = asked(monkeypatch, *words, "--instance-type", "ecs.g7.4xlarge")
    assert (wanted.nodes, wanted.proxy, wanted.agent, wanted.version) == (1, "none", "process", "1.35.9")
    assert wanted.instance_type == "ecs.g7.4xlarge"


@pytest.mark.parametrize(
    "words", [["status"], ["kubectl", "-n", "kube-system", "get", "pods"], ["node", "n"]]
)
def test_without_a_cluster_they_say_how_to_get_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words) == 1
    assert capsys.readouterr().err == "cluster: there is no cluster; bring one up with `./run cluster up`\n"


def test_down_without_a_cluster_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["down"]) == 0
    assert capsys.readouterr().out == "there is no cluster\n"


def test_no_node_is_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["up", "--nodes", "0"]) == 1
    assert "--nodes is 0, allowed: 1 and more" in capsys.readouterr().err


def test_only_root_may(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert command.main(["status"]) == 1
    assert "run it as root" in capsys.readouterr().err

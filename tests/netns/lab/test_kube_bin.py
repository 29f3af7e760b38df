"""A control plane that cannot be brought up: the lab says why and leaves nothing. No real one is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cli.main import main
from lab.client import Lab
from lab.messages import LabError
from lab.spec import LabSpec, NodeSpec
from lab.statedir import LabDir
from tests.unit.lab_apiserver.test_programs import script


def start(name: str, directory: Path) -> list[str]:
    """Must fail; what progress was told."""
    told: list[str] = []
    spec = LabSpec(nodes=(NodeSpec("node1"),), kube_bin=str(directory))
    with pytest.raises(LabError) as caught:
        Lab.start(spec, name=name, progress=told.append)
    assert not LabDir.of(name).root.exists()
    return [*told, str(caught.value)]


def test_missing_programs_are_named(name: str, tmp_path: Path) -> None:
    (error,) = start(name, tmp_path)
    assert error.startswith(f"the lab does not start: {tmp_path}/etcd is not there; kube_bin wants")


def test_a_program_that_ends_is_told_with_its_last_words(name: str, tmp_path: Path) -> None:
    script(tmp_path / "etcd", "exec sleep 600")
    script(tmp_path / "kube-apiserver", 'echo "Error: no such flag" >&2; exit 2')
    told, error = start(name, tmp_path)
    assert told == "starting etcd and kube-apiserver"
    assert error == f"the lab does not start: {tmp_path}/kube-apiserver ended with 2: Error: no such flag"


def test_the_command_line_takes_it_from_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERWAY_KUBE_BIN", "from-environment")
    assert main(["up", "--nodes", "0", "--name", name]) == 1
    assert f"{tmp_path}/from-environment/etcd is not there" in capsys.readouterr().err
    assert main(["up", "--nodes", "0", "--name", name, "--kube-bin", "told"]) == 1
    assert f"{tmp_path}/told/etcd is not there" in capsys.readouterr().err
    assert main(["up", "--nodes", "0", "--name", name, "--kube-bin", ""]) == 0
    assert "Kubernetes API" not in capsys.readouterr().out

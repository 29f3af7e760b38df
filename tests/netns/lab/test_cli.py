"""Every verb of ``terway-lab`` against a running lab, as people and as programs read it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cli.main import main
from lab.client import take_down
from lab.nodes.remote import SOURCE
from tests.netns.lab.conftest import fresh_name
from tests.netns.lab.test_sandbox import _PLUGIN


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    chosen = fresh_name()
    yield chosen
    take_down(chosen)


class Cli:
    def __init__(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._name = name
        self._capsys = capsys

    def text(self, *words: str, status: int = 0) -> str:
        """What it prints: stdout, or stderr if it fails."""
        got = main(self._named(words))
        out, err = self._capsys.readouterr()
        assert got == status, err
        return err if status else out

    def json(self, *words: str) -> Any:
        named = self._named(words)
        at = named.index("--") if "--" in named else len(named)
        return json.loads(self.text(*named[:at], "--json", *named[at:]))

    def _named(self, words: tuple[str, ...]) -> list[str]:
        if "--name" in words:
            return list(words)
        at = words.index("--") if "--" in words else len(words)
        return [*words[:at], "--name", self._name, *words[at:]]


@pytest.fixture
def cli(name: str, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(name, capsys)


def test_01_up_and_status(cli: Cli) -> None:
    assert "INSTANCE" in cli.text(
        "up", "--nodes", "1", "--instance-type", "ecs.g7.4xlarge", "--mtu", "1400", "--wire"
    )
    status = cli.json("status")
    assert [(n["name"], n["running"], n["type"]) for n in status["nodes"]] == [
        ("node1", True, "ecs.g7.4xlarge")
    ]
    assert (status["mtu"], status["wire"]) == (1400, True)
    assert "up already" in cli.text("up", status=1)


def test_02_nodes(cli: Cli) -> None:
    result = cli.json("node", "exec", "node1", "--", "sh", "-c", "cat /sys/class/net/eth0/mtu; exit 0")
    assert result == {"status": 0, "stdout": "1400\n", "stderr": ""}
    assert "i-node2 with 10.0." in cli.text("node", "add", "node2")
    assert [n["name"] for n in cli.json("node", "list")] == ["node1", "node2"]
    assert "node2 is off" in cli.text("node", "kill", "node2")
    assert "node2  off" in cli.text("node", "list")
    assert "node2 does not run" in cli.text("node", "exec", "node2", "--", "true", status=1)
    assert "up again" in cli.text("node", "reboot", "node2")
    assert "node2 is gone" in cli.text("node", "remove", "node2")
    assert "no node 'node2'" in cli.text("node", "kill", "node2", status=1)


def test_03_exec_passes_stdio_and_status(name: str, cli: Cli) -> None:
    argv = [sys.executable, "-m", "lab.cli.main", "node", "exec", "--name", name, "node1", "--", "sh", "-c"]
    result = subprocess.run(
        [*argv, "cat; echo bad >&2; exit 7"],
        input="through",
        capture_output=True,
        text=True,
        check=False,
        cwd=SOURCE,
    )
    assert (result.stdout, result.stderr, result.returncode) == ("through", "bad\n", 7)
    assert cli.json("status")["name"] == name


def test_04_pods(cli: Cli, name: str) -> None:
    from lab.client import Lab

    node = Lab.attach(name).node("node1")
    assert "the agent puts it there" in cli.text("pod", "add", "node1", "default/web", status=1)
    node.write("/opt/cni/bin/writer", _PLUGIN, mode=0o755)
    conf = {"cniVersion": "1.0.0", "name": "n", "type": "writer", "give": "10.0.16.7/32"}
    node.write("/etc/cni/net.d/1.conf", json.dumps(conf))
    record = cli.json("pod", "add", "node1", "default/web", "--annotation", "a=1", "--label", "app=web")
    assert record["result"]["ips"][0]["address"] == "10.0.16.7/32"
    assert "default/web  node1  10.0.16.7/32" in cli.text("pod", "list")
    assert "lo" in cli.json("pod", "exec", "default/web", "--", "ip", "-br", "link")["stdout"]
    assert "already exists" in cli.text("pod", "add", "node1", "default/web", status=1)
    assert "default/web is gone" in cli.text("pod", "del", "default/web")
    assert cli.json("pod", "list") == []
    assert "no pod 'default/web'" in cli.text("pod", "del", "default/web", status=1)


def test_05_cloud(cli: Cli) -> None:
    assert "eni-node1" in cli.text("ecs", "state")
    assert {v["id"] for v in cli.json("ecs", "state")["vswitches"]} == {"vsw-nodes", "vsw-pods"}
    assert "fault 1" in cli.text("ecs", "fault", "add", "action=DescribeInstances", "code=Boom", "count=2")
    assert "code=Boom" in cli.text("ecs", "fault", "list")
    assert "unknown field 'cod'" in cli.text("ecs", "fault", "add", "cod=Boom", status=1)
    assert cli.json("ecs", "fault", "clear") == {}
    assert cli.json("ecs", "delay", "metadata=0.5")["metadata"] == 0.5
    assert "describe" in cli.text("ecs", "delay")
    assert "2 left" in cli.text("ecs", "occupy", "vsw-pods", "--leave", "2")
    assert "given back" in cli.text("ecs", "occupy", "vsw-pods", "--release")
    assert "clock is at" in cli.text("ecs", "clock", "advance", "60")
    rule = ("direction=ingress", "protocol=TCP", "ports=[80,90]")
    assert "80,90" in cli.text("ecs", "group", "add", "sg-cluster", *rule)
    assert "80,90" not in cli.text("ecs", "group", "remove", "sg-cluster", *rule)
    assert "sg-cluster" in cli.text("ecs", "group", "list")
    assert cli.json("ecs", "calls", "--reset") == {}
    assert cli.json("ecs", "calls", "--recent") == []


def test_06_fabric(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    assert "control" in cli.text("counters")
    assert cli.json("counters")["forwarded"] >= 0
    assert "eni-node1" in cli.json("counters", "--ports")
    assert "no ENI 'eni-9'" in cli.text("capture", "eni-9", "-w", str(file), status=1)
    assert cli.json("capture", "eni-node1", "-w", str(file), "-c", "0")["frames"] == 0
    assert file.stat().st_size == 24


def test_07_down(cli: Cli) -> None:
    assert "is down" in cli.text("down")
    assert "there is no lab" in cli.text("down")
    assert "bring one up with" in cli.text("status", status=1)


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--mtu", "100"),
        ("up", "--nodes", "-1"),
        ("up", "--spec", "/nothing"),
        ("up", "--name", "No Name"),
    ],
)
def test_bad_options_are_one_line(cli: Cli, words: tuple[str, ...]) -> None:
    assert len(cli.text(*words, status=1).splitlines()) == 1

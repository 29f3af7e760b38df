"""Every verb of ``./run lab`` against a running lab, as people and as programs read it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
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
from tests.netns.lab.waiting import wait_for

_DEADLINE = 120.0


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
    refused = cli.text("up", status=1)
    assert "is up already (of this clone, pid " in refused
    assert "end it with `./run lab down --name " in refused
    assert status["owner"].startswith("of this clone, pid ")
    assert cli.text("status").splitlines()[1].split()[-1] == "off", "no terwayd runs"


def test_02_nodes(cli: Cli, name: str) -> None:
    result = cli.json("node", "exec", "node1", "--", "sh", "-c", "cat /sys/class/net/eth0/mtu; exit 0")
    assert result == {"status": 0, "stdout": "1400\n", "stderr": ""}
    assert "i-node2 with 10.0." in cli.text("node", "add", "node2")
    assert [n["name"] for n in cli.json("node", "list")] == ["node1", "node2"]
    assert "node2 is off" in cli.text("node", "kill", "node2")
    assert "node2  off" in cli.text("node", "list")
    assert "node2 does not run" in cli.text("node", "exec", "node2", "--", "true", status=1)
    assert cli.text("node", "reboot", "node2") == "node2 is up again\n", "there was nothing to lose"
    assert "node2 is gone" in cli.text("node", "remove", "node2")
    absent = f"lab: no node 'node2' in lab '{name}'; there are node1\n"
    for words in ("node kill", "node reboot", "node remove", "node exec", "node agent log"):
        assert cli.text(*words.split(), "node2", status=1) == absent
    assert cli.text("pod", "add", "node2", "default/x", status=1) == absent
    assert "no node 'NODE9'" in cli.text("pod", "add", "NODE9", "default/x", status=1)
    assert "terwayd has not run on node1 yet" in cli.text("node", "agent", "log", "node1", status=1)
    assert "terwayd has not run on node1 yet" in cli.text("node", "agent", "node1", "log", status=1)
    assert "'fly' is none of start, stop, log" in cli.text("node", "agent", "node1", "fly", status=1)


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
    assert "sandbox_gone" in cli.json("status")["pods"][0]
    assert "lo" in cli.json("pod", "exec", "default/web", "--", "ip", "-br", "link")["stdout"]
    assert "already exists" in cli.text("pod", "add", "node1", "default/web", status=1)
    rebooted = cli.text("node", "reboot", "node1").splitlines()
    assert rebooted[0] == "node1 is up again"
    assert rebooted[1] == f"terwayd is off: `./run lab node agent node1 start --name {name}`"
    assert rebooted[2] == (
        f"the sandboxes of default/web are gone: `./run lab pod del default/web --name {name}`"
    )
    assert cli.text("pod", "list").splitlines()[1].endswith("gone")
    assert cli.text("status").rstrip().endswith("gone")
    assert "default/web is gone" in cli.text("pod", "del", "default/web")
    assert cli.json("pod", "list") == []
    assert "no pod 'default/web'" in cli.text("pod", "del", "default/web", status=1)


def test_05_cloud(cli: Cli) -> None:
    assert "eni-node1" in cli.text("ecs", "state")
    assert {v["id"] for v in cli.json("ecs", "state")["vswitches"]} == {"vsw-nodes", "vsw-pods"}
    add = ("ecs", "fault", "add", "action=DescribeInstances")
    assert "fault 1" in cli.text(*add, "code=ServiceUnavailable", "count=2")
    assert "code=ServiceUnavailable,status=503" in cli.text("ecs", "fault", "list")
    assert "did you mean code?" in cli.text("ecs", "fault", "add", "cod=x", status=2)
    assert "code=Boom is unknown" in cli.text(*add, "code=Boom", status=2)
    assert "fault 2" in cli.text(*add, "code=Boom", "--any-code")
    assert "fault.count: 'x' is not" in cli.text(*add, "count=x", status=1)
    assert cli.json("ecs", "fault", "clear") == {}
    assert cli.json("ecs", "delay", "metadata=0.5")["metadata"] == 0.5
    assert "describe" in cli.text("ecs", "delay")
    assert "2 left" in cli.text("ecs", "occupy", "vsw-pods", "--leave", "2")
    assert "given back" in cli.text("ecs", "occupy", "vsw-pods", "--release")
    assert "clock is at 20" in cli.text("ecs", "clock", "advance", "60")
    assert cli.text("ecs", "clock", "advance", "0").rstrip().endswith("UTC")
    state = cli.text("ecs", "state")
    assert re.search(r"^i-node1 +node1 +ecs.g7.4xlarge +cn-hangzhou-a", state, re.MULTILINE)
    assert re.search(r"^sg-cluster +1 +egress +Accept", state, re.MULTILINE)
    assert cli.text("ecs", "occupy", "vsw-nosuch", status=1) == (
        'lab: InvalidVSwitchId.NotFound: The specified VSwitchId "vsw-nosuch" is not found.\n'
    )
    assert "metadata=x is not a number of seconds" in cli.text("ecs", "delay", "metadata=x", status=2)
    rule = ("direction=ingress", "protocol=TCP", "ports=[80,90]")
    assert "80,90" in cli.text("ecs", "group", "add", "sg-cluster", *rule)
    assert "80,90" not in cli.text("ecs", "group", "remove", "sg-cluster", *rule)
    assert "sg-cluster" in cli.text("ecs", "group", "list")
    assert cli.json("ecs", "calls", "--reset") == {}
    assert cli.json("ecs", "calls", "--recent") == []


def test_05_calls_are_recorded(cli: Cli, tmp_path: Path) -> None:
    """Off by default, for its owner's eyes, and no file is written over."""
    assert cli.json("ecs", "calls", "--stop-record") == {"calls": 0, "ended": ""}
    file = tmp_path / "record"
    assert "until `./run lab ecs calls --stop-record --name" in cli.text(
        "ecs", "calls", "--record", str(file)
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert "recorded already" in cli.text("ecs", "calls", "--record", str(tmp_path / "other"), status=1)
    assert not (tmp_path / "other").exists()
    program = "import urllib.request as r; r.urlopen('http://100.100.100.200/latest/meta-data/mac').read()"
    cli.text("node", "exec", "node1", "--", sys.executable, "-c", program)
    assert cli.text("ecs", "calls", "--stop-record") == "the record has 1 call\n"
    (line,) = map(json.loads, file.read_text().splitlines())
    assert (line["service"], line["action"], line["status"]) == ("metadata", "meta-data/mac", 200)
    told = cli.text("ecs", "calls", "--record", str(file), status=1)
    assert told == f"lab: {file}: File exists\n"


def test_05_events(cli: Cli, name: str) -> None:
    from lab.client import Lab

    kubernetes = Lab.attach(name).kubernetes
    assert "no events" in cli.text("events")
    kubernetes.create_namespace("default")
    for number, (kind, about) in enumerate((("Pod", "web"), ("Node", "node1"))):
        event = {
            "metadata": {"name": f"e{number}", "namespace": "default"},
            "involvedObject": {"kind": kind, "name": about, "namespace": "default"},
            "type": "Warning",
            "reason": "AllocIPFailed",
            "message": f"no address for {about},\n at length",
            "count": 3,
            "lastTimestamp": f"2026-11-30T09:15:0{9 - number}Z",
        }
        kubernetes.request("POST", "/api/v1/namespaces/default/events", event)
    lines = cli.text("events").splitlines()
    assert lines[0].split() == ["TIME", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"]
    assert lines[1].startswith("2026-11-30 09:15:08 UTC  Warning  AllocIPFailed  node node1")
    assert lines[2].endswith("pod default/web  3      no address for web, at length")
    assert "web" not in cli.text("events", "--object", "node1")
    assert [e["metadata"]["name"] for e in cli.json("events", "-n", "default")] == ["e1", "e0"]
    assert "no events" in cli.text("events", "-n", "kube-system")


def test_05_events_are_followed(cli: Cli, name: str) -> None:
    from lab.client import Lab

    with ended_by_hand(name, "events", "--follow", "--object", "late") as process:
        event = {
            "metadata": {"name": "late", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "late", "namespace": "default"},
            "type": "Normal",
            "reason": "AllocIPSucceed",
            "message": "at last",
            "lastTimestamp": "2026-11-30T09:16:00Z",
        }
        Lab.attach(name).kubernetes.request("POST", "/api/v1/namespaces/default/events", event)
        assert process.stdout is not None
        assert "AllocIPSucceed  pod default/late  1  at last" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert (process.wait(_DEADLINE), process.stdout.read()) == (0, "")
    assert cli.json("status")["name"] == name


def test_06_fabric(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    assert "control" in cli.text("counters")
    assert cli.json("counters")["forwarded"] >= 0
    assert "eni-node1" in cli.json("counters", "--ports")
    assert "no ENI 'eni-9'" in cli.text("capture", "eni-9", "-w", str(file), status=1)
    assert cli.json("capture", "eni-node1", "-w", str(file), "-c", "0")["frames"] == 0
    assert file.stat().st_size == 24
    assert (
        cli.text("capture", "eni-node1", "-w", str(tmp_path), status=1)
        == f"lab: {tmp_path}: Is a directory\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_06_a_capture_ends_by_hand(name: str, tmp_path: Path, number: int) -> None:
    """It says when it has begun, and how many frames there were; also where a shell ignores SIGINT for it."""
    from lab.client import Lab

    file = tmp_path / "x.pcap"
    with ended_by_hand(name, "capture", "eni-node1", "-w", str(file)) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        begun = process.stderr.readline()
        assert begun == f"[lab] capturing at eni-node1 into {file}; Ctrl-C ends it\n"
        Lab.attach(name).node("node1").exec(["ping", "-c", "2", "-W", "1", "100.100.100.200"])
        wait_for("frames are in the file", lambda: file.stat().st_size > 24)
        process.send_signal(number)
        out, err = process.communicate(timeout=_DEADLINE)
    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(rf"[1-9][0-9]* frames? in {re.escape(str(file))}\n", out)


def test_07_down(cli: Cli) -> None:
    assert "is down" in cli.text("down")
    assert "there is no lab" in cli.text("down")
    assert "bring one up with" in cli.text("status", status=1)


@contextlib.contextmanager
def ended_by_hand(name: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command as a shell starts it in the background, which is with SIGINT ignored."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    argv = [*ignoring, sys.executable, "-m", "lab.cli.main", *words, "--name", name]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=SOURCE)
    with process:
        try:
            yield process
        finally:
            process.kill()

"""A lab leaves no trace on the machine: not while it runs, not after its end, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.client import Lab, take_down
from lab.messages import LabError
from lab.nodes.remote import SOURCE
from lab.statedir import LabDir
from tests.netns.lab.machine import look, traces
from tests.netns.lab.waiting import wait_for

_CLIENT = """
import os, sys, signal
from lab.client import Lab
with Lab.start(name=sys.argv[1]) as lab:
    null = os.open(os.devnull, os.O_RDWR)
    lab.node("node1").spawn(["sleep", "1000"], (null, null, null), detached=True, label="left")
    print("up", flush=True)
    signal.pause()
"""


@contextmanager
def client(name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lab and waits for a signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=SOURCE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def test_while_it_runs_and_after_down(name: str) -> None:
    before = look()
    with Lab.start(name=name) as lab:
        lab.node("node1").exec(
            ["touch", "/etc/made-in-a-node", "/opt/too", "/tmp/t", "/var/lib/x"], check=True
        )
        lab.node("node1").exec(["ip", "link", "add", "v9", "type", "veth"], check=True)
        lab.node("node1").exec(["mount", "-t", "tmpfs", "none", "/mnt"], check=True)
        found = traces(name)
        while_up = before.differences(look())
    assert while_up == []
    assert found.left() == []
    assert before.differences(look()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_after_the_client_got_a_signal(name: str, number: signal.Signals) -> None:
    before = look()
    with client(name) as process:
        found = traces(name)
        process.send_signal(number)
        wait_for("the lab is gone", lambda: found.left() == [])
    assert before.differences(look()) == []


def _processes(name: str) -> tuple[int, int]:
    """The lab's process 1 and its warden, in this order."""
    record = json.loads(LabDir.of(name).leftovers.read_text())
    init, warden = map(int, record["processes"])
    return init, warden


def test_down_cleans_up_after_a_killed_warden(name: str) -> None:
    before = look()
    Lab.start(name=name, keep=True)
    found = traces(name)
    _, warden = _processes(name)
    os.kill(warden, signal.SIGKILL)
    wait_for("process 1 follows its warden", lambda: found.running() == [])
    assert found.left() != [], "nobody was there to remove files and groups"
    assert take_down(name)
    assert found.left() == []
    assert before.differences(look()) == []
    assert not take_down(name), "a second down has nothing to do"


def test_warden_cleans_up_after_the_others(name: str) -> None:
    with Lab.start(name=name):
        found = traces(name)
        init, _ = _processes(name)
        os.kill(init, signal.SIGKILL)
        wait_for("the lab is gone", lambda: found.left() == [])


def test_warden_ends_the_lab_on_sigterm(name: str) -> None:
    with Lab.start(name=name):
        found = traces(name)
        _, warden = _processes(name)
        os.kill(warden, signal.SIGTERM)
        wait_for("the lab is gone", lambda: found.left() == [])


def test_up_after_a_kill_removes_the_leftovers(name: str) -> None:
    Lab.start(name=name, keep=True)
    found = traces(name)
    os.kill(_processes(name)[1], signal.SIGKILL)
    wait_for("process 1 follows its warden", lambda: found.running() == [])
    assert found.left() != []
    with Lab.start(name=name) as lab:
        assert {n.name for n in lab.nodes} == {"node1", "node2"}
    assert found.left() == []


def test_a_start_that_fails_leaves_nothing(name: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"nodes": [{"name": "n", "vswitch_id": "vsw-none"}]}))
    argv = [sys.executable, "-m", "lab.cli.main", "up", "--name", name, "--spec", str(spec)]
    result = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=SOURCE)
    assert result.returncode == 1
    assert "vsw-none" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not LabDir.of(name).root.exists()
    assert take_down(name) is False


def test_a_second_lab_of_the_name_is_refused(name: str) -> None:
    with Lab.start(name=name) as lab:
        with pytest.raises(LabError, match="up already"):
            Lab.start(name=name)
        assert len(lab.nodes) == 2

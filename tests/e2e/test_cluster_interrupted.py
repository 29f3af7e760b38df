"""Whoever brings a cluster up and is stopped, or dies, before it is complete leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.client import take_down
from lab.kubernetes.product import ROOT
from lab.statedir import LabDir
from tests.e2e import cluster_site
from tests.e2e.cluster_site import eventually
from tests.netns.lab.machine import Machine, look, traces

if absent := cluster_site.absence():
    pytest.skip(absent, allow_module_level=True)

NAME = f"stopped-{os.getpid()}"


@pytest.fixture
def coming_up() -> Iterator[tuple[Machine, subprocess.Popen[str]]]:
    """The machine before; nodes and control plane are there, CNI and DNS are being installed."""
    before = look()
    argv = [
        sys.executable,
        "-m",
        "lab.kubernetes",
        "--name",
        NAME,
        "up",
        "--nodes",
        "1",
        "--agent",
        "process",
    ]
    process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        ready = LabDir.of(NAME).control
        eventually("the lab answers", lambda: ready.exists() or process.poll() is not None)
        yield before, process
    finally:
        process.kill()
        process.communicate()
        take_down(NAME)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_nothing_is_left(number: signal.Signals, coming_up: tuple[Machine, subprocess.Popen[str]]) -> None:
    before, process = coming_up
    found = traces(NAME)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 1)
    if number != signal.SIGKILL:
        assert said.splitlines()[-1] == "cluster: interrupted"
        assert found.left() == []
    eventually("everything has ended", lambda: not found.left())
    assert before.differences(look()) == []

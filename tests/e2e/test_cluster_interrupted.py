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
from tests.netns.lab.machine import look, traces

if absent := cluster_site.absence():
    pytest.skip(absent, allow_module_level=True)

NAME = f"stopped-{os.getpid()}"


@pytest.fixture
def coming_up() -> Iterator[subprocess.Popen[str]]:
    """Nodes and control plane are there; CNI and DNS are being installed."""
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
        yield process
    finally:
        process.kill()
        process.communicate()
        take_down(NAME)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_nothing_is_left(number: signal.Signals, coming_up: subprocess.Popen[str]) -> None:
    found, before = traces(NAME), look()
    coming_up.send_signal(number)
    _, said = coming_up.communicate(timeout=60)
    assert coming_up.returncode == (-number if number == signal.SIGKILL else 1)
    if number != signal.SIGKILL:
        assert said.splitlines()[-1] == "cluster: interrupted"
        assert found.left() == []
    eventually("everything has ended", lambda: not found.left())
    assert before.differences(look()) == []

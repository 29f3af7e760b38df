"""Live packets through the window: a real ping, two readers, and whoever goes without a word."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from control.cli.client import CliError
from datapath import namespace
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, Address
from tests.netns.fastpath.node import FAR, FastNode, Tenant, until
from tests.netns.fastpath_window.opened import Opened

ROOT = Path(__file__).resolve().parents[3]


class Listener:
    """Reads a trace in a thread, as terway-cli does. ``error``: how it ended, if not by us."""

    def __init__(self, window: Opened, *addresses: Address) -> None:
        self.events: list[dict[str, Any]] = []
        self.error = ""
        self._stop = threading.Event()
        self._window = window
        self._query = {"address": ",".join(map(str, addresses))} if addresses else {}
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        try:
            for event in self._window.daemon().stream("trace", **self._query):
                if self._stop.is_set():
                    return
                if event is not None:
                    self.events.append(event)
            self.error = "ended"
        except CliError as exc:
            self.error = str(exc)

    def stop(self) -> None:
        """Hangs up after the next line."""
        self._stop.set()
        self.thread.join()

    def seen(self) -> list[tuple[str, str]]:
        return [(event["hook"], event["reason"]) for event in self.events]


@contextmanager
def listening(window: Opened, *addresses: Address) -> Iterator[Listener]:
    made = Listener(window, *addresses)
    try:
        until(window.tracing, "the trace is on")
        yield made
    finally:
        made.stop()


def ping(source: Tenant, target: Address) -> None:
    with namespace.entered(source.netns):
        command = ["ping", "-n", "-c", "1", "-W", "2", str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def told(listener: Listener, count: int) -> Callable[[], bool]:
    return lambda: len(listener.events) >= count


def test_a_ping_is_told_both_ways(node: FastNode, window: Opened) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    with listening(window, one.address(4)) as listener:
        ping(one, other.address(4))
        until(told(listener, 2), "request and reply")
    request, reply = listener.events
    assert (request["source"], request["destination"]) == (str(one.address(4)), str(other.address(4)))
    assert (reply["source"], reply["destination"]) == (str(other.address(4)), str(one.address(4)))
    assert (request["protocol"], request["destination_port"], reply["source_port"]) == (1, 8, 8)
    assert request["source_port"] == reply["destination_port"] > 0, "the identifier"
    assert (request["hook"], request["verdict"], request["reason"]) == ("pod_egress", "peer", "fast_local")
    with namespace.entered(node.world.node):
        devices = [socket.if_indextoname(each.applied.host_ifindex) for each in (one, other)]
    assert [request["device"], request["target"]] == devices
    assert [reply["device"], reply["target"]] == devices[::-1]
    assert request["length"] == 98
    assert 0 < reply["time"] - request["time"] < 5


def test_both_families_of_a_pod_and_nothing_else(node: FastNode, window: Opened) -> None:
    one, other, third = node.pod(ENI1), node.pod(ENI2), node.pod(ENI2)
    with listening(window, *one.endpoint.addresses()) as listener:
        exchange(third.netns, other.netns, other.address(4))
        exchange(other.netns, node.far, FAR)
        for version in (4, 6):
            exchange(one.netns, other.netns, other.address(version))
        until(told(listener, 4), "two packets of each family")
    local = ("pod_egress", "fast_local")
    assert [seen for seen in listener.seen() if seen[1].startswith("fast")] == [local] * 4
    mine = {str(each) for each in one.endpoint.addresses()}
    named = [event for event in listener.events if event["source"]]
    assert all({event["source"], event["destination"]} & mine for event in named)


def test_a_second_reader_has_its_own_address(node: FastNode, window: Opened) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    with listening(window, one.address(4)) as first:
        until(lambda: window.only() == str(one.address(4)), "the programs tell of one address")
        with listening(window, other.address(6)) as second:
            until(lambda: window.only() == "", "the programs tell of both")
            exchange(one.netns, other.netns, other.address(4))
            exchange(one.netns, other.netns, other.address(6))
            until(told(first, 2), "what the first asked for")
            until(told(second, 2), "what the second asked for")
        until(lambda: window.only() == str(one.address(4)), "one address again")
        exchange(one.netns, other.netns, other.address(4))
        until(told(first, 4), "the first goes on")
    assert {event["source"] for event in first.events} == {str(one.address(4)), str(other.address(4))}
    assert {event["source"] for event in second.events} == {str(one.address(6)), str(other.address(6))}
    until(lambda: not window.tracing(), "off when the last has gone")


def test_the_command_line_ends_after_so_many(node: FastNode, window: Opened) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    done: list[tuple[int, str, str]] = []
    reader = threading.Thread(target=lambda: done.append(window.cli("trace", str(one.address(4)), "-c", "2")))
    reader.start()
    until(window.tracing, "the trace is on")
    exchange(one.netns, other.netns, other.address(4))
    reader.join()
    ((status, out, err),) = done
    assert (status, err) == (0, "")
    assert [line.split()[1:4] for line in out.splitlines()] == [["pod_egress", "peer", "fast_local"]] * 2
    assert f"udp {one.address(4)}:" in out.splitlines()[0]
    until(lambda: not window.tracing(), "off")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_who_is_gone_is_noticed(node: FastNode, window: Opened, end: signal.Signals) -> None:
    """Also without a packet that could not be delivered."""
    node.pod(ENI1)
    command = [sys.executable, "-m", "control.cli.main", "--socket", window.socket, "trace"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        until(window.tracing, "the trace is on")
        client.send_signal(end)
        _, err = client.communicate()
        assert (client.returncode, err) == (0 if end == signal.SIGINT else -end, b"")
    until(lambda: not window.tracing(), "off without a reader")


def test_a_fast_path_that_closes_ends_the_trace(node: FastNode, window: Opened) -> None:
    with listening(window) as listener:
        node.fast.close()
        until(lambda: listener.error == "ended", "the end of the stream")
    node.open()
    assert not window.tracing()
    with listening(window):
        pass


_KILLED = """
import os, signal, sys
from pathlib import Path
from datapath.acceleration import open_fast_path
fast = open_fast_path(Path(sys.argv[1]), netns=int(sys.argv[2]))
reader = fast.trace()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nobody_is_left_tracing_by_a_daemon_that_was_killed(node: FastNode, window: Opened) -> None:
    node.fast.close()
    command = [sys.executable, "-c", _KILLED, str(node.pins), str(node.world.node)]
    done = subprocess.run(command, cwd=ROOT, pass_fds=[node.world.node], check=False)
    assert done.returncode == -signal.SIGKILL
    node.open()
    assert not window.tracing()


def test_what_the_buffer_could_not_hold_is_said(node: FastNode) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    with node.fast.trace(one.address(4)) as trace:
        exchange(one.netns, other.netns, other.address(4))
        assert len(trace.read(2.0)) == 2
        assert trace.overruns == 0
        with namespace.entered(one.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(5000):
                sender.sendto(b"x", (str(other.address(4)), 9))
        held = trace.read(0.0)
        assert 3000 < len(held) < 5000
        assert trace.overruns == 1
        exchange(one.netns, other.netns, other.address(4))
        assert len(trace.read(2.0)) >= 2
        assert trace.overruns == 1

"""``trace``: who is meant, how events are drawn, and how it ends."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from control.cli.client import CliError, Daemon
from control.cli.trace import draw_event
from tests.unit.control_cli.served import Lines, served

EVENT: dict[str, Any] = {
    "time": 1700000000.25,
    "hook": "pod_egress",
    "verdict": "peer",
    "reason": "fast_local",
    "source": "10.0.0.1",
    "destination": "10.0.0.2",
    "protocol": 17,
    "source_port": 4000,
    "destination_port": 53,
    "length": 106,
    "device": "cali1",
    "target": "cali2",
}
MAPPING = {
    "attachments": [
        {"pod_namespace": "default", "pod_name": "web", "ipv4": "10.0.0.1", "ipv6": "2001:db8::1"},
        {"pod_namespace": "default", "pod_name": "old", "ipv4": "10.0.0.9", "ipv6": ""},
    ]
}
PATIENCE = 5.0


def drawn(**changes: Any) -> str:
    """Without the time, which depends on the zone."""
    return draw_event({**EVENT, **changes}).partition(" ")[2]


def test_an_event_in_one_line() -> None:
    start = "pod_egress   peer  fast_local       "
    assert drawn() == f"{start} udp 10.0.0.1:4000 > 10.0.0.2:53 106 bytes cali1 > cali2"
    six = drawn(source="2001:db8::1", destination="2001:db8::2", protocol=6, target="")
    assert six == f"{start} tcp [2001:db8::1]:4000 > [2001:db8::2]:53 106 bytes cali1"
    assert draw_event(EVENT).split()[0].endswith(":20.250000")


@pytest.mark.parametrize(
    ("protocol", "ports", "told"),
    [
        (1, (77, 8), "icmp 10.0.0.1 > 10.0.0.2 echo request 77"),
        (58, (128, 77), "icmp6 10.0.0.1 > 10.0.0.2 echo reply 77"),
        (58, (0, 135), "icmp6 10.0.0.1 > 10.0.0.2 type 135"),
        (1, (5, 13), "icmp 10.0.0.1 > 10.0.0.2 5/13"),
        (6, (0, 0), "tcp 10.0.0.1 > 10.0.0.2"),
        (47, (0, 0), "protocol 47 10.0.0.1 > 10.0.0.2"),
    ],
)
def test_what_has_no_ports(protocol: int, ports: tuple[int, int], told: str) -> None:
    text = drawn(protocol=protocol, source_port=ports[0], destination_port=ports[1])
    assert f" {told} 106 bytes " in text


def test_addresses_that_nobody_read() -> None:
    assert "  addresses not read 106 bytes cali1" in drawn(source="", destination="", target="")


def test_a_pod_is_asked_for_by_its_addresses(tmp_path: Path) -> None:
    lines = Lines([[], [EVENT, EVENT], [EVENT]], forever=True)
    with served(tmp_path, {"GET /mapping": MAPPING}, lines) as window:
        status, out, err = window.cli("trace", "default/web", "-c", "3", "--json")
        assert (status, err) == (0, "")
        assert [json.loads(line) for line in out.splitlines()] == [EVENT] * 3
        assert window.asked == ["GET /mapping", "GET /trace {'address': '10.0.0.1,2001:db8::1'}"]
        assert lines.closed.wait(PATIENCE), "the daemon notices that the client has gone"


@pytest.mark.parametrize(
    ("target", "query"), [([], {}), (["2001:DB8::1"], {"address": "2001:db8::1"})], ids=["all", "address"]
)
def test_all_packets_or_those_of_an_address(tmp_path: Path, target: list[str], query: dict[str, str]) -> None:
    with served(tmp_path, {}, Lines([[EVENT]])) as window:
        assert window.cli("trace", "-c", "1", *target)[0] == 0
        assert window.asked == [f"GET /trace {query}"]


@pytest.mark.parametrize(
    ("target", "told"),
    [("web", "neither an address nor NAMESPACE/POD"), ("default/gone", "terway-cli mapping")],
)
def test_who_is_not_known_is_said(tmp_path: Path, target: str, told: str) -> None:
    with served(tmp_path, {"GET /mapping": MAPPING}) as window:
        status, out, err = window.cli("trace", target)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert told in err
        assert not [asked for asked in window.asked if "trace" in asked]


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_count_is_a_number_above_zero(tmp_path: Path, count: str) -> None:
    with served(tmp_path, {}) as window:
        status, _, err = window.cli("trace", "-c", count)
    assert (status, err.count("\n")) == (1, 1)
    assert f"'{count}' is not a number above 0" in err


def test_what_was_missed_goes_to_stderr_and_does_not_count(tmp_path: Path) -> None:
    with served(tmp_path, {}, Lines([[{"note": "not told: 7"}], [EVENT]])) as window:
        status, out, err = window.cli("trace", "-c", "1")
    assert (status, err) == (0, "terway-cli: not told: 7\n")
    assert out.count("\n") == 1


def test_a_trace_that_the_daemon_ends_is_a_failure(tmp_path: Path) -> None:
    with served(tmp_path, {}, Lines([[EVENT]])) as window:
        status, out, err = window.cli("trace")
    assert (status, out.count("\n"), err.count("\n")) == (1, 1, 1)
    assert "has ended the trace" in err


def test_whoever_hangs_up_without_a_word_is_noticed(tmp_path: Path) -> None:
    lines = Lines([], forever=True)
    with served(tmp_path, {}, lines) as window:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(window.socket.removeprefix("unix://"))
            client.sendall(b"GET /trace HTTP/1.1\r\nHost: x\r\n\r\n")
            client.settimeout(PATIENCE)
            assert client.recv(12) == b"HTTP/1.1 200"
            assert not lines.closed.is_set()
        assert lines.closed.wait(PATIENCE)


def test_a_refusal_comes_instead_of_a_stream(tmp_path: Path) -> None:
    with served(tmp_path, {}) as window:
        with pytest.raises(CliError, match="no address"):
            list(Daemon(window.socket).stream("trace", address="none"))

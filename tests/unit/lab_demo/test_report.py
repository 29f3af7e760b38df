"""The report of a demonstration: its JSON, its verdict, and the commands it hands out."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lab.cli.main import parser
from lab.demo.around import look_around
from lab.demo.matrix import Cell, Kind, Outcome, Place, Protocol, Where
from lab.demo.report import EniReport, NodeReport, PodReport, Report, as_json, as_text
from lab.demo.vitals import Vitals

ENI = EniReport("eni-1", "00:16:3e:00:00:01", "Secondary", ("10.0.16.1", "10.0.16.2", "2001:db8::1"))
NODE = NodeReport("node1", "ENI multi-IP, PolicyRoute", False, (ENI,), Vitals(92.0, 0.05))
PODS = (
    PodReport("node1", "demo", "a", ("10.0.16.1", "2001:db8::1"), "eni-1", 150.0),
    PodReport("node1", "demo", "b", ("10.0.16.2",), "eni-1", 3.25),
)


def place(name: str, address: str) -> Place:
    return Place(name, Where.POD, "node1", -1, (ip_address(address),))


def outcome(*failed: str) -> Outcome:
    cell = Cell(place("demo/a", "10.0.16.1"), place("demo/b", "10.0.16.2"), Kind.SAME_NODE, Protocol.UDP, 4)
    return Outcome(cell, "stack", failed, tuple("no answer" for _ in failed))


def report(*outcomes: Outcome, drops: dict[str, int] | None = None) -> Report:
    return Report((NODE,), PODS, outcomes, drops or {})


def test_all_good() -> None:
    assert as_text(report(outcome())).splitlines()[-1] == (
        "OK: 1 of 1 paths are good, the fabric dropped no frames"
    )
    assert as_json(report(outcome()))["ok"] is True


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (report(outcome("mtu"), outcome()), "NOT OK: 1 of 2 paths are good, the fabric dropped no frames"),
        (
            report(outcome(), drops={"wrong_mac": 1}),
            "NOT OK: 1 of 1 paths are good, the fabric dropped 1 frame",
        ),
        (report(), "NOT OK: 0 of 0 paths are good, the fabric dropped no frames"),
    ],
)
def test_not_good(seen: Report, verdict: str) -> None:
    assert as_text(seen).splitlines()[-1] == verdict
    assert as_json(seen)["ok"] is False


def test_what_failed_is_named_with_its_cause() -> None:
    assert "demo/a -> demo/b  udp IPv4  mtu: no answer" in as_text(report(outcome("mtu")))


def test_json_has_the_fields_of_the_issue() -> None:
    value = as_json(report(outcome()))
    assert value["pods"][0]["address"] == "10.0.16.1"
    assert value["nodes"][0]["daemon"] == {"rss_mib": 92.0, "idle_cpu_percent": 0.05}
    assert value["adds_ms"] == [150.0, 3.25]
    assert value["matrix"] == [
        {
            "from": "demo/a",
            "to": "demo/b",
            "kind": "pod-pod-same-node",
            "protocol": "udp",
            "family": 4,
            "ok": True,
            "path": "stack",
        }
    ]


def test_the_median_leaves_out_the_pod_that_waited_for_an_eni() -> None:
    text = as_text(report(outcome()))
    assert "median of the others 3.2" in text
    assert "node1: a 150.0  b 3.2" in text


def test_every_command_to_look_around_with_is_one_of_the_lab() -> None:
    commands = [line.split("./run lab ", 1)[1] for line in look_around("x", report()).splitlines()[1:-1]]
    assert len(commands) > 10
    for command in commands:
        parsed = parser().parse_args(command.split(" -- ")[0].split())
        assert parsed.name == "x"

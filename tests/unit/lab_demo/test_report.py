"""The report of a demonstration: its JSON, its verdict, and the commands it hands out."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from control.cli.main import main as terway_cli
from lab.cli.main import parser
from lab.demo.around import look_around
from lab.demo.matrix import Cell, Kind, Outcome, Packets, Path, Place, Protocol, Where
from lab.demo.report import EniReport, FaultReport, NodeReport, PodReport, Report, as_json, as_text
from lab.demo.vitals import Vitals

ENI = EniReport("eni-1", "00:16:3e:00:00:01", "Secondary", ("10.0.16.1", "10.0.16.2", "2001:db8::1"))
NODE = NodeReport("node1", "ENI multi-IP, PolicyRoute", False, (ENI,), Vitals(92.0, 0.05, 40.0))
PODS = (
    PodReport("node1", "demo", "a", ("10.0.16.1", "2001:db8::1"), "eni-1", 150.0),
    PodReport("node1", "demo", "b", ("10.0.16.2",), "eni-1", 3.25),
)


def place(name: str, address: str) -> Place:
    return Place(name, Where.POD, "node1", -1, (ip_address(address),))


def outcome(*failed: str) -> Outcome:
    return Outcome(cell(), Path.STACK, failed, tuple("no answer" for _ in failed), Packets(0, 4))


def cell(kind: Kind = Kind.SAME_NODE, between: Kind = Kind.SAME_NODE) -> Cell:
    source, target = place("demo/a", "10.0.16.1"), place("demo/b", "10.0.16.2")
    return Cell(source, target, kind, Protocol.UDP, 4, between)


def report(*outcomes: Outcome, drops: dict[str, int] | None = None, bpf: bool = False) -> Report:
    return Report((replace(NODE, bpf=bpf),), PODS, outcomes, drops or {})


def test_all_good() -> None:
    assert as_text(report(outcome())).splitlines()[-1] == (
        "OK: 1 of 1 paths are good, the fabric dropped no frames"
    )
    assert as_json(report(outcome()))["ok"] is True


def test_hostile_frames_are_told_with_node_eni_and_reason() -> None:
    """Who poisoned is named in the verdict too; a fault that is no poison has a line alone."""
    faults = (
        FaultReport("node1", "eni-1", "claim_gateway", 2),
        FaultReport("node2", "eni-2", "src_addr", 1),
        FaultReport("", "eni-3", "claim_router", 1),
    )
    drops = {"claim_gateway": 2, "src_addr": 1, "claim_router": 1}
    seen = replace(report(outcome(), drops=drops), faults=faults)
    assert as_json(seen)["faults"][0] == {
        "node": "node1",
        "eni": "eni-1",
        "reason": "claim_gateway",
        "frames": 2,
    }
    assert not seen.ok
    text = as_text(seen)
    assert "\n  node1 poisons: eni-1, claim_gateway, 2 frames\n" in text
    assert "\n  node2 sent: eni-2, src_addr, 1 frame\n" in text
    assert "\n  a node poisons: eni-3, claim_router, 1 frame\n" in text
    assert text.endswith("the fabric dropped 4 frames, eni-3 and node1 poisoned")


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


def seen(path: Path, kind: Kind = Kind.SAME_NODE) -> Outcome:
    return Outcome(cell(kind), path, packets=Packets(6, 2))


@pytest.mark.parametrize("path", [Path.STACK, Path.BOTH, Path.UNSEEN])
def test_with_ebpf_in_force_common_packets_between_pods_take_it(path: Path) -> None:
    assert report(seen(Path.EBPF), bpf=True).ok
    strayed = report(seen(path), seen(Path.EBPF), bpf=True)
    assert not strayed.ok
    text = as_text(strayed)
    assert f"udp IPv4  path {path} where eBPF is in force: 6 packets by eBPF, 2 forwardings" in text
    assert text.splitlines()[-1].startswith("NOT OK: 1 of 2 paths are good")
    assert report(seen(path)).ok, "by routing alone any way is good"


def test_what_is_unusual_may_go_by_the_stack() -> None:
    some = report(seen(Path.STACK, Kind.FRAGMENTS), seen(Path.EBPF), bpf=True)
    assert some.ok
    rows = {line.split()[0]: line.split()[-1] for line in as_text(some).splitlines() if "/1" in line}
    assert rows == {"pod-pod-same-node": "ebpf", "fragments": "stack"}


def test_common_packets_between_pods_are_summed_up() -> None:
    some = report(seen(Path.EBPF), seen(Path.EBPF), seen(Path.STACK, Kind.FRAGMENTS))
    assert as_json(some)["pod_to_pod"] == {"ebpf": 12, "forwarded": 4}
    assert "12 by eBPF, 4 forwardings by the nodes' stacks (counted by ForwDatagrams)" in as_text(some)
    still = report(Outcome(cell(), Path.EBPF, packets=Packets(6, 0)))
    assert "6 by eBPF, 0 forwardings by the nodes' stacks (ForwDatagrams stood still)" in as_text(still)


def test_without_a_pair_of_pods_no_packets_are_claimed() -> None:
    alone = report(Outcome(cell(Kind.OUTSIDE), Path.EBPF, packets=Packets(6, 0)))
    text = as_text(replace(alone, pods=PODS[:1]))
    assert "by eBPF" not in text
    assert "Common packets from pod to pod: there is one pod, and nothing to send to" in text


def test_the_daemon_and_its_sdk_worker_are_told_apart() -> None:
    text = as_text(report(outcome()))
    assert "node1  52 MiB + 40 MiB" in text
    assert "the SDK worker, which ends when the cloud has not been needed for 30 s" in text
    alone = replace(report(outcome()), nodes=(replace(NODE, daemon=Vitals(52.0, 0.05)),))
    assert "node1  52 MiB  " in as_text(alone)
    assert "SDK worker" not in as_text(alone)


def test_a_node_says_why_it_is_as_it_is() -> None:
    node = replace(NODE, because=("eBPF is switched off by -bpf off",))
    text = as_text(replace(report(outcome()), nodes=(node,)))
    assert "    because: eBPF is switched off by -bpf off" in text
    assert as_json(replace(report(outcome()), nodes=(node,)))["nodes"][0]["because"] == [*node.because]


def test_json_has_the_fields_of_the_issue() -> None:
    value = as_json(report(outcome()))
    assert value["pods"][0]["address"] == "10.0.16.1"
    assert value["nodes"][0]["daemon"] == {
        "rss_mib": 92.0,
        "sdk_worker_mib": 40.0,
        "idle_cpu_percent": 0.05,
    }
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
            "between": "pod-pod-same-node",
            "packets": {"ebpf": 0, "forwarded": 4},
        }
    ]


def test_the_median_leaves_out_the_pod_that_waited_for_an_eni() -> None:
    text = as_text(report(outcome()))
    assert "median of the others 3.2" in text
    assert "node1: a 150.0  b 3.2" in text


def commands() -> list[str]:
    return [line.split("./run lab ", 1)[1] for line in look_around("x", report()).splitlines()[1:-1]]


def test_every_command_to_look_around_with_is_one_of_the_lab() -> None:
    assert len(commands()) > 10
    for command in commands():
        parsed = parser().parse_args(command.split(" -- ")[0].split())
        assert parsed.name == "x"


def test_what_a_node_is_asked_is_a_word_of_terway_cli() -> None:
    asked = [command.split(" -- terway-cli ")[1] for command in commands() if " -- terway-cli " in command]
    assert {words.split()[0] for words in asked} == {"mapping", "fastpath", "bpf", "trace"}
    for words in asked:
        with pytest.raises(SystemExit) as ended:
            terway_cli([*words.split(), "--help"])
        assert ended.value.code == 0, f"terway-cli {words}"

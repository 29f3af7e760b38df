"""The demonstration from the command line: its report, what carried the packets, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from datapath import namespace
from lab.client import Lab
from lab.demo import __main__ as main
from lab.nodes.remote import SOURCE
from lab.spec import gateway_of
from lab.statedir import LabDir
from tests.netns.fabric import frames as f

COMMON = {"pod-pod-same-node", "pod-pod-other-node", "pod-outside"}
UNUSUAL = {"fragments", "ip-options", "pmtu", "icmp-error"}
NAME = f"demo-{os.getpid()}"


def demo(*words: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "lab.demo", "--json", "--name", NAME, *words]
    done = subprocess.run(argv, cwd=SOURCE, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["ok"], "exit status and report must agree"
    assert not LabDir.of(NAME).root.exists()
    return answer


def paths(answer: dict[str, Any], *kinds: str) -> Counter[str]:
    return Counter(row["path"] for row in answer["matrix"] if row["kind"] in kinds)


def test_pods_packets_go_by_ebpf_and_the_stacks_stand_still() -> None:
    answer = demo("--nodes", "2", "--pods", "2")
    assert [node["bpf"] for node in answer["nodes"]] == [True, True], answer["nodes"]
    assert set(paths(answer, *COMMON)) == {"ebpf"}
    assert answer["pod_to_pod"]["ebpf"] > 1000
    assert answer["pod_to_pod"]["forwarded"] == 0
    assert {row["kind"] for row in answer["matrix"]} == {*COMMON, *UNUSUAL, "host-pod", "pod-host"}
    assert set(paths(answer, "fragments")) == {"stack"}
    # What has options is the stack's; its answers have none, and are fast where no conntrack follows them.
    assert set(paths(answer, "ip-options")) <= {"stack", "ebpf+stack"}
    assert set(paths(answer, "pmtu")) == {"ebpf"}
    assert "unseen" not in paths(answer, *COMMON, *UNUSUAL, "host-pod", "pod-host")


@pytest.mark.parametrize("more", [(), ("--wire", "--mtu", "8500")], ids=["plain", "wire-jumbo"])
def test_without_ebpf_the_stack_carries_all(more: tuple[str, ...]) -> None:
    answer = demo("--bpf", "off", "--nodes", "1", "--pods", "2", *more)
    assert [node["bpf"] for node in answer["nodes"]] == [False]
    assert "-bpf off" in " ".join(answer["nodes"][0]["because"])
    assert {row["path"] for row in answer["matrix"]} == {"stack"}
    assert {row["kind"] for row in answer["matrix"]} >= UNUSUAL


def test_jumbo_frames_as_on_a_wire_go_by_ebpf() -> None:
    answer = demo("--wire", "--mtu", "8500", "--nodes", "2", "--pods", "1")
    assert set(paths(answer, *COMMON)) == {"ebpf"}
    assert answer["fabric_drops"] == {}


@pytest.mark.parametrize(("words", "told"), [(("--mtu", "9000"), "9000"), (("--bpf", "on"), "on")])
def test_what_cannot_be_is_refused(words: tuple[str, str], told: str) -> None:
    argv = [sys.executable, "-m", "lab.demo", "--name", NAME, *words]
    done = subprocess.run(argv, cwd=SOURCE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert not LabDir.of(NAME).root.exists()


def test_hostile_node_that_poisons_makes_the_demonstration_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once the agents run, node1 announces the gateway's address by ARP, and itself as a router by IPv6."""
    started = main._start_agents

    def start_and_poison(lab: Lab, bpf: str) -> None:
        started(lab, bpf)
        poison(lab, "node1")

    monkeypatch.setattr(main, "_start_agents", start_and_poison)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        status = main.main(["--nodes", "2", "--pods", "1", "--name", NAME])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    told = capsys.readouterr().out
    assert status == 1
    assert re.search(r"^  node1 poisons: eni-\S+, claim_gateway, 1 frame$", told, re.MULTILINE), told
    assert re.search(r"^  node1 poisons: eni-\S+, claim_router, 2 frames$", told, re.MULTILINE), told
    assert "node2 poisons" not in told
    last = told.strip().splitlines()[-1]
    assert last.startswith("NOT OK: ")
    assert last.endswith("the fabric dropped 3 frames, node1 poisoned")
    assert re.search(r"(\d+) of \1 paths are good", last), "all else was good"


def poison(lab: Lab, node: str) -> None:
    """Frames by the node's primary ENI, with its own MAC."""
    gateway = str(gateway_of(lab.spec.vswitches[0].cidr))
    with namespace.entered(lab.netns_fd(node)), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        mac = sender.getsockname()[4].hex(":")
        claim = f.arp(2, (mac, gateway), (f.BROADCAST, gateway))
        sender.send(f.ether(f.BROADCAST, mac, f.ARP, claim))
        advert = f.icmp(134, 0, bytes(12), v6=True)
        for _ in range(2):
            packet = f.ip("fe80::bad", "ff02::1", advert, hops=255)
            sender.send(f.ether_ip(f.multicast_mac("ff02::1"), mac, packet))

"""The demonstration from the command line: its report, what carried the packets, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from lab.nodes.remote import SOURCE
from lab.statedir import LabDir

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

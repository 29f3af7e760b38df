"""A pod that spends its flow records, on a node whose conntrack is not asked: told, and nobody's harm."""

from __future__ import annotations

import os
import shutil

from datapath.acceleration.layout import PROGRAMS
from datapath.ebpf import objects
from lab.nodes import agent
from lab.sandbox import PodOptions
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e import benches
from tests.e2e.conftest import Bench
from tests.e2e.test_fastpath import ANNOTATION, asked, counted
from tests.e2e.witnesses import reaches, until
from tests.netns.fastpath.calls import flood


def test_hostile_refusals_are_counted_and_told(node: Bench) -> None:
    """By terwayd without the programs that ask conntrack, as on Linux 5.10."""
    inside = "/var/lib/without-ct"
    outside = node.node.directory.outside(inside)
    outside.mkdir(exist_ok=True)
    for name in PROGRAMS:
        shutil.copy(objects.path(name), outside)
    node.configure(agent.cni_conf(host_stack_cidrs=[f"{OUTSIDE_ADDRESS}/32"]))
    node.node.start_agent(["-bpf-objects", inside], env={"TERWAY_TEST_CLOCK": "1"})
    assert "pod_egress_ct" in asked(node.node, "/fastpath")["conntrack"]
    assert "conntrack cannot be asked" in node.node.exec(["terway-cli", "fastpath"], check=True).stdout
    attacker, other, third = (node.pod(f"web-{i}") for i in range(3))
    netns = attacker.netns_fd()

    def refused() -> dict[str, int]:
        """After another flood: on a busy machine the stack's queue drops some datagrams of each."""
        flood(netns, [OUTSIDE_ADDRESS], ports=10_000, times=1)
        rows = asked(node.node, "/bpf/endpoints")
        return {row["pod"].partition("/")[2]: row["flows_refused"] for row in rows}

    try:
        rows = until(refused, lambda found: found["web-0"] >= 10_000 - 8192)
    finally:
        os.close(netns)
    assert rows["web-1"] == rows["web-2"] == 0
    status, body = node.node.agent_get("/metrics")
    assert status == 200
    (line,) = (
        one
        for one in body.splitlines()
        if one.startswith("terway_pod_flow_refusals_total") and 'cause="share"' in one
    )
    assert 'pod="web-0"' in line
    for n in range(2):  # any change of a pod lets the agent look again
        node.pod(f"more-{n}", options=PodOptions(annotations={ANNOTATION: "off"}))
    until(
        lambda: [e["reason"] for e in benches.events(node, "web-0")], lambda found: "FastPathLimited" in found
    )
    told = [e for e in benches.events(node, "web-0") if e["reason"] == "FastPathLimited"]
    assert len(told) == 1
    with counted(node.node, other, fast=True), counted(node.node, attacker, fast=True):
        assert reaches(other, str(third.ipv4))
        assert reaches(attacker, str(third.ipv4))

"""What is the node's own: a virtual address is not, and IPv6 of the node may come after the agent's start."""

from __future__ import annotations

import pytest

from lab.client import Lab
from tests.e2e.benches import roomy
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import reaches, settled, until

VIRTUAL = "10.0.0.99"
KEEPALIVED = ["ip", "addr", "add", f"{VIRTUAL}/32", "dev", "eth0"]


def _on(bench: Bench, device: str) -> str:
    return bench.node.exec(["ip", "-o", "addr", "show", "dev", device, "scope", "global"], check=True).stdout


def test_facts_of_the_node_are_followed(lab: Lab) -> None:
    """keepalived's address is on eth0 at the start, and the node's IPv6 address comes later."""
    with roomy(lab) as bench:
        own_6 = next((w.split("/")[0] for w in _on(bench, "eth0").split() if ":" in w and "/" in w), "")
        if not own_6:
            pytest.skip("the lab's node has no IPv6 address of its own")
        bench.node.stop_agent()
        bench.node.exec(KEEPALIVED, check=True)
        bench.node.exec(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"], check=True)
        bench.node.start_agent(env={"TERWAY_TEST_CLOCK": "1"})
        one, two = bench.pod("one"), bench.pod("two")
        settled(bench.node)
        for address in two.addresses:
            assert reaches(one, str(address)), "pods have IPv6 before the node has"
        assert VIRTUAL not in _on(bench, "eth1")
        until(lambda: _on(bench, "eth1"), lambda there: own_6 not in there)
        bench.node.exec(["ip", "addr", "add", f"{own_6}/64", "dev", "eth0", "nodad"], check=True)
        until(lambda: _on(bench, "eth1"), lambda there: own_6 in there)
        bench.node.exec(["ip", "addr", "add", f"{VIRTUAL}/32", "dev", "eth1"], check=True)
        until(lambda: _on(bench, "eth1"), lambda there: VIRTUAL not in there)

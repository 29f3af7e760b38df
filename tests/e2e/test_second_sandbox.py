"""An ADD that fails takes nothing from a pod that runs: repeated, or of a second sandbox of the same pod.

The failure is the node's: the gateway of the pod's ENI cannot be reached, so no routing can be proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import cni_call
from lab.cni_call import CniError
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, kernel, reaches, settled, state, until


@contextmanager
def _no_way_to_the_gateway(node: Bench, gateway: str) -> Iterator[None]:
    """By a rule that is somebody's, so that no repair takes it away: the routing of no pod can be proven."""
    rule = ["priority", "600", "to", f"{gateway}/32", "unreachable"]
    node.node.exec(["ip", "rule", "add", *rule], check=True)
    yield
    node.node.exec(["ip", "rule", "del", *rule], check=True)
    node.advance(61)  # the ENI is looked at again, which no ADD was given since


@pytest.mark.parametrize("bpf", ["on", "off"])
def test_failed_add_takes_nothing_from_the_running_pod(node: Bench, bpf: str) -> None:
    node.node.start_agent(["-bpf", bpf], env={"TERWAY_TEST_CLOCK": "1"})
    pod, other = node.pod("web"), node.pod("other")
    settled(node.node)
    told = state(node.node)["attachments"]
    gateway = next(one["gateway"] for one in pod.result["ips"] if "." in one["gateway"])
    with _no_way_to_the_gateway(node, gateway):
        before = kernel(node.lab, node.node)
        with pytest.raises(CniError, match="prove the pod's routing"):
            cni_call.add(node.node, pod.network, pod.attachment())
        assert reaches(other, str(pod.ipv4)), "a repeated ADD"
        with pytest.raises(CniError, match="prove the pod's routing"):
            pod.recreate()
        assert reaches(other, str(pod.ipv4)), "an ADD of a second sandbox"
        assert reaches(other, str(pod.ipv6))
        now = kernel(node.lab, node.node)
        assert (now.links, now.routes, now.rules) == (before.links, before.routes, before.rules)
        assert state(node.node)["attachments"] == told
    until(lambda: reaches(pod, str(OUTSIDE_ADDRESS)), bool)
    assert_agree(node.lab, node.node)
    again = pod.recreate()
    assert again.addresses == pod.addresses
    pod.stop()
    until(lambda: reaches(again, str(OUTSIDE_ADDRESS)), bool)
    assert_agree(node.lab, node.node)

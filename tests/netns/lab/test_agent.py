"""``terwayd`` in a lab: started, asked, refused twice, stopped, and its failures told by its log's end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.client import Lab
from lab.messages import LabError
from lab.nodes.agent import Wait, eni_conf
from lab.nodes.node import LabNode


@pytest.fixture
def node(lab: Lab) -> Iterator[LabNode]:
    node = lab.node("node1")
    node.install_cni()
    node.write_config()
    yield node
    node.stop_agent(signal.SIGKILL)


def test_executable_is_installed_and_runs(node: LabNode) -> None:
    result = node.exec(
        ["/opt/cni/bin/terway"], env={"CNI_COMMAND": "VERSION"}, stdin='{"cniVersion":"1.0.0"}'
    )
    assert result.returncode == 0, result.stdout
    assert '"supportedVersions"' in result.stdout


def test_configuration_is_on_the_node_and_in_kubernetes(lab: Lab, node: LabNode) -> None:
    found = lab.kubernetes.request("GET", "/api/v1/namespaces/kube-system/configmaps/eni-config")
    assert found["data"]["eni_conf"] == node.read("/etc/eni/eni_conf")
    assert found["data"]["10-terway.conf"] == node.read("/etc/eni/10-terway.conf")
    node.write_config(cni_conf={"cniVersion": "1.0.0", "name": "chain", "plugins": []})
    assert node.exec(["ls", "/etc/eni"]).stdout.split() == [
        "10-terway.conflist",
        "disable_network_policy",
        "eni_conf",
    ]


def test_it_serves_and_is_found_by_any_client(lab: Lab, node: LabNode) -> None:
    process = node.start_agent()
    assert node.agent_pid == process.pid
    assert b"control.agent.main" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert node.agent_get("/healthz") == (200, "ok\n")
    with pytest.raises(LabError, match="terwayd runs already"):
        node.start_agent()
    process.close()
    other = Lab.attach(lab.name).node("node1")
    assert other.agent_pid == process.pid
    assert other.stop_agent()
    assert node.agent_pid is None
    assert not node.stop_agent()


def test_a_pod_gets_an_address_of_the_vpc(lab: Lab, node: LabNode) -> None:
    node.start_agent()
    pod = lab.add_pod("node1", "default", "real")
    assert pod.ipv4 in lab.spec.vswitches[1].cidr
    shown = pod.exec(["ip", "-br", "addr", "show", "eth0"]).stdout
    assert str(pod.ipv4) in shown
    lab.delete_pod(pod)
    assert node.sandboxes() == ()


def test_a_failing_start_says_why(lab: Lab, node: LabNode) -> None:
    node.write_config(eni_conf=eni_conf(lab.spec, max_pool_size="many"))
    with pytest.raises(LabError, match=r"terwayd ended with [1-9].*max_pool_size"):
        node.start_agent()
    assert node.agent_pid is None


def test_not_waiting_at_all(node: LabNode) -> None:
    process = node.start_agent(wait=Wait.NOTHING)
    assert process.pid is not None
    assert node.stop_agent(signal.SIGKILL)
    assert process.wait(5.0) == -signal.SIGKILL

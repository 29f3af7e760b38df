"""What an operator of the cloud does to a running lab, over its control socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from datapath import namespace
from lab import messages
from lab.client import Lab
from lab.messages import LabError
from lab.spec import LabSpec, NodeSpec, RuleSpec
from tests.netns.lab.conftest import fresh_name


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of one node is enough here."""
    with Lab.start(LabSpec(nodes=(NodeSpec("node1"),)), name=fresh_name()) as running:
        yield running


def test_state_is_that_of_the_specification(lab: Lab) -> None:
    state = lab.cloud.state()
    assert [i["name"] for i in state["instances"]] == ["node1"]
    assert {v["id"] for v in state["vswitches"]} == {"vsw-nodes", "vsw-pods"}
    assert lab.spec == LabSpec(nodes=(NodeSpec("node1"),))


def test_calls_are_counted_and_faults_injected(lab: Lab) -> None:
    lab.cloud.reset_calls()
    lab.cloud.add_metadata_fault(path="meta-data/instance-id", status=503, count=1)
    program = (
        "import urllib.request as r\n"
        "for _ in range(2):\n"
        "  try: print(r.urlopen('http://100.100.100.200/latest/meta-data/instance-id').status)\n"
        "  except OSError as e: print(e.code)\n"
    )
    assert lab.node("node1").python(program).split() == ["503", "200"]
    assert sum(lab.cloud.metadata_calls().values()) == 2
    number = lab.cloud.add_fault(action="DescribeInstances", code="InternalError", status=500)
    assert lab.cloud.faults()["openapi"][str(number)]["action"] == "DescribeInstances"
    other = lab.cloud.add_fault(action="DescribeVSwitches", code="InternalError", status=500)
    lab.cloud.remove_fault(other)
    assert set(lab.cloud.faults()["openapi"]) == {str(number)}
    lab.cloud.clear_faults()
    assert lab.cloud.faults() == {"openapi": {}, "metadata": {}}
    lab.cloud.reset_calls()
    assert lab.cloud.metadata_calls() == {}
    assert lab.cloud.calls() == {}
    assert lab.cloud.recent_calls() == []


def test_a_vswitch_is_filled_and_released(lab: Lab) -> None:
    def available() -> int:
        return int(next(v["available"] for v in lab.cloud.state()["vswitches"] if v["id"] == "vsw-pods"))

    before = available()
    assert lab.cloud.occupy("vsw-pods", leave=3) == before - 3
    assert available() == 3
    lab.cloud.release("vsw-pods")
    assert available() == before


def test_the_clock_goes_forward_only(lab: Lab) -> None:
    before = lab.cloud.state()["time"]
    assert lab.cloud.advance(3600.0) >= before + 3600.0
    with pytest.raises(LabError, match="only goes forward"):
        lab.cloud.advance(-1.0)


def test_delays_are_set_by_name(lab: Lab) -> None:
    assert lab.cloud.set_delays(metadata=1.5)["metadata"] == 1.5
    with pytest.raises(LabError, match="no delay 'metdata'; there are describe"):
        lab.cloud.set_delays(metdata=1.0)
    lab.cloud.set_delays(metadata=0.05)


def test_group_rules_reach_the_fabric(lab: Lab) -> None:
    """The outside host reaches the node's port 8080 once a rule allows it."""
    netns = lab.netns_fd("outside")
    rule = RuleSpec("ingress", protocol="TCP", ports=(8080, 8080), peer="203.0.113.0/24")
    node = lab.node("node1")
    fd = node.netns_fd()
    with namespace.entered(fd):
        server = socket.create_server((node.address, 8080))

    def connects() -> bool:
        with namespace.entered(netns):
            client = socket.socket()
        with client:
            client.settimeout(0.3)
            return client.connect_ex((node.address, 8080)) == 0

    with server:
        assert not connects()
        lab.cloud.edit_group("sg-cluster", add=[rule])
        lab.cloud.settle()
        assert connects()
        lab.cloud.edit_group("sg-cluster", remove=[rule])
        lab.cloud.settle()
    with pytest.raises(LabError, match=r"rule|add"):
        lab.call("ecs.edit_group", group="sg-cluster", add=[{"direction": "ingress", "portz": 1}])


def test_unknown_verbs_and_bad_arguments_are_named(lab: Lab) -> None:
    with pytest.raises(LabError, match="no verb 'fly'; there are add_node"):
        lab.call("fly")
    with pytest.raises(LabError, match="argument 'seconds' must be a number, got 'soon'"):
        lab.call("ecs.advance", seconds="soon")
    with pytest.raises(LabError, match="no node 'node7'; there are node1"):
        lab.call("reboot_node", name="node7")


def test_a_connection_serves_several_requests(lab: Lab) -> None:
    with messages.connect(lab.directory.control) as sock:
        for _ in range(3):
            assert messages.ask(sock, {"verb": "status"})[0]["name"] == lab.name


def test_garbage_on_the_socket_does_not_end_the_lab(lab: Lab) -> None:
    for garbage in (b"", b"\1", b"\xff" * 8, b"\4\0\0\0\0\0\0\0{{{{", b"\2\0\0\0\0\0\0\0[]"):
        with messages.connect(lab.directory.control) as sock:
            sock.sendall(garbage)
    assert json.dumps(lab.status())


def test_the_socket_is_for_root_alone(lab: Lab) -> None:
    assert lab.directory.control.stat().st_mode & 0o777 == 0o600
    assert lab.directory.root.stat().st_mode & 0o777 == 0o700

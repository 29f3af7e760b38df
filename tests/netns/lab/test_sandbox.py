"""The lab calls CNI plugins as containerd does; a plugin that writes down what it got is the witness."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from lab.client import Lab
from lab.cni_call import CniError, network_of
from lab.kube_client import KubeError
from lab.messages import LabError
from lab.nodes.node import LabNode
from lab.sandbox import PodOptions

_PLUGIN = """#!/usr/bin/env python3
import json, os, sys
conf = json.loads(text := sys.stdin.read())
call = {"env": {k: v for k, v in os.environ.items() if k.startswith("CNI_")}, "text": text,
        "netns": bool(os.environ["CNI_NETNS"]) and os.path.exists(os.environ["CNI_NETNS"])}
with open("/var/log/calls", "a") as f:
    f.write(json.dumps(call) + chr(10))
if conf.get("fail") == os.environ["CNI_COMMAND"]:
    print(json.dumps({"cniVersion": "0.4.0", "code": 11, "msg": "try again later", "details": "why"}))
    sys.exit(1)
if os.environ["CNI_COMMAND"] == "ADD":
    ips = conf.get("prevResult", {}).get("ips", []) + [{"version": "4", "address": conf["give"]}]
    print(json.dumps({"cniVersion": conf["cniVersion"], "ips": ips}))
"""


@pytest.fixture
def node(lab: Lab) -> Iterator[LabNode]:
    node = lab.node("node1")
    node.write("/opt/cni/bin/writer", _PLUGIN, mode=0o755)
    yield node
    for path in ("/opt/cni/bin/writer", "/var/log/calls", "/etc/cni/net.d/10-test.conflist"):
        node.directory.outside(path).unlink(missing_ok=True)


def configure(node: LabNode, *plugins: dict[str, Any], version: str = "0.4.0") -> None:
    conf = {"cniVersion": version, "name": "net", "plugins": [{"type": "writer", **p} for p in plugins]}
    node.write("/etc/cni/net.d/10-test.conflist", json.dumps(conf))


def calls(node: LabNode) -> list[dict[str, Any]]:
    return [json.loads(line) for line in node.read("/var/log/calls").splitlines()]


def test_a_pods_life_as_containerd_leads_it(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.9/32"})
    pod = lab.add_pod("node1", "shop", "web", PodOptions(labels={"app": "web"}))
    created = lab.kubernetes.pod("shop", "web")
    assert created["metadata"]["uid"] == pod.uid
    assert created["metadata"]["labels"] == {"app": "web"}
    assert created["spec"]["nodeName"] == "node1"
    assert [str(a) for a in pod.addresses] == ["10.0.16.9"]
    assert 0 < pod.add_seconds < 10
    assert [p.key for p in lab.pods()] == ["shop/web"]
    lab.delete_pod(pod)

    add, stop, remove = calls(node)
    path = f"/var/run/netns/{pod.record.sandbox}"
    assert re.fullmatch(r"cni-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", pod.record.sandbox)
    for call, command, netns in ((add, "ADD", path), (stop, "DEL", path), (remove, "DEL", "")):
        args = call["env"].pop("CNI_ARGS").split(";")
        assert call["env"] == {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
        }
        assert sorted(args) == [
            "IgnoreUnknown=1",
            f"K8S_POD_INFRA_CONTAINER_ID={pod.container_id}",
            "K8S_POD_NAME=web",
            "K8S_POD_NAMESPACE=shop",
            f"K8S_POD_UID={pod.uid}",
        ]
        assert call["netns"] == bool(netns)
    given = {"cniVersion": "0.4.0", "give": "10.0.16.9/32", "name": "net", "type": "writer"}
    assert add["text"] == json.dumps(given, separators=(",", ":"))
    assert json.loads(stop["text"]) == {**given, "prevResult": pod.result}
    assert json.loads(remove["text"]) == given
    assert node.sandboxes() == ()
    assert lab.pods() == ()
    with pytest.raises(KubeError, match="not found"):
        lab.kubernetes.pod("shop", "web")


def test_a_chain_passes_results_on(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.1/32"}, {"give": "10.0.16.2/32"}, version="1.0.0")
    pod = lab.add_pod("node1", "default", "chained")
    assert [str(a) for a in pod.addresses] == ["10.0.16.1", "10.0.16.2"]
    lab.delete_pod(pod)
    texts = [json.loads(call["text"]) for call in calls(node)]
    assert [t["give"][-4] for t in texts] == ["1", "2", "2", "1", "2", "1"], "DEL goes in reverse"
    assert "prevResult" not in texts[0]
    assert [len(t["prevResult"]["ips"]) for t in texts[1:4]] == [1, 2, 2]


def test_del_before_0_4_has_no_result(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.1/32"}, version="0.3.1")
    lab.delete_pod(lab.add_pod("node1", "default", "old"))
    assert "prevResult" not in json.loads(calls(node)[1]["text"])


def test_runtime_config_goes_to_plugins_that_declare_the_capability(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.1/32", "capabilities": {"bandwidth": True, "dns": True}})
    bandwidth = {"IngressRate": 10_000_000}
    options = PodOptions(runtime_config={"bandwidth": bandwidth, "portMappings": []})
    lab.delete_pod(lab.add_pod("node1", "default", "shaped", options))
    assert json.loads(calls(node)[0]["text"])["runtimeConfig"] == {"bandwidth": bandwidth}


def test_a_failed_add_is_undone_and_says_why(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.1/32", "fail": "ADD"})
    with pytest.raises(CniError, match="try again later; why") as raised:
        lab.add_pod("node1", "default", "unlucky")
    assert raised.value.code == 11
    assert [c["env"]["CNI_COMMAND"] for c in calls(node)] == ["ADD", "DEL"]
    assert node.sandboxes() == ()
    assert lab.pods() == ()
    assert lab.kubernetes.delete_pod("default", "unlucky"), "the object stays, as with a kubelet"


def test_a_sandbox_is_made_anew_and_the_old_one_ends_late(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.1/32"})
    old = lab.add_pod("node1", "default", "again")
    new = old.recreate()
    assert (new.uid, new.key) == (old.uid, old.key)
    assert new.container_id != old.container_id
    assert set(node.sandboxes()) == {old.record.sandbox, new.record.sandbox}
    old.stop()
    old.remove()
    assert node.sandboxes() == (new.record.sandbox,)
    assert lab.pod("default/again").container_id == new.container_id
    lab.delete_pod(new)


def test_steps_can_be_left_out(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.1/32"})
    pod = lab.add_pod("node1", "default", "lost", create_object=False)
    assert pod.remove_netns()
    pod.stop(netns=False)
    assert calls(node)[-1]["env"]["CNI_NETNS"] == ""
    lab.delete_pod(pod)
    with pytest.raises(LabError, match="no pod 'default/lost'"):
        lab.pod("default/lost")


def test_another_client_can_end_a_pod(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.1/32"})
    made = lab.add_pod("node1", "default", "shared")
    other = Lab.attach(lab.name)
    found = other.pod("default/shared")
    assert found.record == made.record
    other.delete_pod(found)
    assert node.sandboxes() == ()
    other.close()


def test_a_process_in_a_pod(lab: Lab, node: LabNode) -> None:
    configure(node, {"give": "10.0.16.1/32"})
    pod = lab.add_pod("node1", "default", "inside")
    try:
        links = pod.exec(["ip", "-br", "link"]).stdout.splitlines()
        assert [line.split()[0] for line in links] == ["lo"]
        assert pod.exec(["hostname"]).stdout == "node1\n"
    finally:
        lab.delete_pod(pod)


def test_a_node_without_configuration_says_who_writes_it(node: LabNode) -> None:
    with pytest.raises(LabError, match=r"no CNI configuration in /etc/cni/net\.d; the agent puts it there"):
        network_of(node)

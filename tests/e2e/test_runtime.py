"""A runtime's life with the plugin: chains, many pods at once, hang-ups, and what is announced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from lab.client import Lab
from lab.cni_call import BIN_DIR, Json
from lab.nodes.process import Scratch
from lab.sandbox import PodOptions
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import CONF, Sandbox, bench, conf, events, roomy, sandbox, unchanged, undisturbed
from tests.e2e.conftest import Bench
from tests.e2e.refusals import refused
from tests.e2e.witnesses import assert_agree, reaches, settled, state, until


@pytest.fixture(scope="module")
def serving(lab: Lab) -> Iterator[Bench]:
    with roomy(lab, enable_patch_pod_ips=True) as made:
        yield made


@pytest.fixture
def node(serving: Bench) -> Iterator[Bench]:
    with undisturbed(serving):
        yield serving


@pytest.fixture
def dry(lab: Lab) -> Iterator[Bench]:
    """Running, with a pod and an ENI without a free address: the next pod needs the cloud."""
    with bench(lab, max_eni=1) as made:
        made.start()
        made.pod("steady")
        settled(made.node)
        yield made


# --- a chain ---

PLUGIN = """#!/bin/sh
# Records what it is given; ADD adds nothing to prevResult, or answers with OWN.
name=${0##*/}
mkdir -p /run/chain
cat >"/run/chain/$name.$CNI_COMMAND"
[ "$CNI_COMMAND" = ADD ] || exit 0
python3 -c 'import json, sys; c = json.load(sys.stdin); print(json.dumps(c.get("prevResult") or c["own"]))' \\
	<"/run/chain/$name.$CNI_COMMAND"
"""
OWN: Json = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "dummy0"}, {"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/x"}],
    "ips": [{"address": "192.0.2.5/24", "gateway": "192.0.2.1", "interface": 1}],
    "routes": [{"dst": "192.0.2.0/24"}],
    "dns": {"nameservers": ["192.0.2.53"]},
}


def test_chain_with_a_plugin_before_and_one_after(lab: Lab) -> None:
    with bench(lab) as made:
        for name in ("first", "last"):
            made.node.write(f"/opt/cni/bin/{name}", PLUGIN, mode=0o755)
        ours = {k: v for k, v in CONF.items() if k in ("type", "eniip_virtual_type")}
        last = {"type": "last", "capabilities": {"portMappings": True}}
        plugins = [{"type": "first", "own": OWN}, ours, last]
        chain = {"cniVersion": "1.0.0", "name": "terway", "plugins": plugins}
        made.configure(chain, max_pool_size=0)
        made.start()
        listed = made.node.exec(["ls", "/etc/cni/net.d"]).stdout.split()
        assert listed == ["10-terway.conflist"]
        ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
        pod = made.lab.add_pod(made.node.name, made.node.name, "chained", PodOptions(runtime_config=ports))
        result = pod.result
        assert [i["name"] for i in result["interfaces"][:3]] == ["dummy0", "net1", "eth0"]
        assert result["interfaces"][:2] == OWN["interfaces"]
        assert [ip["interface"] for ip in result["ips"]] == [1, 2]
        assert (result["ips"][0], result["routes"], result["dns"]) == (
            OWN["ips"][0],
            OWN["routes"],
            OWN["dns"],
        )
        given = _given(made, "last", "ADD")
        assert given["prevResult"] == result
        assert given["runtimeConfig"] == ports
        assert reaches(pod, str(OUTSIDE_ADDRESS))
        assert_agree(lab, made.node)
        with unchanged_but_for(made, pod.container_id):
            made.lab.delete_pod(pod)
        assert _given(made, "first", "DEL").get("prevResult") is None, "the second DEL has none"


def _given(made: Bench, plugin: str, command: str) -> Json:
    given: Json = json.loads(made.node.exec(["cat", f"/run/chain/{plugin}.{command}"], check=True).stdout)
    return given


@contextmanager
def unchanged_but_for(made: Bench, container_id: str) -> Iterator[None]:
    """Only this sandbox goes."""
    before = {a["container_id"] for a in settled(made.node)["attachments"]}
    yield
    told = assert_agree(made.lab, made.node)
    assert {a["container_id"] for a in told["attachments"]} == before - {container_id}


def test_previous_result_that_is_none_is_refused_before_anything_is_made(node: Bench) -> None:
    with unchanged(node), sandbox(node) as raw:
        bad = conf("1.0.0", prevResult={"cniVersion": "1.0.0", "ips": [{"address": "here"}]})
        raw.call("ADD", stdin=bad).assert_error(7, "invalid prevResult", '"here"', version="1.0.0")


# --- many at once, and hang-ups ---


def test_thirty_pods_at_once(node: Bench) -> None:
    with ThreadPoolExecutor(30) as pool:
        adds = [pool.submit(node.pod, f"burst-{i}") for i in range(30)]
    pods = [add.result() for add in adds]
    assert len({a for p in pods for a in p.addresses}) == 60
    assert_agree(node.lab, node.node)
    assert all(reaches(p, str(pods[0].ipv4)) for p in pods[1::7])
    with ThreadPoolExecutor(30) as pool:
        for deletion in [pool.submit(node.lab.delete_pod, p) for p in pods]:
            deletion.result()


def _waiting(made: Bench, count: int) -> None:
    until(lambda: state(made.node)["pool"]["waiting"], lambda waiting: waiting == count)


def test_delete_calls_off_an_add_that_waits(dry: Bench) -> None:
    dry.lab.cloud.add_fault(action="AssignPrivateIpAddresses", latency=2.0, count=1)
    with sandbox(dry) as raw, ThreadPoolExecutor(1) as pool:
        adding = pool.submit(raw.call, "ADD")
        _waiting(dry, 1)
        second = sandbox_of_the_same_pod(raw)
        second.call("ADD").assert_error(11, f"Pod {dry.node.name}/raw request is processing")
        done = raw.call("DEL")
        assert (done.code, done.stdout) == (0, "")
        adding.result().assert_error(11, "called off by a DEL", raw.attachment.container_id[:13])
        told = assert_agree(dry.lab, dry.node)
        assert len(told["attachments"]) == 1
        assert raw.call("ADD").code == 0, "the next try"


def sandbox_of_the_same_pod(raw: Sandbox) -> Sandbox:
    """Under another container id."""
    other = replace(raw.attachment, container_id=f"other{raw.attachment.container_id}")
    return Sandbox(raw.made, other, raw.name)


def test_client_that_dies_while_it_waits_leaves_nothing(dry: Bench) -> None:
    dry.lab.cloud.add_fault(action="AssignPrivateIpAddresses", latency=2.0, count=1)
    with sandbox(dry) as raw, Scratch(json.dumps(CONF).encode()) as stdin, Scratch() as out:
        environment = raw.attachment.environment("ADD")
        with dry.node.spawn([f"{BIN_DIR}/terway"], (stdin.fd, out.fd, out.fd), env=environment) as process:
            _waiting(dry, 1)
            process.kill()
            assert process.wait(10) == -9
        _waiting(dry, 0)
        told = assert_agree(dry.lab, dry.node)
        assert len(told["attachments"]) == 1
        assert out.read() == b""
        assert raw.call("ADD").code == 0, "the next try"


# --- around it ---


def test_sockets_are_for_root_alone(node: Bench) -> None:
    modes = node.node.exec(
        ["stat", "-c", "%a %U", "/run/eni", "/run/eni/eni.socket", "/run/eni/eni_debug.socket"]
    )
    assert modes.stdout.splitlines() == ["700 root", "600 root", "600 root"]


def test_success_is_announced(node: Bench) -> None:
    pod = node.pod("announced")
    addresses = ",".join(str(a) for a in pod.addresses)

    def annotated() -> Any:
        metadata = node.lab.kubernetes.pod(node.node.name, "announced")["metadata"]
        return metadata.get("annotations", {}).get("k8s.aliyun.com/pod-ips")

    until(annotated, lambda value: value == addresses)
    (event,) = until(lambda: events(node, "announced"), lambda found: len(found) > 0)
    assert (event["type"], event["reason"]) == ("Normal", "AllocIPSucceed")
    assert event["message"].startswith(f"Alloc IP {pod.ipv4}/32-{pod.ipv6}/128 took ")
    assert event["involvedObject"]["uid"] == pod.uid
    node.lab.delete_pod(pod)


def test_failure_is_announced_with_cause_and_remedy(dry: Bench) -> None:
    dry.lab.cloud.add_fault(action="AssignPrivateIpAddresses", code="Forbidden.RAM", status=403)
    assert refused(dry, "denied").code == 108
    (event,) = until(lambda: events(dry, "denied"), lambda found: len(found) > 0)
    assert (event["type"], event["reason"]) == ("Warning", "AllocIPFailed")
    assert event["message"].startswith("ForbiddenByRam: AssignPrivateIpAddresses of ENI eni-")
    assert "grant AssignPrivateIpAddresses" in event["message"]
    where = "/api/v1/namespaces/default/events"

    def of_node() -> list[Any]:
        items = dry.lab.kubernetes.request("GET", where)["items"]
        return [e for e in items if e["involvedObject"]["name"] == dry.node.name]

    found = until(of_node, lambda items: any(e["reason"] == "AllocIPFailed" for e in items))
    assert any("ForbiddenByRam" in e["message"] and "grant" in e["message"] for e in found)

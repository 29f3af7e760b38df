"""A real cluster whose nodes stand in the lab's VPC: what a user of Kubernetes expects of it.

One skip stands for all of it where neither KUBE_BIN nor the cache has Kubernetes' programs.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from lab.cli.main import main as terway_lab
from lab.client import Lab, take_down
from lab.kubernetes import cluster, kubectl
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.readiness import await_nodes, not_ready
from lab.messages import LabError
from lab.nodes.mounts import KERNEL_WIDE
from lab.nodes.node import LabNode
from lab.spec import LabSpec
from tests.e2e import cluster_site
from tests.e2e.cluster_site import PODS, deploy, eventually, fast_packets, inside, on, pods, quiet, window
from tests.netns.lab.machine import Traces, look, traces

if absent := cluster_site.absence():
    pytest.skip(absent, allow_module_level=True)

NAME = f"cluster-{os.getpid()}"
_OTHER_DIRECTORIES = ("/dev", "/dev/shm", "/usr/libexec", "/usr/lib/cni", "/var/lib", "/var/log")


_MORE = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  serviceName: store
  replicas: 2
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {name: store, image: "localhost/busybox:1", imagePullPolicy: Never, command: [sleep, "1000"]}
---
apiVersion: v1
kind: Service
metadata: {name: store}
spec: {clusterIP: None, selector: {app: store}, ports: [{port: 1}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: ask}
spec:
  completions: 4
  parallelism: 4
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: ask
          image: localhost/busybox:1
          imagePullPolicy: Never
          command: [timeout, "20", sh, -c, "until wget -qO- http://web/; do sleep 1; done"]
"""


def other_files() -> dict[str, tuple[str, ...]]:
    return {d: tuple(sorted(os.listdir(d))) for d in _OTHER_DIRECTORIES if os.path.isdir(d)}


def restart_counts(lab: Lab) -> dict[str, int]:
    return {p["metadata"]["name"]: p["status"]["containerStatuses"][0]["restartCount"] for p in pods(lab)}


def answers(lab: Lab, pod: str) -> bool:
    try:
        return kubectl.run(lab, ["exec", pod, "--", "hostname"]).strip() == pod
    except LabError:
        return False


def kernel_wide() -> dict[str, str]:
    return {name: (Path("/proc/sys") / name).read_text() for name in KERNEL_WIDE}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """With a Deployment of four pods and a Service; the machine is the same before and after."""
    before, files, settings = look(), other_files(), kernel_wide()
    try:
        running = cluster.up(Wanted(name=NAME, agent=Agent.PROCESS), quiet)
        deploy(running)
        assert kernel_wide() == settings, "a kubelet has written the machine's own settings"
        yield running
        running.close()
    finally:
        take_down(NAME)
    assert before.differences(look()) == []
    assert (other_files(), kernel_wide()) == (files, settings)


def test_nodes_are_ready_and_known_by_their_enis(lab: Lab) -> None:
    registered = lab.kubernetes.request("GET", "/api/v1/nodes")["items"]
    assert [not_ready(node) for node in registered] == ["", ""]
    seen = {
        node["metadata"]["name"]: (node["spec"]["providerID"], node["status"]["addresses"][0]["address"])
        for node in registered
    }
    assert seen == {n.name: (f"{lab.spec.region}.{n.instance_id}", n.address) for n in lab.nodes}


def test_pods_have_the_addresses_of_their_nodes_enis(lab: Lab) -> None:
    subnet = LabSpec().vswitches[1].cidr
    found = pods(lab)
    assert len(found) == PODS
    for pod in found:
        address = pod["status"]["podIP"]
        assert IPv4Address(address) in subnet
        enis = lab.node(pod["spec"]["nodeName"]).status()["enis"]
        assert address in [a for eni in enis for a in eni["addresses"]], f"{address} is on no ENI of its node"


def test_no_container_was_restarted_by_a_probe(lab: Lab) -> None:
    statuses = [status for pod in pods(lab) for status in pod["status"]["containerStatuses"]]
    assert [(s["ready"], s["restartCount"]) for s in statuses] == [(True, 0)] * PODS


def test_the_labs_status_and_kubectl_agree(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert terway_lab(["status", "--name", NAME, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    enis = {eni["id"]: (n["name"], eni["addresses"]) for n in status["nodes"] for eni in n["enis"]}
    shown = {}
    for pod in status["kubernetes"]["pods"]:
        (eni,), (address,) = pod["enis"], pod["addresses"]
        node, addresses = enis[eni]
        assert (node, address in addresses) == (pod["node"], True), pod
        shown[pod["namespace"], pod["name"]] = (address, node)
    words = ["get", "pods", "--all-namespaces", "--output=wide", "--no-headers"]
    rows = [line.split() for line in kubectl.run(lab, words).splitlines()]
    # NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE NOMINATED-NODE READINESS-GATES
    assert shown == {(row[0], row[1]): (row[-4], row[-3]) for row in rows}
    assert len(shown) == PODS + 1
    known = [entry for node in lab.nodes for entry in window(node, "/bpf/endpoints")]
    assert {address for address, _ in shown.values()} == {a for entry in known for a in entry["addresses"]}


@pytest.mark.parametrize("program", ["kubelet", "containerd", "kube-proxy"])
def test_a_program_that_ends_is_started_again(
    lab: Lab, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    node = lab.node("node1")

    def running() -> dict[str, int]:
        return {p["label"]: p["pid"] for p in node.ask({"verb": "processes"})[0]["running"]}

    before, restarts = running()[program], restart_counts(lab)
    node.exec(["kill", "-KILL", str(before)], check=True)
    eventually(f"another {program} runs", lambda: running().get(program, before) != before)
    assert f"{program} was killed by SIGKILL; it is started again" in node.read(f"/var/log/{program}.log")
    await_nodes(lab, quiet)
    name = on(lab, "node1")["metadata"]["name"]
    eventually("node1 runs commands in its pods", lambda: answers(lab, name))
    assert restart_counts(lab) == restarts
    assert terway_lab(["status", "--name", NAME]) == 0
    assert f"node1: {program} was started again once" in capsys.readouterr().out


def test_exec_and_logs_reach_a_pod(lab: Lab) -> None:
    pod = on(lab, "node2")
    assert inside(lab, pod, "hostname").strip() == pod["metadata"]["name"]
    assert kubectl.run(lab, ["logs", pod["metadata"]["name"]]).strip() == "serving"


def test_pods_of_two_nodes_talk_by_the_fast_path(lab: Lab) -> None:
    for node in lab.nodes:
        assert window(node, "/fastpath")["state"] == "on"
    one, other = on(lab, "node1"), on(lab, "node2")
    before = fast_packets(lab)
    url = f"http://{other['status']['podIP']}:8080/"
    assert inside(lab, one, "timeout", "5", "wget", "-qO-", url).strip() == other["metadata"]["name"]
    assert fast_packets(lab) > before + 4


def test_a_service_answers_by_its_name_in_a_pod_and_by_its_address_on_a_node(lab: Lab) -> None:
    names = {pod["metadata"]["name"] for pod in pods(lab)}
    assert inside(lab, on(lab, "node1"), "timeout", "5", "wget", "-qO-", "http://web/").strip() in names
    service = lab.kubernetes.request("GET", "/api/v1/namespaces/default/services/web")
    url = f"http://{service['spec']['clusterIP']}/"
    answer = lab.node("node2").exec(["busybox", "wget", "-qO-", url], timeout=10.0, check=True)
    assert answer.stdout.strip() in names


@pytest.mark.parametrize("name", ["kubernetes.default", "no-such.example.com"])
def test_a_name_outside_the_cluster_does_not_exist(lab: Lab, name: str) -> None:
    """busybox's nslookup asks for a short name as it stands; SERVFAIL would say that DNS is broken."""
    found = inside(lab, on(lab, "node1"), "sh", "-c", f"nslookup {name} 2>&1 || true")
    assert "NXDOMAIN" in found
    full = inside(lab, on(lab, "node1"), "nslookup", "kubernetes.default.svc.cluster.local")
    assert "172.21.0.1" in full


def test_a_pod_reaches_the_api_server(lab: Lab) -> None:
    inside(lab, on(lab, "node2"), "timeout", "5", "nc", "kubernetes.default", "443", "-e", "true")


def test_a_stateful_set_and_a_job(lab: Lab) -> None:
    kubectl.run(lab, ["apply", "-f", "-"], stdin=_MORE)

    def job() -> int:
        status = lab.kubernetes.request("GET", "/apis/batch/v1/namespaces/default/jobs/ask")["status"]
        assert not status.get("failed"), kubectl.run(lab, ["logs", "job/ask"])
        return int(status.get("succeeded", 0))

    def members() -> list[str]:
        path = "/api/v1/namespaces/default/pods?labelSelector=app%3Dstore"
        return [p["status"].get("podIP", "") for p in lab.kubernetes.request("GET", path)["items"]]

    name = "store-1.store.default.svc.cluster.local"
    eventually("four pods of the job have reached the Service", lambda: job() == 4)
    eventually("both members of the set have addresses", lambda: len(members()) == 2 and all(members()))
    eventually(
        "each member has a name of its own",
        lambda: members()[1] in inside(lab, on(lab, "node1"), "sh", "-c", f"nslookup {name} || true"),
    )
    kubectl.run(lab, ["delete", "--wait=true", "-f", "-"], stdin=_MORE)


def test_a_killed_node_comes_back_with_its_pods_and_their_addresses(lab: Lab) -> None:
    node = lab.node("node2")
    before = {p["metadata"]["name"]: p["status"]["podIP"] for p in pods(lab)}
    node.reboot()
    node.start_agent()
    await_nodes(lab, quiet)

    def back() -> bool:
        statuses = [s for pod in pods(lab) for s in pod["status"]["containerStatuses"]]
        restarted = [s for s in statuses if s["restartCount"] > 0]
        return len(restarted) == PODS // 2 and all(s["ready"] for s in statuses)

    eventually("node2's pods run again", back)
    assert {p["metadata"]["name"]: p["status"]["podIP"] for p in pods(lab)} == before


def test_deleted_pods_give_their_addresses_back(lab: Lab) -> None:
    old = {pod["status"]["podIP"] for pod in pods(lab)}
    kubectl.run(lab, ["scale", "deployment/web", "--replicas=0"])
    eventually("all pods are gone", lambda: not pods(lab))

    def attached() -> set[str]:
        return {a for n in lab.nodes for row in window(n, "/bpf/endpoints") for a in row["addresses"]}

    eventually("no endpoint is left", lambda: not attached() & old)

    def strays(node: LabNode) -> int:
        namespaces = node.exec(["ls", "/run/netns"], check=True).stdout.split()
        return len(namespaces) - len(window(node, "/bpf/endpoints"))

    # A runtime removes a sandbox's namespace some time after the DEL.
    what = "each node has a namespace for each endpoint and no other"
    eventually(what, lambda: [strays(node) for node in lab.nodes] == [0, 0])
    assert all(ip_address(a) not in LabSpec().vswitches[0].cidr for a in old)


def test_a_cluster_whose_warden_is_killed_leaves_nothing(lab: Lab) -> None:
    """The last of the module: nothing runs after it."""
    found: Traces = traces(NAME)
    assert any("containerd-shim" in Path(f"/proc/{p}/cmdline").read_text() for p in found.running())
    recorded = map(int, json.loads(lab.directory.leftovers.read_text())["processes"])
    # Of the warden and process 1 of the lab, the first leads their session.
    os.kill(next(pid for pid in recorded if os.getsid(pid) == pid), signal.SIGKILL)
    eventually("every process has ended", lambda: not found.running())
    assert take_down(NAME)
    assert found.left() == []

"""A cluster whose eni-config names another mode while pods run: each pod stays in the mode that made it.

By the ConfigMap and new agents' pods, as docs/install.md has it, under datagrams and streams between pods of
both modes. Macvlan is the mode for tests (``cni.plugin.TEST_MODES``): its pods have an ENI each, and no link
on the host.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cni.plugin import TEST_MODES
from lab.client import Lab, take_down
from lab.kubernetes import cluster, kubectl, product
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.readiness import await_available
from lab.nodes import agent
from tests.e2e import cluster_load, cluster_site, evidence
from tests.e2e.cluster_load import ClusterPod
from tests.e2e.cluster_site import SLOW, quiet, window
from tests.e2e.load import Load, Way, compiled
from tests.e2e.witnesses import assert_agree, state, until

pytestmark = pytest.mark.long

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)

NAME = f"modes-{os.getpid()}"
MACVLAN, POLICY_ROUTE = "Macvlan", "PolicyRoute"
_PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{made: {name}}}}}
  template:
    metadata: {{labels: {{app: web, made: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: web
          image: localhost/busybox:1
          imagePullPolicy: Never
          command: [sh, -c]
          args: ["mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]
          readinessProbe: {{httpGet: {{port: 8080, path: /index.html}}, periodSeconds: 1}}
          livenessProbe: {{tcpSocket: {{port: 8080}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{made: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One node, whose agents know the mode for tests."""
    try:
        running = cluster.up(Wanted(nodes=1, name=NAME, agent=Agent.PODS), quiet)
        kubectl.run(running, ["set", "env", "-n", "kube-system", "daemonset/terway", f"{TEST_MODES}=1"])
        words = ["rollout", "status", "-n", "kube-system", "daemonset/terway", "--timeout=120s"]
        kubectl.run(running, words)
        yield running
        running.close()
    finally:
        take_down(NAME)


def wish(lab: Lab, mode: str) -> None:
    """eni-config names ``mode``, and the agents' pods are deleted; new ones serve then."""
    data = product.configuration(lab)
    data[agent.CONF] = json.dumps({**json.loads(data[agent.CONF]), "eniip_virtual_type": mode})
    lab.kubernetes.put_config_map(product.NAMESPACE, product.CONFIG_MAP, data)
    product.restart(lab, quiet)


def start(lab: Lab, name: str) -> None:
    kubectl.run(lab, ["apply", "-f", "-"], stdin=_PODS.format(name=name))
    await_available(lab, "deployments", "default", name, quiet)


def modes(lab: Lab) -> Mapping[str, set[str]]:
    """In which modes pods of each Deployment were made, as the ledger has it."""
    found: dict[str, set[str]] = {}
    for row in state(lab.nodes[0])["attachments"]:
        found.setdefault(row["pod_name"].split("-")[0], set()).add(row["mode"])
    return found


def all_serve(lab: Lab, *names: str) -> None:
    """Each pod answers each, and the Services of these Deployments answer those of policy routing.

    What a pod with an ENI for itself sends passes by the node, and so by what kube-proxy translates.
    """
    pods = cluster_site.pods(lab)
    for pod in pods:
        for other in pods:
            assert asked(lab, pod, f"{other['status']['podIP']}:8080") == other["metadata"]["name"]
        for name in () if pod["metadata"]["labels"]["made"] == "own" else names:
            service = lab.kubernetes.request("GET", f"/api/v1/namespaces/default/services/{name}")
            assert asked(lab, pod, service["spec"]["clusterIP"]).startswith(f"{name}-")


def asked(lab: Lab, pod: Mapping[str, Any], server: str) -> str:
    """The name of the pod that answers ``pod`` there."""
    return cluster_site.inside(lab, dict(pod), "wget", "-qO-", f"http://{server}/").strip()


def identities(pods: tuple[ClusterPod, ...]) -> set[tuple[object, ...]]:
    return {pod.identity for pod in pods}


def test_yesterdays_pods_stay_in_yesterdays_mode(lab: Lab, tmp_path: Path) -> None:
    (node,) = lab.nodes
    start(lab, "shared")
    wish(lab, MACVLAN)
    start(lab, "own")
    wanted = {"shared": {"policy_route"}, "own": {"macvlan"}}
    assert wanted.items() <= modes(lab).items()
    all_serve(lab, "shared", "own")
    pods = cluster_load.pods(lab)
    own, own2, shared, shared2 = pods
    assert (own.key.split("-")[0], shared.key.split("-")[0]) == ("default/own", "default/shared")
    ways = [Way(own, shared, 4), Way(shared2, own2, 4), Way(own2, own, 4), Way(shared, shared2, 4)]
    with Load(compiled(tmp_path), flows=ways, streams=ways) as load:
        for mode in (POLICY_ROUTE, MACVLAN, POLICY_ROUTE):
            with load.unharmed(partial(evidence.counted, lab, lab.nodes, pods)) as sent:
                wish(lab, mode)
            print(f"eni-config names {mode}: {sent.datagrams} datagrams in {sent.seconds:.1f} s, all came")
            assert json.loads(product.configuration(lab)[agent.CONF])["eniip_virtual_type"] == mode
            assert wanted.items() <= modes(lab).items()
            all_serve(lab, "shared", "own")
        assert identities(cluster_load.pods(lab)) == identities(pods)
    start(lab, "late")
    assert modes(lab)["late"] == {"policy_route"}
    all_serve(lab, "shared", "own", "late")
    kubectl.run(lab, ["delete", "deployment", "own"])
    until(lambda: "own" in modes(lab), lambda there: not there, seconds=SLOW)
    all_serve(lab, "shared", "late")
    assert window(node, "/fastpath")["state"] == "on"
    assert_agree(lab, node)

"""What a user types to see and change the network mode, in a shell of the cluster, word by word.

``NODE`` lines are typed on a node, the others where kubectl is. The editor of ``kubectl edit`` is a script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.render import MANIFESTS
from lab.client import Lab, take_down
from lab.kubernetes import dns, host_ports, product
from lab.kubernetes.product import ROOT
from tests.e2e import cluster_site
from tests.e2e.cluster_site import eventually

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)

NAME = f"modes-{os.getpid()}"
_MOST = 180.0
CHECK_NODE = "cat /etc/cni/net.d/10-terway.conf"
CHECK = "kubectl get configmap eni-config -n kube-system -o yaml"
POD = "TERWAY_POD=$(kubectl get pods -n kube-system -l app=terway -o jsonpath='{.items[0].metadata.name}')"
FACTORY = "kubectl exec -n kube-system $TERWAY_POD -- terway-cli show factory"
RESOURCE_POOL = "kubectl exec -n kube-system $TERWAY_POD -- terway-cli show resource_pool"
MODE = "kubectl exec -n kube-system $TERWAY_POD -- terway-cli mode"
EDIT = "kubectl edit configmap eni-config -n kube-system"
RESTART = "kubectl delete pods -n kube-system -l app=terway"
VERIFY = "kubectl get pods -n kube-system | grep terway"
SAMPLE = "kubectl apply -f test-trunking-pod.yaml"
_TRUNKING_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: custom-network-pod
  annotations:
    k8s.aliyun.com/trunk-on: "true"
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: app, image: "localhost/busybox:1", imagePullPolicy: Never, command: [sleep, "1000"]}
"""


def typed(*words: str, directory: Path = ROOT, **variables: str) -> str:
    """The answer of ``./run cluster WORDS``; standard error is in it."""
    done = subprocess.run(
        [sys.executable, "-m", "lab.kubernetes", "--name", NAME, *words],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_MOST,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-3000:]}"
    return done.stdout


def shell(*lines: str, directory: Path = ROOT, **variables: str) -> str:
    return typed("shell", "-c", "\n".join(("set -e", *lines)), directory=directory, **variables)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    try:
        typed("up", "--nodes", "1")
        running = Lab.attach(NAME)
        yield running
        running.close()
    finally:
        take_down(NAME)


def editor(directory: Path, script: str) -> str:
    """A program that edits a file by ``script`` of sed, as EDITOR names it."""
    path = directory / "editor"
    path.write_text(f"#!/bin/sh\nexec sed -i '{script}' \"$1\"\n")
    path.chmod(0o755)
    return str(path)


def edited_and_restarted(directory: Path, script: str) -> None:
    assert "configmap/eni-config edited" in shell(EDIT, EDITOR=editor(directory, script))
    answer = shell(RESTART)
    assert answer.count(" deleted") == 1, answer
    eventually("the new agent serves", lambda: "1/1" in shell(f"{VERIFY} || true"))


@pytest.mark.usefixtures("lab")
def test_the_current_mode() -> None:
    assert json.loads(typed("node", "node1", *CHECK_NODE.split())) == {
        "cniVersion": "0.4.0",
        "name": "terway",
        "type": "terway",
        "eniip_virtual_type": "PolicyRoute",
    }
    told = shell(CHECK)
    assert "eni_conf: |" in told
    assert '"max_pool_size": 5' in told


@pytest.mark.usefixtures("lab")
def test_the_use_of_enis_and_addresses() -> None:
    factory = shell(POD, FACTORY)
    assert "name: eniip" in factory
    assert "eni_max: 3" in factory
    pool = shell(POD, RESOURCE_POOL)
    assert "max_idle: 5" in pool
    assert "capacity: 45" in pool


@pytest.mark.usefixtures("lab")
def test_another_pool_is_in_force_after_the_agents_pods_are_deleted(tmp_path: Path) -> None:
    edited_and_restarted(tmp_path, 's/"max_pool_size": 5/"max_pool_size": 3/')
    assert "max_idle: 3" in shell(POD, RESOURCE_POOL)


@pytest.mark.usefixtures("lab")
def test_a_mode_that_is_not_built_is_asked_for_and_said(tmp_path: Path) -> None:
    assert "eniip_virtual_type: IPVlan" not in shell(POD, MODE)
    edited_and_restarted(tmp_path, "s/PolicyRoute/IPVlan/")
    assert '"IPVlan"' in typed("node", "node1", *CHECK_NODE.split())
    told = shell(POD, MODE)
    assert "IPVlan is asked for and not built yet: pods are routed (PolicyRoute)" in told
    assert told.index("eniip_virtual_type: IPVlan") < told.index("eniip_virtual_type: PolicyRoute")


def test_host_ports_are_lent_and_taken_back(lab: Lab) -> None:
    """As ``./run conformance`` does where they are missing."""
    said: list[str] = []
    before = product.configuration(lab)
    with host_ports.lent(lab, said.append):
        assert typed("node", "node1", "ls", "/etc/cni/net.d").split() == ["10-terway.conflist"]
        with host_ports.lent(lab, said.append):
            assert sum("wanted" in line for line in said) == 1, "those that are there are not lent again"
    assert typed("node", "node1", "ls", "/etc/cni/net.d").split() == ["10-terway.conf"]
    assert product.configuration(lab) == before
    assert [line.partition(":")[0] for line in said if line[0] != " "] == [
        "host ports are wanted",
        "back to 10-terway.conf",
    ]


def test_a_sample_workload_runs(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "test-trunking-pod.yaml").write_text(_TRUNKING_POD)
    assert "pod/custom-network-pod created" in shell(SAMPLE, directory=tmp_path)
    shell("kubectl wait --for=condition=Ready pod/custom-network-pod --timeout=60s")
    address = lab.kubernetes.pod("default", "custom-network-pod")["status"]["podIP"]
    assert address in [a for eni in lab.node("node1").status()["enis"] for a in eni["addresses"]]


@pytest.mark.parametrize("manifest", [*MANIFESTS, dns.MANIFEST], ids=lambda path: path.name)
@pytest.mark.usefixtures("lab")
def test_the_server_knows_every_field_of_the_manifests(manifest: Path) -> None:
    options = "--server-side --force-conflicts --dry-run=server --validate=strict"
    answer = shell(f"kubectl apply {options} -f {manifest}")
    assert "serverside-applied (server dry run)" in answer
    assert "Warning" not in answer


@pytest.mark.usefixtures("lab")
def test_a_shells_status_is_that_of_its_command() -> None:
    argv = [sys.executable, "-m", "lab.kubernetes", "--name", NAME, "shell", "-c", "exit 7"]
    assert subprocess.run(argv, cwd=ROOT, check=False).returncode == 7


def test_up_again_says_that_it_is_up(lab: Lab) -> None:
    assert "it is up already, with these options" in typed("up", "--nodes", "1")
    argv = [sys.executable, "-m", "lab.kubernetes", "--name", NAME, "up", "--nodes", "2"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    told = f"with --nodes 1; end it with `./run cluster --name {NAME} down` first"
    assert done.stderr == f"cluster: a cluster is up already, {told}\n"
    assert lab.status()["name"] == NAME

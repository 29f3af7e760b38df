"""A cluster that the release before has made goes to this one, back, and here again, as images and manifests.

Under datagrams by number, streams and calls to Services, of pods that the release before has started: none is
lost, and no connection ends. What one release has given, the other takes back.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.client import Lab, take_down
from lab.kubernetes import cluster, kubectl, product
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.readiness import await_available, await_nodes
from tests.e2e import cluster_images, cluster_site
from tests.e2e.cluster_load import Traffic, flowing
from tests.e2e.cluster_release import Release, fast_path, ready_for_the_release_before
from tests.e2e.cluster_site import SLOW, deploy, deploy_beside, eventually, quiet, window
from tests.e2e.load import compiled
from tests.e2e.service_calls import Calls, Servers, calls
from tests.e2e.witnesses import assert_agree, state, until

pytestmark = pytest.mark.long

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)

NAME = f"before-{os.getpid()}"
PORT, TARGET = 80, 9090
SERVICES = {"here": 1, "there": 2}
"""Called from the first pod, which is on node1, as is the second; the third is on node2."""
_SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ports:
    - {{name: tcp, protocol: TCP, port: {port}, targetPort: {target}}}
    - {{name: udp, protocol: UDP, port: {port}, targetPort: {target}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: ["{backend}"], conditions: {{ready: true}}}}]
ports:
  - {{name: tcp, protocol: TCP, port: {target}}}
  - {{name: udp, protocol: UDP, port: {target}}}
"""


@dataclass(frozen=True, slots=True)
class Releases:
    before: Release
    this: Release


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Nobody has installed a CNI yet."""
    try:
        running = cluster.up(Wanted(name=NAME, agent=Agent.NONE), quiet)
        yield running
        running.close()
    finally:
        take_down(NAME)


@pytest.fixture(scope="module")
def releases(lab: Lab) -> Iterator[Releases]:
    """The images of both are in every node, and the release before is installed."""
    with tempfile.TemporaryDirectory(dir=cluster_images.ROOT / ".cache", prefix="images-") as place:
        scratch = Path(place)
        try:
            image = cluster_images.of_revision(scratch, cluster_images.BEFORE, "localhost/terway:before")
        except cluster_images.NoHistoryError as exc:
            pytest.skip(str(exc))
        for archive in (image.archive, product.archive(quiet)):
            product.load(lab, archive)
        manifests = cluster_images.tree_of(scratch, cluster_images.BEFORE) / "deploy" / "terway-lab.yaml"
        found = Releases(Release(image.tag, manifests), Release("localhost/terway:dev", product.MANIFESTS))
        product.configure_first(lab, Wanted().cni)
        found.before.install(lab)
        await_nodes(lab, quiet)
        deploy(lab)
        assert version(lab) == image.version
        yield found


def version(lab: Lab) -> str:
    (found,) = {window(node, "/mode")["node"]["terway"] for node in lab.nodes}
    return str(found)


@pytest.fixture
def traffic(lab: Lab, releases: Releases, tmp_path: Path) -> Iterator[Traffic]:
    del releases
    with flowing(lab, compiled(tmp_path)) as going:
        yield going


@pytest.fixture
def called(traffic: Traffic) -> Iterator[Calls]:
    """The first pod calls a Service whose backend is on its own node, and one whose backend is not."""
    lab, pods = traffic.lab, traffic.pods
    with ExitStack() as stack:
        fds = [pod.netns_fd() for pod in pods]
        for fd in fds:
            stack.callback(os.close, fd)
        for name, backend in SERVICES.items():
            text = _SERVICE.format(name=name, port=PORT, target=TARGET, backend=pods[backend].ipv4)
            kubectl.run(lab, ["apply", "-f", "-"], stdin=text)
        places = {name: (fds[i], str(pods[i].ipv4)) for name, i in SERVICES.items()}
        servers = Servers(places, TARGET, stack)
        addresses = {name: cluster_ip(lab, name) for name in SERVICES}
        for address in addresses.values():
            eventually(f"node1 knows {address}", lambda: address in rules_of_services(lab))  # noqa: B023
        yield stack.enter_context(calls(fds[0], addresses, PORT, servers))


def cluster_ip(lab: Lab, name: str) -> str:
    service = lab.kubernetes.request("GET", f"/api/v1/namespaces/default/services/{name}")
    return str(service["spec"]["clusterIP"])


def rules_of_services(lab: Lab) -> str:
    """What kube-proxy has written on node1."""
    return (
        lab.node("node1").exec(["nft", "list", "map", "ip", "kube-proxy", "service-ips"], check=True).stdout
    )


def start(lab: Lab, name: str) -> None:
    deploy_beside(lab, name)
    await_available(lab, "deployments", "default", name, quiet)


def delete(lab: Lab, name: str) -> None:
    """Whoever serves now takes back what another release may have given."""
    kubectl.run(lab, ["delete", "deployment", name])
    until(lambda: recorded(lab, name), lambda some: not some, seconds=SLOW)


def recorded(lab: Lab, name: str) -> list[str]:
    """Pods of that Deployment in the ledgers."""
    rows = [row for node in lab.nodes for row in state(node)["attachments"]]
    return [row["pod_name"] for row in rows if row["pod_name"].startswith(f"{name}-")]


def test_up_and_back_and_up(traffic: Traffic, called: Calls, releases: Releases) -> None:
    lab = traffic.lab
    older = version(lab)
    start(lab, "older")
    called.unharmed()

    with traffic.unharmed(f"{older} to this release"):
        releases.this.install(lab)
    newer = version(lab)
    assert newer != older
    called.unharmed()
    delete(lab, "older")
    start(lab, "newer")

    with traffic.unharmed(f"back to {older}", by_stack=True):
        ready_for_the_release_before(lab)
        called.unharmed()
        releases.before.install(lab)
        called.unharmed()
        fast_path(lab, "on")
        called.unharmed()
    assert version(lab) == older
    delete(lab, "newer")
    start(lab, "again")

    with traffic.unharmed("to this release again"):
        releases.this.install(lab)
    assert version(lab) == newer
    called.unharmed()
    delete(lab, "again")
    for node in lab.nodes:
        assert window(node, "/fastpath")["state"] == "on"
        assert_agree(lab, node)

"""An image of one's own in a real cluster: loaded, run on each node, there after a reboot."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.client import Lab, take_down
from lab.kubernetes import __main__ as command
from lab.kubernetes import archive, cluster, images, kubectl
from lab.kubernetes.cluster import Agent, Wanted
from lab.kubernetes.node_images import image_names
from tests.e2e import cluster_site
from tests.e2e.cluster_site import eventually, quiet

if absent := cluster_site.absence():
    pytest.skip(absent, allow_module_level=True)

NAME = f"load-{os.getpid()}"
FULL = "docker.io/library/mine:1"
"""What containerd and kubelet make of ``mine:1``."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    try:
        running = cluster.up(Wanted(nodes=1, name=NAME, agent=Agent.PROCESS), quiet)
        yield running
        running.close()
    finally:
        take_down(NAME)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """As `docker save mine:1 | gzip` writes it."""
    shell = images.busybox()
    plain = tmp_path / "mine.tar"
    archive.write(plain, "mine:1", files={"bin/sh": shell}, command=["sh", "-c", "echo it is mine"])
    packed = tmp_path / "mine.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), 1))
    return packed


@pytest.mark.usefixtures("lab")
def test_terway_cli_is_on_the_node(capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["node", "node1", "--name", NAME, "terway-cli", "mode"]) == 0
    assert "PolicyRoute" in capfd.readouterr().out


def test_it_runs_and_stays_over_a_reboot(lab: Lab, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = lab.node("node1")
    assert FULL not in image_names(node)
    before = sorted(lab.directory.root.iterdir())
    assert command.main(["load", "--name", NAME, str(mine)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "in node1: mine:1",
        f"run it: `./run cluster --name {NAME} kubectl run mine --image=mine:1`",
    ]
    assert sorted(lab.directory.root.iterdir()) == before
    kubectl.run(lab, ["run", "mine", "--image=mine:1", "--restart=Never"])
    path = "/api/v1/namespaces/default/pods/mine"
    eventually(
        "the pod has run", lambda: lab.kubernetes.request("GET", path)["status"]["phase"] == "Succeeded"
    )
    assert kubectl.run(lab, ["logs", "mine"]) == "it is mine\n"
    node.kill()
    assert command.main(["load", "--name", NAME, str(mine)]) == 1
    assert f"boot it with `./run lab node reboot --name {NAME} node1`" in capsys.readouterr().out
    node.reboot()
    assert FULL in image_names(node)

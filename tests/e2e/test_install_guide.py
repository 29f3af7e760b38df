"""The lab's part of docs/install.md, command by command as it stands there.

Before its last command the API server's audit log says which of its rights the agent has used.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from lab import statedir
from lab.apiserver import audit
from lab.apiserver.files import KubeDir
from lab.apiserver.real import RIGHTS
from lab.client import Lab, take_down
from lab.kubernetes import cluster
from tests.e2e import cluster_site
from tests.unit.deploy.test_install_guide import GUIDE, lab_commands

if absent := cluster_site.absence(image=True):
    pytest.skip(absent, allow_module_level=True)
if (statedir.base() / cluster.NAME).exists():
    pytest.skip("./run cluster is up on this machine, and the guide's commands would take it down")

_MOST = 600.0
_SAYS = {
    "get nodes": "node2",
    "get pods": "coredns",
    "cluster status": "up with --nodes 2",
    "get configmap": "eni_conf",
    "net.d/10-terway.conf": "PolicyRoute",
    "terway-cli mode": "eBPF",
    "show factory": "eni_max",
    "show resource_pool": "capacity",
    "delete pods": "deleted",
    "rollout status": "successfully rolled out",
    "| grep terway": "1/1",
    "lab status": "kube-system/coredns",
    "cluster down": "the cluster is down",
}
"""A part of a command, and what is to be in its answer."""


_AGENT = "system:serviceaccount:kube-system:terway"
_ALWAYS = {(verb, resource) for verb in ("list", "watch") for resource in ("pods", "services")}
"""Rights that every agent uses; the others wait for a pod, an event or a missing service_cidr."""


def granted() -> set[tuple[str, str]]:
    (role,) = (item for item in json.loads(RIGHTS.read_text())["items"] if item["kind"] == "ClusterRole")
    return {(verb, what) for rule in role["rules"] for verb in rule["verbs"] for what in rule["resources"]}


def check_rights() -> None:
    lab = Lab.attach(cluster.NAME)
    log = KubeDir(lab.directory.kubernetes).audit_log
    lab.close()
    asked = [r for r in audit.records(log) if r["user"]["username"] == _AGENT]
    used = {(r["verb"], r["objectRef"]["resource"]) for r in asked}
    assert _ALWAYS <= used <= granted()
    assert not [line for line in audit.refusals(log) if line.startswith(_AGENT)]


@pytest.fixture
def nothing_left() -> Iterator[None]:
    yield
    take_down(cluster.NAME)


def answered(command: list[str]) -> str:
    done = subprocess.run(
        command,
        cwd=GUIDE.parent.parent,
        env={**os.environ, "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_MOST,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.usefixtures("nothing_left")
def test_each_command_does_what_it_says() -> None:
    unseen = dict(_SAYS)
    for command in lab_commands():
        words = " ".join(command)
        if words.endswith("cluster down"):
            check_rights()
        said = answered(command)
        for part in [part for part in unseen if part in words]:
            assert unseen.pop(part) in said, words
    assert not unseen

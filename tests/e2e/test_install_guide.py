"""The lab's part of docs/install.md, command by command as it stands there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from lab import statedir
from lab.client import take_down
from lab.kubernetes import cluster
from tests.e2e import cluster_site
from tests.unit.deploy.test_install_guide import GUIDE, lab_commands

if absent := cluster_site.absence():
    pytest.skip(absent, allow_module_level=True)
for program in ("mmdebstrap", "buildah"):
    if shutil.which(program) is None:
        pytest.skip(f"no {program}: the product's image cannot be built", allow_module_level=True)
if (statedir.base() / cluster.NAME).exists():
    pytest.skip("./run cluster is up on this machine, and the guide's commands would take it down")

_MOST = 600.0
_SAYS = {
    "get nodes": "node2",
    "get pods": "coredns",
    "get configmap": "eni_conf",
    "terway-cli mode": "eBPF",
    "show factory": "eni_max",
    "show resource_pool": "capacity",
    "delete pods": "deleted",
    "rollout status": "successfully rolled out",
    "cluster down": "the cluster is down",
}
"""A part of a command, and what is to be in its answer."""


@pytest.fixture
def nothing_left() -> Iterator[None]:
    yield
    take_down(cluster.NAME)


@pytest.mark.usefixtures("nothing_left")
def test_each_command_does_what_it_says() -> None:
    unseen = dict(_SAYS)
    for command in lab_commands():
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
        words = " ".join(command)
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        for part in [part for part in unseen if part in words]:
            assert unseen.pop(part) in done.stdout, words
    assert not unseen

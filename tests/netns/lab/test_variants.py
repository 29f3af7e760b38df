"""Labs beside each other, a lab on a wire, a lab on a machine with cgroup v2 alone, a terminal in a node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datapath import namespace
from lab.client import Lab
from lab.fabric.offload import offloads
from lab.nodes.remote import SOURCE
from lab.spec import LabSpec, NodeSpec
from tests.netns.lab.conftest import fresh_name

_ONE_NODE = LabSpec(nodes=(NodeSpec("node1"),))

_VETH_PLUGIN = """#!/bin/sh
[ "$CNI_COMMAND" = ADD ] || exit 0
ip link add host0 type veth peer name eth0 netns "${CNI_NETNS##*/}"
echo '{"cniVersion":"1.0.0","ips":[]}'
"""


def test_two_labs_at_once_do_not_meet(name: str) -> None:
    with Lab.start(_ONE_NODE, name=name) as one, Lab.start(_ONE_NODE, name=fresh_name()) as two:
        nodes = one.node("node1"), two.node("node1")
        assert nodes[0].address == nodes[1].address
        nodes[0].exec(["sh", "-c", "echo one > /var/lib/which"], check=True)
        assert nodes[1].exec(["test", "-e", "/var/lib/which"]).returncode == 1
        one.cloud.occupy("vsw-pods", leave=0)
        available = {v["id"]: v["available"] for v in two.cloud.state()["vswitches"]}
        assert available["vsw-pods"] > 0
        one.down()
        assert two.status()["nodes"][0]["running"]
        assert nodes[1].exec(["true"]).returncode == 0


def _offloads(netns: int, device: str) -> set[bool]:
    try:
        with namespace.entered(netns):
            return set(offloads(device).values())
    finally:
        os.close(netns)


@pytest.mark.parametrize("wire", [True, False])
def test_offloads_of_a_pods_links_follow_the_wire(name: str, wire: bool) -> None:
    with Lab.start(LabSpec(nodes=(NodeSpec("node1"),), wire=wire), name=name) as lab:
        node = lab.node("node1")
        node.write("/opt/cni/bin/veth", _VETH_PLUGIN, mode=0o755)
        conf = {"cniVersion": "1.0.0", "name": "n", "type": "veth"}
        node.write("/etc/cni/net.d/1.conf", json.dumps(conf))
        pod = lab.add_pod("node1", "default", "p")
        for netns, device in (
            (pod.netns_fd(), "eth0"),
            (node.netns_fd(), "host0"),
            (node.netns_fd(), "eth0"),
        ):
            assert (True not in _offloads(netns, device)) == wire, device


_V2 = """
umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup || exit 99
lab() { "$PYTHON" -m lab.cli.main "$@" --name "$NAME"; }
lab up --nodes 1 > /dev/null || exit 1
"$PYTHON" -m lab.cli.main node exec --name "$NAME" node1 -- sh -c \
    'mount -t cgroup2 | wc -l; mount -t cgroup | wc -l; grep ^0: /proc/self/cgroup; ls -d /sys/fs/cgroup/init'
ls -d "/sys/fs/cgroup/terway-lab-$NAME/node1"
lab down > /dev/null
ls -d "/sys/fs/cgroup/terway-lab-$NAME" 2> /dev/null || echo none
"""


def test_on_a_machine_with_cgroup_v2_alone(name: str) -> None:
    """As plain Debian 12 has it; made here in a mount namespace of the test's own."""
    env = {**os.environ, "PYTHON": sys.executable, "NAME": name}
    result = subprocess.run(
        ["unshare", "--mount", "bash", "-c", _V2],
        env=env,
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 99:
        pytest.skip(f"cgroup v2 cannot be mounted here: {result.stderr.strip()}")
    assert result.stdout.split() == [
        "1",
        "0",
        "0::/init",
        "/sys/fs/cgroup/init",
        f"/sys/fs/cgroup/terway-lab-{name}/node1",
        "none",
    ]


def test_a_terminal_becomes_the_commands_own(name: str) -> None:
    with Lab.start(_ONE_NODE, name=name):
        ours, theirs = os.openpty()
        words = [
            "node",
            "exec",
            "--name",
            name,
            "node1",
            "--",
            "sh",
            "-c",
            "tty; read x; echo got $x; exit 4",
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.cli.main", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=SOURCE,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            said = _until(ours, b"/dev/pts/")
            os.write(ours, b"word\r")
            said += _until(ours, b"got word")
            assert process.wait(10) == 4
            assert b"not a tty" not in said
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def _until(terminal: int, wanted: bytes) -> bytes:
    said = b""
    while wanted not in said:
        said += os.read(terminal, 1000)
    return said


def test_source_below_a_hidden_directory_is_still_there(name: str, tmp_path: Path) -> None:
    """Continuous integration checks out below /var/lib or /tmp, which a node has of its own."""
    assert str(tmp_path).startswith("/tmp"), "the point of this test"
    copy = tmp_path / "source"
    copy.mkdir()
    for package in ("lab", "datapath", "control", "bpf"):
        shutil.copytree(SOURCE / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import sys\n"
        "from lab.client import Lab\n"
        "with Lab.start(name=sys.argv[1]) as lab:\n"
        "    print(lab.node('node1').python('import lab; print(lab.__file__)'))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, name], cwd=copy, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(copy / "lab" / "__init__.py")

"""A node is a machine of its own: files, devices, processes and names, and what a reboot does to them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from datapath import namespace
from lab.client import Lab
from lab.messages import LabError
from lab.nodes.node import LabNode
from lab.nodes.process import ended
from lab.spec import NodeSpec
from tests.netns.lab.waiting import wait_for


@pytest.fixture
def nodes(lab: Lab) -> tuple[LabNode, LabNode]:
    return lab.node("node1"), lab.node("node2")


def sh(node: LabNode, script: str) -> str:
    return node.exec(["sh", "-c", script], check=True).stdout.strip()


@pytest.mark.parametrize(
    "directory",
    ["/run", "/tmp", "/var/lib", "/var/log", "/etc", "/etc/cni/net.d", "/etc/eni", "/opt", "/opt/cni/bin"],
)
def test_files_are_the_nodes_own(nodes: tuple[LabNode, LabNode], directory: str) -> None:
    one, two = nodes
    path = f"{directory}/only-in-node1"
    sh(one, f"echo here > {path}")
    assert sh(one, f"cat {path}") == "here"
    assert two.exec(["test", "-e", path]).returncode == 1
    assert not Path(path).exists()
    sh(one, f"rm {path}")


def test_bpffs_is_the_nodes_own(nodes: tuple[LabNode, LabNode]) -> None:
    one, two = nodes
    sh(one, "mkdir /sys/fs/bpf/terway")
    assert sh(one, "stat -f -c %T /sys/fs/bpf") == "bpf_fs"
    assert two.exec(["test", "-e", "/sys/fs/bpf/terway"]).returncode == 1
    sh(one, "rmdir /sys/fs/bpf/terway")


def test_devices_in_sys_are_the_nodes_own(nodes: tuple[LabNode, LabNode]) -> None:
    assert sh(nodes[0], "ls /sys/class/net").split() == ["eth0", "lo"]


def test_names_and_ids_differ(nodes: tuple[LabNode, LabNode]) -> None:
    one, two = nodes
    assert [sh(n, "hostname; cat /etc/hostname").split() for n in nodes] == [["node1"] * 2, ["node2"] * 2]
    boot_ids = {sh(n, "cat /proc/sys/kernel/random/boot_id") for n in (one, two)}
    boot_ids.add(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    assert len(boot_ids) == 3


def test_processes_of_others_are_not_seen(nodes: tuple[LabNode, LabNode]) -> None:
    pids = sh(nodes[0], "ls /proc | grep '^[0-9]' | sort -n").split()
    assert pids[0] == "1"
    assert len(pids) < 10


def test_group_is_the_root_that_the_node_sees(nodes: tuple[LabNode, LabNode]) -> None:
    for line in sh(nodes[0], "cat /proc/self/cgroup").splitlines():
        assert line.split(":", 2)[2] in ("/", "/init")
    made = sh(
        nodes[0],
        "d=$(mount -t cgroup,cgroup2 | awk 'NR==1{print $3}')/child; mkdir $d; ls -d $d; rmdir $d",
    )
    assert made.endswith("/child")


def test_mounts_propagate_to_the_nodes_children(nodes: tuple[LabNode, LabNode]) -> None:
    assert sh(nodes[0], "findmnt -n -o PROPAGATION /").startswith("shared")


def test_exec_passes_input_output_environment_and_status(nodes: tuple[LabNode, LabNode]) -> None:
    result = nodes[0].exec(["sh", "-c", "cat; echo $WORD >&2; exit 3"], stdin="said", env={"WORD": "heard"})
    assert (result.stdout, result.stderr, result.returncode) == ("said", "heard\n", 3)
    with pytest.raises(subprocess.CalledProcessError):
        nodes[0].exec(["false"], check=True)
    with pytest.raises(LabError, match="no program 'nothing-like-it'"):
        nodes[0].exec(["nothing-like-it"])


def test_exec_times_out_and_kills(nodes: tuple[LabNode, LabNode]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        nodes[0].exec(["sleep", "997"], timeout=0.1)
    assert nodes[0].exec(["pgrep", "-f", "sleep 997"]).returncode == 1


def test_popen_has_pipes_and_ends_with_its_client(nodes: tuple[LabNode, LabNode]) -> None:
    process = nodes[0].popen(["sh", "-c", "read word; echo $word; exec sleep 1000"])
    assert process.stdin is not None
    assert process.stdout is not None
    os.write(process.stdin, b"echo\n")
    assert os.read(process.stdout, 10) == b"echo\n"
    pidfd = os.dup(process.fileno())
    try:
        process.close()
        assert ended(pidfd, 5.0)
    finally:
        os.close(pidfd)


def test_detached_process_outlives_its_client_and_is_found_by_label(nodes: tuple[LabNode, LabNode]) -> None:
    with open(os.devnull, "r+b") as null:
        files = (null.fileno(),) * 3
        process = nodes[0].spawn(["sleep", "998"], files, detached=True, label="sleeper")
    pid = process.pid
    process.close()
    _, (pidfd,) = nodes[0].ask({"verb": "open_process", "label": "sleeper"})
    try:
        assert pid is not None
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0998\0"
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        assert ended(pidfd, 5.0)
    finally:
        os.close(pidfd)
    with pytest.raises(LabError, match="no process 'sleeper'"):
        nodes[0].ask({"verb": "open_process", "label": "sleeper"})


def test_exit_by_signal_is_negative(nodes: tuple[LabNode, LabNode]) -> None:
    assert nodes[0].exec(["sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL


def test_orphans_are_reaped(nodes: tuple[LabNode, LabNode]) -> None:
    sh(nodes[0], "(sh -c 'sleep 0.01' &) ")
    wait_for("no zombie", lambda: nodes[0].exec(["pgrep", "-r", "Z"]).returncode == 1)
    wait_for("it ended", lambda: nodes[0].exec(["pgrep", "-f", "sleep 0.01"]).returncode == 1)


def test_a_client_that_says_nothing_does_not_stop_the_node(nodes: tuple[LabNode, LabNode]) -> None:
    from lab import messages

    with messages.connect(nodes[0].directory.socket) as broken:
        broken.sendall(b"\xff\xff\xff\xff\0\0\0\0")
    assert sh(nodes[0], "echo alive") == "alive"


class TestSandboxes:
    @pytest.fixture
    def sandbox(self, nodes: tuple[LabNode, LabNode]) -> Iterator[tuple[LabNode, str, int]]:
        node = nodes[0]
        fd = node.add_sandbox("cni-test")
        yield node, "cni-test", fd
        os.close(fd)
        node.remove_sandbox("cni-test")

    def test_is_a_file_in_run_netns_of_its_node_alone(
        self, sandbox: tuple[LabNode, str, int], nodes: tuple[LabNode, LabNode]
    ) -> None:
        node, name, fd = sandbox
        assert node.sandboxes() == (name,)
        inode = int(sh(node, f"stat -L -c %i /var/run/netns/{name}"))
        assert inode == namespace.identity(fd).inode
        assert nodes[1].sandboxes() == ()
        with pytest.raises(LabError, match="File exists"):
            node.add_sandbox(name)

    def test_has_lo_up_and_nothing_else(self, sandbox: tuple[LabNode, str, int]) -> None:
        node, name, _ = sandbox
        links = sh(node, f"ip -n {name} -br link show").splitlines()
        assert len(links) == 1
        assert "LOOPBACK,UP" in links[0]

    def test_processes_run_in_it(self, sandbox: tuple[LabNode, str, int]) -> None:
        node, name, fd = sandbox
        with open(os.devnull, "r+b") as null:
            process = node.spawn(["sleep", "999"], (null.fileno(),) * 3, sandbox=name)
        with process:
            mine = namespace.of_process(process.pid or 0)
            assert namespace.identity(mine) == namespace.identity(fd)
            os.close(mine)
        assert sh(node, "ls /sys/class/net; ip -br link | wc -l").split()[-1] == "2"

    def test_removal(self, nodes: tuple[LabNode, LabNode]) -> None:
        node = nodes[0]
        os.close(node.add_sandbox("cni-gone"))
        assert node.remove_sandbox("cni-gone")
        assert not node.remove_sandbox("cni-gone")
        with pytest.raises(LabError, match="No such file"):
            node.sandbox_fd("cni-gone")
        with pytest.raises(LabError, match="no name of a namespace"):
            node.add_sandbox("../escape")


class TestPower:
    def test_reboot_keeps_the_disk_and_nothing_of_the_kernel(self, lab: Lab) -> None:
        node = lab.node("node2")
        sh(
            node,
            "echo kept > /var/lib/file; touch /run/file; mkdir /sys/fs/bpf/pins;"
            "ip rule add pref 99 lookup 99",
        )
        os.close(node.add_sandbox("cni-old"))
        before = sh(node, "cat /proc/sys/kernel/random/boot_id")
        mac = sh(node, "cat /sys/class/net/eth0/address")
        old_pid = node.pid
        node.reboot()
        assert sh(node, "cat /var/lib/file") == "kept"
        assert sh(node, "ls /run/netns; ip rule show pref 99") == ""
        for gone in ("/run/file", "/sys/fs/bpf/pins"):
            assert node.exec(["test", "-e", gone]).returncode == 1
        assert sh(node, "cat /proc/sys/kernel/random/boot_id") != before
        assert sh(node, "cat /sys/class/net/eth0/address") == mac
        assert node.pid != old_pid
        sh(node, "rm /var/lib/file")
        assert reaches_metadata(node)

    def test_kill_ends_all_and_reboot_brings_it_back(self, lab: Lab) -> None:
        node = lab.node("node2")
        process = node.popen(["sleep", "1000"])
        node.kill()
        assert process.wait(5.0) == -signal.SIGKILL
        process.close()
        assert node.status()["running"] is False
        with pytest.raises(LabError, match="node2 does not run"):
            node.exec(["true"])
        assert "eni-node2" not in lab.port_counters()
        node.reboot()
        assert node.status()["running"] is True
        assert reaches_metadata(node)

    def test_nodes_come_and_go(self, lab: Lab) -> None:
        node = lab.add_node(NodeSpec("node3"))
        assert reaches_metadata(node)
        assert node.python("import socket; print(socket.gethostname())") == "node3\n"
        assert [n.name for n in lab.nodes] == ["node1", "node2", "node3"]
        lab.remove_node("node3")
        assert [n.name for n in lab.nodes] == ["node1", "node2"]
        with pytest.raises(LabError, match="no node 'node3'"):
            lab.remove_node("node3")
        assert lab.add_node(NodeSpec("node3")).status()["running"], "the name is free again"
        lab.remove_node("node3")


def reaches_metadata(node: LabNode) -> bool:
    url = "http://100.100.100.200/latest/meta-data/instance-id"
    said = node.python(f"import urllib.request as r; print(r.urlopen('{url}', timeout=5).read().decode())")
    return said.strip() == f"i-{node.name}"


def test_a_program_that_cannot_be_in_its_group_does_not_run(lab: Lab) -> None:
    node = lab.node("node1")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with pytest.raises(LabError, match="No such file"):
            node.spawn(["sleep", "987"], [null] * 3, detached=True, label="lost", group="missing/below")
    finally:
        os.close(null)
    wait_for("it has ended", lambda: "sleep 987" not in sh(node, "ps -eo args"))
    assert "lost" not in [each["label"] for each in node.ask({"verb": "processes"})[0]["running"]]

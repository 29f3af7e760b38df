"""What a kubelet does to a node and must not do to the machine; no kubelet is needed to see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.client import Lab
from lab.messages import LabError
from lab.nodes.mounts import KERNEL_WIDE
from lab.nodes.node import LabNode
from lab.spec import KubernetesSpec, LabSpec
from lab.statedir import LabDir


def machine() -> dict[str, str]:
    return {name: (Path("/proc/sys") / name).read_text() for name in KERNEL_WIDE}


def write_all(node: LabNode, value: str) -> str:
    """The node's own view afterwards."""
    program = "import sys; [open('/proc/sys/' + n, 'w').write(sys.argv[1]) for n in sys.argv[2:]]"
    node.python(program, value, *KERNEL_WIDE)
    return node.exec(["cat", *(f"/proc/sys/{name}" for name in KERNEL_WIDE)], check=True).stdout


def test_kernel_wide_settings_are_the_nodes_own(lab: Lab) -> None:
    before = machine()
    assert len(before) > 4
    assert write_all(lab.node("node1"), "7") == "7" * len(KERNEL_WIDE)
    other = lab.node("node2").exec(["cat", f"/proc/sys/{KERNEL_WIDE[0]}"], check=True).stdout
    assert other == before[KERNEL_WIDE[0]]
    assert machine() == before


def test_a_reboot_brings_the_machines_settings_back(lab: Lab) -> None:
    node = lab.node("node2")
    write_all(node, "7")
    node.reboot()
    seen = node.exec(["cat", f"/proc/sys/{KERNEL_WIDE[0]}"], check=True).stdout
    assert seen == machine()[KERNEL_WIDE[0]]


def test_a_reboot_leaves_no_control_group_of_a_pod(lab: Lab) -> None:
    node = lab.node("node1")
    make = (
        "for d in /sys/fs/cgroup/*/; do"
        ' case $d in */unified/) continue;; esac; mkdir -p "$d/kubepods/pod1/container"; done'
    )
    node.exec(["sh", "-c", make], check=True)
    find = ["find", "/sys/fs/cgroup", "-name", "kubepods"]
    assert node.exec(find, check=True).stdout.strip()
    node.reboot()
    assert node.exec(find, check=True).stdout == ""


def test_a_cluster_without_programs_says_so(name: str) -> None:
    with pytest.raises(LabError, match="wants kube_bin"):
        Lab.start(LabSpec(nodes=(), kubernetes=KubernetesSpec()), name=name)
    assert not LabDir.of(name).root.exists()

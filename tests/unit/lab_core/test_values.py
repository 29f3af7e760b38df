"""The small pure parts: names and paths, control groups as the kernel lists them, tables, arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cli.table import table
from lab.cli.words import pairs
from lab.nodes import cgroups
from lab.nodes.agent import cni_conf, eni_conf
from lab.nodes.cgroups import Hierarchy
from lab.spec import LabSpec
from lab.statedir import NodeDir, check_name


@pytest.mark.parametrize("name", ["lab", "a", "node-1", "x" * 40])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "x" * 41, "a b", "a\n"])
def test_no_names(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        check_name(name)


def test_a_nodes_private_paths_lie_in_its_directory() -> None:
    node = NodeDir(Path("/s"))
    assert node.outside("/etc/eni/eni_conf") == Path("/s/etc-eni/eni_conf")
    assert node.outside("/var/lib") == Path("/s/var-lib")
    for path in ("/etc/passwd", "/var/library/x", "/"):
        with pytest.raises(ValueError, match="is not below one of"):
            node.outside(path)


_V1 = """\
23 18 0:22 / /sys rw - sysfs sysfs rw
30 23 0:29 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:31 /docker/c /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
"""
_V1_OWN = """\
4:memory:/docker/c/deep
3:cpu,cpuacct:/user
2:pids:/unmounted
1:name=systemd:/user.slice/a:b
0::/user.slice
"""
_V2 = "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def _fake(monkeypatch: pytest.MonkeyPatch, mounts: str, own: str) -> tuple[Hierarchy, ...]:
    texts = {"/proc/self/mountinfo": mounts, "/proc/self/cgroup": own}
    monkeypatch.setattr(Path, "read_text", lambda self: texts[str(self)])
    return cgroups.hierarchies()


def test_hierarchies_of_v1_and_both(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {h.controllers: h for h in _fake(monkeypatch, _V1, _V1_OWN)}
    root = Path("/sys/fs/cgroup")
    assert set(found) == {"memory", "cpu,cpuacct", "name=systemd", ""}, "pids has no mount here"
    assert found["memory"].lab("x") == root / "memory/deep/terway-lab-x", "the mount shows a part only"
    assert found["cpu,cpuacct"].lab("x") == root / "cpu,cpuacct/user/terway-lab-x"
    assert found["name=systemd"].lab("x") == root / "systemd/user.slice/a:b/terway-lab-x"
    assert found[""].unified
    assert found[""].lab("x") == root / "unified/terway-lab-x"


def test_hierarchy_of_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = _fake(monkeypatch, _V2, "0::/user.slice/session-1.scope\n")
    assert found.lab("x") == Path("/sys/fs/cgroup/terway-lab-x"), "a session's group may not have children"


def test_no_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _fake(monkeypatch, "", "0::/\n") == ()


def test_table() -> None:
    text = table(("NAME", "X"), [("a", None), ("longer", ["b", "c"]), ("", True)])
    assert text == "NAME    X\na       -\nlonger  b,c\n-       yes"
    assert table(("NAME",), []) == "NAME"


def test_pairs() -> None:
    assert pairs(["a=1", "b=x=y", "c=[1,2]", "d="]) == {"a": 1, "b": "x=y", "c": [1, 2], "d": ""}
    with pytest.raises(ValueError, match="'a' is not KEY=VALUE"):
        pairs(["a"])


def test_configuration_fits_the_lab_and_takes_changes() -> None:
    conf = eni_conf(LabSpec(), max_pool_size=20)
    assert conf["vswitches"] == {"cn-hangzhou-a": ["vsw-pods"]}
    assert conf["max_pool_size"] == 20
    assert cni_conf(cniVersion="1.0.0")["cniVersion"] == "1.0.0"

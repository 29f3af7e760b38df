"""The executable and its daemon as a runtime meets them: every command and version, chains, hang-ups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from lab.client import Lab
from lab.cni_call import Json
from lab.spec import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6
from tests.e2e.benches import Sandbox, bench, conf, roomy, sandbox, unchanged, undisturbed
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import kernel, reaches, state

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


@pytest.fixture(scope="module")
def serving(lab: Lab) -> Iterator[Bench]:
    with roomy(lab) as made:
        yield made


@pytest.fixture
def node(serving: Bench) -> Iterator[Bench]:
    with undisturbed(serving):
        yield serving


# --- versions ---


@pytest.mark.parametrize("version", VERSIONS)
def test_result_in_the_version_asked_for(node: Bench, version: str) -> None:
    with unchanged(node), sandbox(node) as raw:
        done = raw.call("ADD", stdin=conf(version))
        assert (done.code, done.stdout.count("\n")) == (0, 1), done.stdout
        result = done.json
        assert result["cniVersion"] == version
        _assert_shape(result, version, raw)
        _assert_true(result, raw)
        again = raw.call("ADD", stdin=conf(version))
        assert again.json == result, "an ADD that is repeated finds what it made"
        check = raw.call("CHECK", stdin=conf(version, prevResult=result))
        if version in ("0.3.0", "0.3.1"):
            check.assert_error(1, "for CHECK: 0.4.0, 1.0.0, 1.1.0", version=version)
        else:
            assert (check.code, check.stdout) == (0, "")
        done = raw.call("DEL", stdin=conf(version, prevResult=result))
        assert (done.code, done.stdout) == (0, "")


def _assert_shape(result: Json, version: str, raw: Sandbox) -> None:
    """The keys of the specification's text for this version, and no others."""
    assert set(result) == {"cniVersion", "interfaces", "ips", "dns"}
    pod, host = result["interfaces"]
    new = {"mtu"} if version == "1.1.0" else set()
    assert set(pod) == {"name", "mac", "sandbox"} | new
    assert set(host) == {"name", "mac"} | new
    assert (pod["name"], pod["sandbox"]) == ("eth0", raw.attachment.netns)
    old = {"version"} if version < "1.0.0" else set()
    assert [set(ip) for ip in result["ips"]] == [{"address", "gateway", "interface"} | old] * 2
    assert [ip["interface"] for ip in result["ips"]] == [0, 0]
    if old:
        assert [ip["version"] for ip in result["ips"]] == ["4", "6"]


def _assert_true(result: Json, raw: Sandbox) -> None:
    """What it says is what is in the pod's namespace."""
    fd = raw.fd()
    try:
        with namespace.entered(fd), IPRoute() as inside:
            (link,) = inside.get_links(ifname="eth0")
            found = {a.get_attr("IFA_ADDRESS") for a in inside.get_addr(index=link["index"])}
        assert link.get_attr("IFLA_ADDRESS") == result["interfaces"][0]["mac"]
        assert {ip["address"].split("/")[0] for ip in result["ips"]} <= found
        assert reaches(fd, str(OUTSIDE_ADDRESS))
        assert reaches(fd, str(OUTSIDE_ADDRESS_V6))
    finally:
        os.close(fd)


@pytest.mark.parametrize("version", VERSIONS)
def test_error_in_the_version_asked_for(node: Bench, version: str) -> None:
    with unchanged(node), sandbox(node, "ghost", create_object=False) as raw:
        raw.call("ADD", stdin=conf(version)).assert_error(107, "there is no pod", version=version)


def test_without_a_daemon_only_version_is_answered(lab: Lab) -> None:
    with bench(lab) as made, sandbox(made) as raw, unchanged(made):
        told = raw.call("VERSION", stdin='{"cniVersion": "0.4.0"}')
        assert (told.code, told.json) == (0, {"cniVersion": "0.4.0", "supportedVersions": list(VERSIONS)})
        assert raw.call("VERSION", stdin="").json["cniVersion"] == "1.1.0"
        with ThreadPoolExecutor(3) as pool:
            commands = ("ADD", "DEL", "STATUS")
            calls = [pool.submit(raw.call, c, stdin=conf("1.1.0")) for c in commands]
        for call in calls:
            call.result().assert_error(11, "is terwayd running", "/var/run/eni/eni.socket", version="1.1.0")


# --- CHECK, STATUS, GC, DEL ---


def test_check_says_what_is_missing(node: Bench) -> None:
    with sandbox(node) as raw:
        assert raw.call("ADD").code == 0
        fd = raw.fd()
        try:
            with namespace.entered(fd), IPRoute() as inside:
                inside.flush_routes(family=2)
        finally:
            os.close(fd)
        raw.call("CHECK").assert_error(
            105, "not as ADD left it", "0.0.0.0/0 via 169.254.1.1 dev eth0", "absent"
        )
    with sandbox(node, "never-added") as raw:
        raw.call("CHECK").assert_error(107, "no attachment", "make the sandbox anew")


def test_status(node: Bench) -> None:
    with sandbox(node) as raw:
        done = raw.call("STATUS", stdin=conf("1.1.0"))
        assert (done.code, done.stdout) == (0, "")
        raw.call("STATUS", stdin=conf("1.0.0")).assert_error(1, "for STATUS: 1.1.0", version="1.0.0")


def test_gc_frees_what_neither_the_runtime_nor_the_kernel_has(node: Bench) -> None:
    with sandbox(node, "lost") as lost, sandbox(node, "live") as live:
        added = {name: s.call("ADD").json for name, s in (("lost", lost), ("live", live))}
        lost_id = lost.attachment.container_id

        def known() -> set[str]:
            return {a["container_id"] for a in state(node.node)["attachments"]}

        before = known()
        assert live.call("GC", stdin=conf("1.1.0")).code == 0
        assert known() == before, "no list: nothing is known, nothing is freed"
        assert live.call("GC", stdin=conf("1.1.0", **{"cni.dev/valid-attachments": []})).code == 0
        assert known() == before, "the kernel has them all"
        _delete_link(node, added["lost"]["interfaces"][1]["name"])
        listed = [{"containerID": lost_id, "ifname": "eth0"}]
        assert live.call("GC", stdin=conf("1.1.0", **{"cni.dev/valid-attachments": listed})).code == 0
        assert known() == before, "the runtime has it"
        assert live.call("GC", stdin=conf("1.1.0", **{"cni.dev/valid-attachments": []})).code == 0
        assert known() == before - {lost_id}
        assert live.call("CHECK").code == 0
        live.call("GC", stdin=conf("1.0.0")).assert_error(1, "for GC: 1.1.0", version="1.0.0")
        live.call("GC", stdin=conf("1.1.0"), CNI_PATH=None).assert_error(4, "CNI_PATH", version="1.1.0")


def _delete_link(made: Bench, name: str) -> None:
    fd = made.lab.netns_fd(made.node.name)
    try:
        with namespace.entered(fd), IPRoute() as netlink:
            netlink.link("del", ifname=name)
    finally:
        os.close(fd)


@pytest.mark.parametrize("how", ["with its namespace", "without", "after it is gone"])
def test_delete_twice(node: Bench, how: str) -> None:
    with unchanged(node), sandbox(node) as raw:
        assert raw.call("ADD").code == 0
        if how == "after it is gone":
            node.node.remove_sandbox(raw.name)
        netns = {"CNI_NETNS": None} if how == "without" else {}
        for _ in range(2):
            done = raw.call("DEL", **netns)
            assert (done.code, done.stdout) == (0, "")
        assert raw.attachment.container_id not in kernel(node.lab, node.node).links.values()


def test_delete_with_a_broken_configuration(node: Bench) -> None:
    """A pod must be removable after somebody has broken the configuration."""
    with unchanged(node), sandbox(node) as raw:
        assert raw.call("ADD").code == 0
        assert raw.call("DEL", stdin=conf("0.4.0", eniip_virtual_type="Calico", mtu="big")).code == 0
        assert raw.attachment.container_id not in {a["container_id"] for a in state(node.node)["attachments"]}

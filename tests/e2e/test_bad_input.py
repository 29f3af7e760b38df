"""What is wrong before the cloud is asked: configuration, a second daemon, and what a runtime says.

Each with its error in words, and a system that is as it was. What is wrong with the cloud, with metadata or
with Kubernetes is in ``test_refusals`` and ``test_outages``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from lab.client import Lab
from lab.nodes import agent
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import CONF, agent_run, assert_one_line, bench, sandbox, unchanged
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import reaches

LEDGER = "/var/lib/cni/terway/terway.db"
ENI_CONF = "/etc/eni/eni_conf"


# --- what terwayd reads before it starts ---


@pytest.fixture(scope="module")
def idle(lab: Lab) -> Iterator[Bench]:
    """Configured, and no agent runs or ever ran."""
    with bench(lab) as made:
        yield made


BAD_ENI_CONF: dict[str, tuple[str | dict[str, Any], list[str]]] = {
    "not JSON": ("{not json", ["eni_conf cannot be parsed", "not JSON at line 1"]),
    "a list": ("[]", ["eni_conf cannot be parsed", "expected a JSON object"]),
    "ip_stack": ({"ip_stack": "ipv5"}, ['ip_stack is "ipv5"', "allowed: ipv4, dual"]),
    "negative": ({"max_pool_size": -1}, ["max_pool_size is -1", "whole number of at least 0"]),
    "text for a number": ({"min_pool_size": "5"}, ['min_pool_size is "5"', "without quotes"]),
    "too many groups": (
        {"security_groups": [f"sg-{i}" for i in range(11)]},
        ["security_groups is", "at most 10", "there are 12"],
    ),
    "policy": ({"eni_selection_policy": "best"}, ['eni_selection_policy is "best"', "most_ips, least_ips"]),
    "service_cidr": ({"service_cidr": "10.96.0.0"}, ['service_cidr is "10.96.0.0"', "CIDR"]),
    "reclaim": ({"idle_ip_reclaim_after": "soon"}, ['idle_ip_reclaim_after is "soon"']),
    "secret": ({"access_secret": 17}, ["access_secret is (hidden)", "a string"]),
}


def _assert_untouched(made: Bench) -> None:
    """terwayd has left neither a ledger nor a socket."""
    assert not made.node.directory.outside(LEDGER).exists()
    assert made.node.exec(["ls", "/run/eni"]).stdout == ""


@pytest.mark.parametrize("case", BAD_ENI_CONF)
def test_bad_eni_conf_ends_the_start_with_one_line(idle: Bench, case: str) -> None:
    bad, words = BAD_ENI_CONF[case]
    text = bad if isinstance(bad, str) else json.dumps(agent.eni_conf(idle.lab.spec, **bad))
    idle.node.write("/etc/eni/bad", text)
    with unchanged(idle):
        done = agent_run(idle.node, "-config", "/etc/eni/bad")
    assert_one_line(done, *words, "correct the ConfigMap kube-system/eni-config")
    assert idle.lab.spec.access_secret not in done.stderr
    _assert_untouched(idle)


BAD_CNI_CONF: dict[str, tuple[dict[str, Any], list[str]]] = {
    "mode": ({"eniip_virtual_type": "Calico"}, ['is "Calico"', "IPVlan, PolicyRoute, veth, datapathv2"]),
    "mtu": ({"mtu": 100}, ["mtu is 100", "from 576 to 9000"]),
    "type": ({"type": "flannel"}, ['type is "flannel"', '"terway"']),
}


@pytest.mark.parametrize("case", BAD_CNI_CONF)
def test_bad_cni_conf_ends_the_start_with_one_line(idle: Bench, case: str) -> None:
    change, words = BAD_CNI_CONF[case]
    idle.node.write("/etc/eni/other/10-terway.conf", json.dumps({**CONF, **change}))
    with unchanged(idle):
        done = agent_run(idle.node, "-cni-conf-source", "/etc/eni/other")
    assert_one_line(done, "/etc/eni/other/10-terway.conf", *words)
    _assert_untouched(idle)


def test_missing_files_and_settings_are_named(idle: Bench) -> None:
    absent = agent_run(idle.node, "-config", "/etc/eni/absent")
    assert_one_line(absent, "cannot read /etc/eni/absent: No such file", "mount key eni_conf", "-config")
    nowhere = agent_run(idle.node, "-cni-conf-source", "/etc/none", "-cni-conf-target", "/etc/cni")
    assert_one_line(nowhere, "no CNI configuration in /etc/none or /etc/cni;", "write 10-terway.conf")
    nameless = agent_run(idle.node, env={"NODE_NAME": ""})
    assert_one_line(nameless, "node-name", "NODE_NAME")
    unknown = agent_run(idle.node, "-colour", "red")
    assert_one_line(unknown, "--colour")
    _assert_untouched(idle)


# --- a daemon that runs ---


@pytest.fixture(scope="module")
def served(lab: Lab) -> Iterator[Bench]:
    """With a pod, addresses to spare, and a configuration with a slip of the pen."""
    with bench(lab, max_pool_size=9, max_pool_sise=3) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def steady(served: Bench) -> LabPod:
    return served.pod("steady")


@pytest.fixture
def running(served: Bench, steady: LabPod) -> Iterator[Bench]:
    """The same; its pod's traffic does not notice, and nothing is dropped."""
    yield served
    assert reaches(steady, str(OUTSIDE_ADDRESS))
    assert not served.drops()
    assert served.node.agent_pid is not None


def test_unknown_key_is_a_warning_and_no_error(running: Bench) -> None:
    mode = running.node.exec(["terway-cli", "mode", "--json"], check=True).stdout
    (warning,) = json.loads(mode)["warnings"]
    assert '"max_pool_sise"' in warning
    assert "max_pool_size" in warning, "what may have been meant"
    assert warning in running.node.exec(["terway-cli", "mode"], check=True).stdout


def test_second_daemon_is_refused_and_the_first_not_disturbed(running: Bench) -> None:
    def sockets() -> str:
        return running.node.exec(
            ["stat", "-c", "%n %i", "/run/eni/eni.socket", "/run/eni/eni_debug.socket"]
        ).stdout

    before = sockets()
    with unchanged(running):
        done = agent_run(running.node)
    assert_one_line(done, LEDGER, "another terwayd", "end that one first")
    assert sockets() == before
    running.lab.delete_pod(running.pod("after"))


STDIN: dict[str, tuple[str | dict[str, Any], int, list[str], str]] = {
    "empty": ("", 6, ["failed to parse network config", "not JSON at line 1"], "1.0.0"),
    "not JSON": ('{"cniVersion": "0.4.0",', 6, ["not JSON at line 1"], "1.0.0"),
    "a list": ("[1]", 6, ["expected a JSON object, got a list"], "1.0.0"),
    "old version": ({"cniVersion": "0.2.0"}, 1, ['config is "0.2.0"', "0.3.0, 0.3.1, 0.4.0"], "0.2.0"),
    "no version": ({"cniVersion": None}, 1, ['config is "0.1.0"', "plugin supports"], "1.0.0"),
    "future version": ({"cniVersion": "9.9.9"}, 1, ['config is "9.9.9"'], "9.9.9"),
    "another plugin": ({"type": "bridge"}, 7, ['type is "bridge"', 'allowed: "terway"'], "0.4.0"),
    "mode": ({"eniip_virtual_type": "Calico"}, 7, ['eniip_virtual_type is "Calico"', "PolicyRoute"], "0.4.0"),
    "mtu": ({"mtu": "1500"}, 7, ['mtu is "1500"', "from 576 to 9000, without quotes"], "0.4.0"),
    "prevResult": ({"prevResult": {"cniVersion": "0.4.0", "ips": "no"}}, 7, ["prevResult.ips is"], "0.4.0"),
}


@pytest.mark.parametrize("case", STDIN)
def test_bad_network_configuration_is_refused(running: Bench, case: str) -> None:
    bad, code, words, version = STDIN[case]
    stdin = bad if isinstance(bad, str) else json.dumps({k: v for k, v in {**CONF, **bad}.items() if v})
    with sandbox(running) as raw, unchanged(running):
        raw.call("ADD", stdin=stdin).assert_error(code, *words, version=version)


ENVIRONMENT: dict[str, tuple[str, dict[str, str | None], list[str]]] = {
    "no container": ("ADD", {"CNI_CONTAINERID": None}, ["variables are missing", "CNI_CONTAINERID"]),
    "nothing": (
        "ADD",
        {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""},
        ["CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"],
    ),
    "no netns for CHECK": ("CHECK", {"CNI_NETNS": None}, ["CNI_NETNS"]),
    "no name for DEL": ("DEL", {"CNI_IFNAME": None}, ["CNI_IFNAME"]),
    "no command": ("ADD", {"CNI_COMMAND": None}, ["CNI_COMMAND is missing", "container runtime"]),
    "unknown command": ("ADD", {"CNI_COMMAND": "MOVE"}, ["unknown CNI_COMMAND", "'MOVE'", "ADD, DEL, CHECK"]),
    "a path for an id": ("ADD", {"CNI_CONTAINERID": "../etc"}, ["invalid CNI_CONTAINERID", "'../etc'"]),
    "a long name": ("ADD", {"CNI_IFNAME": "eth0123456789012"}, ["invalid CNI_IFNAME", "1 to 15 bytes"]),
    "no pod": (
        "ADD",
        {"CNI_ARGS": "IgnoreUnknown=1"},
        ["does not name a pod", "K8S_POD_NAMESPACE, K8S_POD_NAME"],
    ),
}


@pytest.mark.parametrize("case", ENVIRONMENT)
def test_bad_environment_is_refused(running: Bench, case: str) -> None:
    command, change, words = ENVIRONMENT[case]
    with sandbox(running) as raw, unchanged(running):
        raw.call(command, **change).assert_error(4, *words)


def test_cni_args_that_cannot_be_read_are_refused(running: Bench) -> None:
    with sandbox(running) as raw, unchanged(running):
        raw.call("ADD", CNI_ARGS="K8S_POD_NAME").assert_error(6, "failed to parse args", "NAME=VALUE")
        raw.call("ADD", CNI_ARGS="K8S_POD_NAME=a/b").assert_error(6, "K8S_POD_NAME is 'a/b'", "a pod's name")


NETNS = {
    "absent": ("/run/netns/absent", ["failed to open netns", "/run/netns/absent: No such file"]),
    "a file": ("/etc/hostname", ["is not a network namespace", "/etc/hostname", "runtime must give"]),
    "a directory": ("/run/netns", ["is not a network namespace", "/run/netns"]),
    "a FIFO": ("/run/eni/fifo", ["is not a network namespace", "/run/eni/fifo"]),
    "another kind": ("/proc/1/ns/uts", ["is not a network namespace", "/proc/1/ns/uts"]),
    "the node's own": (
        "/proc/1/ns/net",
        ["the node's own network namespace", "/proc/1/ns/net", "CNI_NETNS_OVERRIDE"],
    ),
}


@pytest.mark.parametrize("case", NETNS)
def test_what_is_no_pod_namespace_is_refused(running: Bench, case: str) -> None:
    path, words = NETNS[case]
    running.node.exec(["mkfifo", "/run/eni/fifo"])
    for command in ("ADD", "CHECK"):
        with sandbox(running) as raw, unchanged(running):
            raw.call(command, CNI_NETNS=path).assert_error(8, *words)
    with sandbox(running) as raw:
        done = raw.call("DEL", CNI_NETNS=path)
        assert (done.code, done.stdout) == (0, ""), "DEL does not need the namespace"


def test_the_nodes_own_namespace_is_taken_if_the_runtime_means_it(running: Bench) -> None:
    """Then it is like any other: what is there already is not ours to touch."""
    with sandbox(running) as raw, unchanged(running):
        override = {"CNI_NETNS": "/proc/1/ns/net", "CNI_NETNS_OVERRIDE": "1"}
        raw.call("ADD", **override, CNI_IFNAME="eth0").assert_error(4, "eth0", "another plugin made it")


def test_foreign_interface_in_the_pod_is_left_alone(running: Bench) -> None:
    with unchanged(running), sandbox(running, "foreign") as raw:
        fd = raw.fd()
        try:
            with namespace.entered(fd), IPRoute() as inside:
                inside.link("add", ifname="eth0", kind="veth", peer="eth1", address="02:00:00:00:00:77")
            with unchanged(running):
                raw.call("ADD").assert_error(4, "eth0 in the pod's namespace", "a name that is free")
            assert raw.call("DEL").code == 0
            with namespace.entered(fd), IPRoute() as inside:
                (link,) = inside.get_links(ifname="eth0")
                assert link.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:77"
                inside.link("del", index=link["index"])
            assert raw.call("ADD").code == 0, "the next try"
        finally:
            os.close(fd)


def test_unknown_pod_is_refused(running: Bench) -> None:
    with sandbox(running, "ghost", create_object=False) as raw, unchanged(running):
        raw.call("ADD").assert_error(107, f"there is no pod {running.node.name}/ghost", "it was deleted")


def test_pod_made_anew_is_not_served_under_its_old_uid(running: Bench) -> None:
    with unchanged(running), sandbox(running, "anew") as raw:
        uid = raw.attachment.uid
        changed = raw.attachment.environment("ADD")["CNI_ARGS"].replace(uid, "00000000-1111")
        with unchanged(running):
            told = (f"has uid {uid}", "00000000-1111", "made anew")
            raw.call("ADD", CNI_ARGS=changed).assert_error(107, *told)
        assert raw.call("ADD").code == 0, "with its own it is served"

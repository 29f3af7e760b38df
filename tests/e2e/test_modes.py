"""Pods of two modes on one node, one of them without a link on the host, over the VPC that the lab is.

``Macvlan`` is a mode for tests: ``cni.plugin.TEST_MODES``. Its pods and PolicyRoute's live beside each other
when the ConfigMap's mode changes while pods run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from lab.client import Lab
from lab.cni_call import CniError
from lab.nodes import agent
from lab.nodes.agent import Wait
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6
from tests.e2e.benches import bench, conf, sandbox
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, reaches, settled, state, until

MODES = {"TERWAY_TEST_MODES": "1"}
MACVLAN, POLICY_ROUTE = "Macvlan", "PolicyRoute"
CHANGES: dict[str, Any] = {"ip_stack": "dual", "ip_cool_down": "0s"}


@pytest.fixture
def made(lab: Lab) -> Iterator[Bench]:
    with bench(lab, **CHANGES) as one:
        yield one


def start(made: Bench, mode: str, *arguments: str) -> None:
    """The ConfigMap says ``mode`` now, and the agent is started anew."""
    made.configure(agent.cni_conf(eniip_virtual_type=mode), **{"max_pool_size": 0, **CHANGES})
    made.node.start_agent(list(arguments), env={"TERWAY_TEST_CLOCK": "1", **MODES})


def restart(made: Bench, mode: str) -> None:
    made.node.stop_agent(signal.SIGKILL)
    start(made, mode)


def modes(made: Bench) -> dict[str, str]:
    return {a["pod_name"]: a["mode"] for a in state(made.node)["attachments"]}


@contextmanager
def inside(pod: LabPod) -> Iterator[Any]:
    """A pyroute2 socket of a pod with root in its namespace."""
    fd = pod.netns_fd()
    try:
        with namespace.entered(fd):
            reader = IPRoute()
    finally:
        os.close(fd)
    try:
        yield reader
    finally:
        reader.close()


def assert_talk(*pods: LabPod) -> None:
    for one in pods:
        assert reaches(one, str(OUTSIDE_ADDRESS)), one.key
        assert reaches(one, str(OUTSIDE_ADDRESS_V6)), one.key
        for other in pods:
            if other is not one:
                assert reaches(one, str(other.ipv4)), (one.key, other.key)
                assert reaches(one, str(other.ipv6)), (one.key, other.key)


def test_yesterdays_pods_stay_in_yesterdays_mode(lab: Lab, made: Bench) -> None:
    """Real packets between both kinds of pod, another node's pod and the node itself, over all of it."""
    start(made, MACVLAN)
    own = made.pod("own")
    assert [one["name"] for one in own.result["interfaces"]] == ["eth0"], "and none on the host"
    restart(made, POLICY_ROUTE)
    shares, second = made.pod("shares"), made.pod("second")
    with bench(lab, **CHANGES) as away:
        away.start()
        assert_talk(own, shares, second, away.pod("far"))
        fd = lab.netns_fd(made.node.name)
        assert reaches(fd, str(own.ipv4))
        os.close(fd)
        assert reaches(own, made.node.address)
        assert not away.drops()
    assert modes(made) == {"own": "macvlan", "shares": "policy_route", "second": "policy_route"}
    for mode in (MACVLAN, POLICY_ROUTE):
        restart(made, mode)
        for pod in (own, shares, second):
            pod.check()
        assert_talk(own, shares, second)
    own.stop()
    own.delete_object()
    settled(made.node)
    assert set(modes(made).values()) == {"policy_route"}
    assert_agree(made.lab, made.node)  # the ENI is shared again
    assert_talk(shares, second)
    assert not made.drops()


def test_what_the_pod_sends_as_somebody_else_the_vpc_drops(made: Bench) -> None:
    """Why this mode's checks need nothing on the node; and the MAC that a pod has set is put back."""
    start(made, MACVLAN)
    own = made.pod("own")
    foreign = "10.0.0.77"
    with inside(own) as reader:
        index = reader.link_lookup(ifname="eth0")[0]
        reader.addr("add", index=index, address=foreign, prefixlen=32)
        reader.route(
            "replace", dst=f"{OUTSIDE_ADDRESS}/32", gateway=_gateway(reader), oif=index, prefsrc=foreign
        )
    assert not reaches(own, str(OUTSIDE_ADDRESS))
    assert sum(made.drops().values()) > 0
    with inside(own) as reader:
        reader.route("del", dst=f"{OUTSIDE_ADDRESS}/32")
        reader.addr("del", index=index, address=foreign, prefixlen=32)
        reader.link("set", index=index, address="02:00:00:00:00:66")
    before = made.drops()
    assert not reaches(own, str(OUTSIDE_ADDRESS))
    assert made.drops() != before
    made.advance(70)
    until(lambda: reaches(own, str(OUTSIDE_ADDRESS)), bool)
    own.check()


def _gateway(reader: Any) -> str:
    (default,) = [r for r in reader.get_routes(family=2, table=254) if not r["dst_len"]]
    return str(default.get_attr("RTA_GATEWAY"))


def test_a_lost_ledger_costs_pods_of_neither_mode_anything(made: Bench) -> None:
    start(made, MACVLAN)
    own = made.pod("own")
    restart(made, POLICY_ROUTE)
    shares = made.pod("shares")
    made.node.stop_agent()
    shutil.rmtree(Path(f"/proc/{made.node.pid}/root/var/lib/cni/terway"))
    start(made, POLICY_ROUTE)
    assert_talk(own, shares)
    late = [made.pod(f"late-{n}") for n in range(3)]
    for _ in range(20):
        made.advance(30)
        settled(made.node)
    assert_talk(own, shares, *late)
    addresses = [a for pod in (own, shares, *late) for a in pod.addresses]
    assert len(addresses) == len(set(addresses))
    own.check()
    assert modes(made)["own"] == "macvlan"
    own.stop()
    until(lambda: modes(made), lambda found: "own" not in found)


def test_collected_when_the_kernel_has_lost_it(made: Bench) -> None:
    """The sandbox goes without a DEL: the API server says so, and the kernel after it; then, not before."""
    start(made, MACVLAN)
    own = made.pod("own")
    own.delete_object()
    for _ in range(3):
        made.advance(400)
        settled(made.node)
    assert modes(made) == {"own": "macvlan"}, "it runs: the API server's word frees nobody"
    assert reaches(own, str(OUTSIDE_ADDRESS))
    own.remove_netns()

    def collected() -> dict[str, str]:
        made.advance(400)
        return modes(made)

    until(collected, lambda found: not found)


@pytest.mark.parametrize("netns", [True, False])
def test_gc_of_the_runtime(made: Bench, netns: bool) -> None:
    start(made, MACVLAN)
    own = made.pod("own")
    text = conf("1.1.0", **{"eniip_virtual_type": MACVLAN, "cni.dev/valid-attachments": []})
    with sandbox(made, "caller") as caller:
        assert caller.call("GC", stdin=text, CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None).code == 0
        assert reaches(own, str(OUTSIDE_ADDRESS)), "a list speaks for one runtime; the pod lives"
        assert modes(made) == {"own": "macvlan"}
        if not netns:
            own.remove_netns()

            def freed() -> dict[str, str]:
                caller.call("GC", stdin=text, CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None)
                return modes(made)

            until(freed, lambda found: not found)


def test_without_the_word_it_is_unknown(made: Bench) -> None:
    made.configure(agent.cni_conf(eniip_virtual_type=MACVLAN))
    made.node.start_agent(wait=Wait.NOTHING)
    until(made.node.agent_log, lambda log: "eniip_virtual_type" in log)
    assert "PolicyRoute" in made.node.agent_log()
    made.node.stop_agent()


@pytest.mark.parametrize("with_netns", [True, False])
def test_a_pod_that_a_later_release_has_left(made: Bench, with_netns: bool) -> None:
    """The node was rolled back: the pod runs on, everything tells of it, and its address comes back."""
    start(made, POLICY_ROUTE)
    strange, beside = made.pod("strange"), made.pod("beside")
    made.node.stop_agent()
    with closing(sqlite3.connect(made.node.directory.outside("/var/lib/cni/terway/terway.db"))) as db, db:
        words = "mode = 'from-the-future', uplink_kind = 'wormhole'"
        assert db.execute(f"UPDATE attachment SET {words} WHERE pod = 'strange'").rowcount == 1
    start(made, POLICY_ROUTE)
    settled(made.node)
    assert_talk(strange, beside)
    assert modes(made) == {"strange": "from-the-future", "beside": "policy_route"}
    assert "from-the-future" in made.node.exec(["/opt/cni/bin/terway-cli", "mapping"]).stdout
    with pytest.raises(CniError, match="from-the-future"):
        strange.check()
    beside.check()
    until(made.node.agent_log, lambda log: "was made in mode from-the-future" in log)
    strange.stop(netns=with_netns, remove_netns=False)
    assert modes(made) == {"beside": "policy_route"}
    with pytest.raises(OSError, match="unreachable"):
        reaches(strange, str(OUTSIDE_ADDRESS))
    assert_agree(made.lab, made.node)
    beside.check()
    addresses = [made.pod(f"next-{n}").ipv4 for n in range(3)]
    assert len({*addresses, beside.ipv4}) == 4
    assert "Traceback" not in made.node.agent_log()


def test_what_is_told_of_it(made: Bench) -> None:
    start(made, MACVLAN)
    made.pod("own")
    told = json.loads(made.node.exec(["/opt/cni/bin/terway-cli", "mode", "--json"]).stdout or "{}")
    assert told == {} or told["in_force"]["eniip_virtual_type"] == MACVLAN
    mapping = made.node.exec(["/opt/cni/bin/terway-cli", "mapping"]).stdout
    assert "macvlan" in mapping, mapping

"""Switched, swapped, killed, taken over, removed: packets do not notice, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from datapath.acceleration import Unavailable, open_fast_path, tc
from datapath.acceleration.load import Options
from datapath.acceleration.path import FastPath
from datapath.acceleration.tc import Place, Side
from datapath.acceleration.trace import TraceEvent
from datapath.netlink.socket import Socket
from tests.linux import ENI_HOOK
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6
from tests.netns.fastpath.builds import OTHER, Find, build
from tests.netns.fastpath.conversation import transfer
from tests.netns.fastpath.flood import RATE, Flood
from tests.netns.fastpath.node import FAR, FastNode, until
from tests.pace import SLOWER, patience

_ROOT = Path(__file__).resolve().parents[3]
SWAPS = int(100 / SLOWER)


@pytest.fixture(scope="session")
def other_build(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return build(tmp_path_factory.mktemp("other"), *OTHER)


def test_switching_loses_nothing(node: FastNode) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    bulk = threading.Thread(target=transfer, args=(one.netns, other.netns, other.address(6)))
    with Flood(one.netns, other.netns, other.address(4)) as flood:
        bulk.start()
        with node.counting("fast_local", "stack_off") as grown:
            for _ in range(20):
                for on, reason in ((False, "stack_off"), (True, "fast_local")):
                    node.fast.switch(on)
                    before = node.count(reason)
                    if on:  # what the stack has carried stays with it, both ways; what is new is fast
                        exchange(one.netns, other.netns, other.address(4))
                    until(lambda r=reason, b=before: node.count(r) > b, reason)  # type: ignore[misc]
        bulk.join()
        sent, rate, lost = flood.stop()
    assert lost == 0, f"of {sent} at {rate:.0f} per second"
    assert grown["fast_local"] > 0
    assert grown["stack_off"] > 0
    assert grown["forwarded"] > 0


def test_a_pod_is_switched_by_itself(node: FastNode) -> None:
    one, other, third = node.pod(ENI1), node.pod(ENI2), node.pod(ENI1)
    assert node.fast.switch_pod(one.address(6), False)
    assert not node.fast.endpoints()[one.applied.host_ifindex].fast
    for version in (4, 6):
        with node.counting("fast_local", "stack_pod_off", "stack_flow") as grown:
            exchange(one.netns, other.netns, other.address(version))
        assert grown == {"fast_local": 0, "stack_pod_off": 1, "stack_flow": 1, "forwarded": 2}
        with node.counting("fast_local") as grown:
            exchange(third.netns, other.netns, other.address(version))
        assert grown == {"fast_local": 2, "forwarded": 0}
    with node.counting("stack_pod_off") as grown:
        exchange(node.far, one.netns, one.address(4))
    assert grown == {"stack_pod_off": 2, "forwarded": 2}
    assert node.fast.switch_pod(one.address(4), True)
    with node.counting("fast_local") as grown:
        exchange(one.netns, other.netns, other.address(4))
    assert grown == {"fast_local": 2, "forwarded": 0}
    assert not node.fast.switch_pod(FAR, False)


@pytest.mark.parametrize("version", [4, 6])
def test_a_hundred_swaps_lose_nothing(node: FastNode, version: int, other_build: Find) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    exchange(node.far, one.netns, one.address(version))
    bulk = threading.Thread(target=transfer, args=(node.far, one.netns, one.address(version)))
    tags = set()
    with Flood(one.netns, other.netns, other.address(version)) as flood:
        bulk.start()
        with node.counting("fast_local") as grown:
            for turn in range(SWAPS):
                fast = node.reopen(other_build if turn % 2 else None)
                tags.add(tuple(program.tag for program in fast.programs()))
        bulk.join()
        sent, rate, lost = flood.stop()
    assert len(tags) == 2, "the builds differ"
    assert lost == 0, f"of {sent} at {rate:.0f} per second"
    assert rate > 0.6 * RATE or SLOWER > 1
    assert grown["forwarded"] == 0
    assert grown["fast_local"] > 0


_HOLDER = """
import os, sys, time
from pathlib import Path
from datapath.acceleration.load import Options
from datapath.acceleration.path import FastPath
options = Options(conntrack=sys.argv[5] == "True")
fast = FastPath.open(Path(sys.argv[1]), netns=int(sys.argv[2]), options=options)
fast.attach_pod(int(sys.argv[3]))
fast.attach_eni(int(sys.argv[4]))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_killed_loader_is_not_missed(node: FastNode) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    node.fast.close()
    arguments = [str(node.pins), str(node.world.node)]
    arguments += [str(one.applied.host_ifindex), str(node.enis["eni1"]), str(node.conntrack)]
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        pass_fds=[node.world.node],
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with Flood(one.netns, other.netns, other.address(4)) as flood:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            exchange(one.netns, node.far, FAR)
            node.open()
            sent, _, lost = flood.stop()
    assert lost == 0, f"of {sent}"
    with node.counting("fast_local", "fast_eni", "fast_pod") as grown:
        exchange(one.netns, other.netns, other.address(4))
        exchange(one.netns, node.far, FAR)
    assert grown == {"fast_local": 2, "fast_eni": 1, "fast_pod": 1, "forwarded": 0}


@pytest.mark.parametrize("tcx", [True, False], ids=["tcx", "clsact"])
def test_enis_either_way(node: FastNode, tcx: bool, other_build: Find) -> None:
    for index in node.enis.values():
        node.fast.detach_eni(index)
    node.fast.close()
    fast = node.open(options=Options(tcx=tcx))
    for _ in range(2):
        for index in node.enis.values():
            fast.attach_eni(index)
    ways = {fast.attached()[index] for index in node.enis.values()}
    assert ways == {ENI_HOOK if tcx else "clsact"}
    pod = node.pod(ENI1)
    for find in (other_build, None):
        node.fast.close()
        options = Options(tcx=tcx)
        node.open(options=options if find is None else replace(options, find=find))
        with node.counting("fast_eni", "fast_pod") as grown:
            exchange(pod.netns, node.far, FAR)
        assert grown == {"fast_eni": 1, "fast_pod": 1, "forwarded": 0}


def test_a_veth_with_anothers_clsact_gets_filters_of_its_own(node: FastNode, other_build: Find) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    index = one.applied.host_ifindex
    node.fast.detach_pod(index)
    with Socket(node.world.node) as netlink:
        netlink.one(tc.add_clsact(index))
    for _ in range(2):
        node.fast.attach_pod(index)
    assert node.fast.attached()[index] == "clsact"
    assert node.fast.attached()[other.applied.host_ifindex] == "block"
    for find in (None, other_build):
        node.reopen(find)
        with node.counting("fast_local") as grown:
            exchange(one.netns, other.netns, other.address(4))
        assert grown == {"fast_local": 2, "forwarded": 0}
    with Socket(node.world.node) as netlink:
        programs = {side: tc.program_at(netlink, Place.device(index, side)) for side in Side}
    ids = {program.name: program.id for program in node.fast.programs()}
    assert programs == {Side.INGRESS: ids["pod_egress"], Side.EGRESS: ids["pod_ingress"]}
    node.fast.detach_pod(index)
    assert index not in node.fast.attached()


def test_removed_is_as_if_it_had_never_been(node: FastNode) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    exchange(one.netns, other.netns, other.address(4))
    node.fast.detach_pod(one.applied.host_ifindex)
    node.fast.detach_pod(one.applied.host_ifindex)
    node.fast.drop_endpoint(one.applied.host_ifindex)
    node.fast.drop_endpoint(one.applied.host_ifindex)
    assert one.applied.host_ifindex not in node.fast.attached()
    with node.counting("fast_local") as grown:
        exchange(one.netns, other.netns, other.address(4))
    assert grown["forwarded"] == 2
    node.fast.remove()
    with Socket(node.world.node) as netlink:
        left = tc.list_clsact(netlink)
        places = [Place.device(index, side) for index in left for side in Side]
        assert [tc.program_at(netlink, place) for place in places] == [None] * len(places)
    # Without tcx the ENIs keep an empty clsact: it may be somebody else's.
    assert left.keys() == (set() if ENI_HOOK == "tcx" else set(node.enis.values()))
    assert not list(node.pins.iterdir())
    assert node.fast.attached() == {}
    exchange(one.netns, other.netns, other.address(6))
    node.reopen()
    assert not node.fast.is_on()


def test_a_pod_that_comes_back_counts_from_zero(node: FastNode) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    exchange(one.netns, other.netns, other.address(4))
    index = one.applied.host_ifindex
    assert node.fast.endpoint_counters()[index].fast_out_packets == 1
    node.put(one)
    assert node.fast.endpoint_counters()[index].fast_out_packets == 1, "known already"
    node.fast.drop_endpoint(index)
    node.put(one)
    assert node.fast.endpoint_counters()[index].fast_out_packets == 0


def test_an_address_that_moved_on_stays_with_its_new_pod(node: FastNode) -> None:
    one, other = node.pod(ENI1), node.pod(ENI1)
    heir = replace(one, applied=other.applied)
    node.fast.drop_endpoint(other.applied.host_ifindex)
    node.put(heir)
    assert one.applied.host_ifindex not in node.fast.endpoints(), "its link went with its namespace, untold"
    node.fast.drop_endpoint(one.applied.host_ifindex)
    assert node.fast.endpoints()[other.applied.host_ifindex].addresses == one.endpoint.addresses()
    assert {tuple(row["host_ifindex"] for _, row in node.fast.rows("endpoints"))} == {
        (other.applied.host_ifindex,) * 2
    }


def test_trace_tells_of_live_packets(node: FastNode) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    with node.fast.trace(one.address(4)) as trace:
        exchange(one.netns, other.netns, other.address(4))
        exchange(other.netns, node.far, FAR)  # not asked for
        exchange(one.netns, node.far, FAR)
        found: list[TraceEvent] = []
        while len(found) < 4 and (more := trace.read(patience(2.0))):
            # Links' own multicasts, whose addresses the programs do not come to, are told as well.
            found += [e for e in more if one.address(4) in (e.source, e.destination)]
    seen = [(event.hook, event.verdict, event.reason) for event in found]
    local, away = ("pod_egress", "peer", "fast_local"), ("pod_egress", "eni", "fast_eni")
    assert seen == [local, local, away, ("eni_ingress", "peer", "fast_pod")]
    assert (found[0].source, found[0].destination) == (one.address(4), other.address(4))
    assert (found[0].protocol, found[0].ifindex) == (socket.IPPROTO_UDP, one.applied.host_ifindex)
    assert found[0].target == other.applied.host_ifindex
    assert found[0].source_port == found[1].destination_port
    exchange(one.netns, other.netns, other.address(4))
    with node.fast.trace() as trace:
        assert trace.read(0.0) == [], "nothing is told unless somebody asks"


def test_what_is_pinned_is_what_is_told(node: FastNode) -> None:
    node.pod(ENI1)
    maps = {each.name: each for each in node.fast.maps()}
    assert maps["endpoints"].entries == 2
    assert maps["pods"].entries == 1
    assert maps["stack_prefixes"].entries == 2
    assert all(each.path.exists() for each in maps.values())
    assert len(node.fast.uplinks()) == 2


def test_prefixes_are_exactly_the_last_ones(node: FastNode) -> None:
    pod = node.pod(ENI1)
    with node.counting("stack_node") as grown:
        exchange(pod.netns, node.world.node, HOST)
    assert grown["stack_node"] == 1
    node.fast.set_stack_prefixes(node=(HOST_V6,))
    assert len(node.fast.rows("stack_prefixes")) == 1
    node.fast.set_stack_prefixes(node=(HOST, HOST_V6))


def test_prefixes_hold_for_pods_of_the_node_too(node: FastNode) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)

    def reasons(version: int) -> tuple[int, int]:
        with node.counting("fast_local", "stack_host_cidr") as grown:
            exchange(one.netns, other.netns, other.address(version))
        return grown["fast_local"], grown["stack_host_cidr"]

    assert reasons(4) == (2, 0)
    node.fast.set_stack_prefixes(host_cidrs=[ip_network("10.0.0.0/16")], node=(HOST, HOST_V6))
    assert reasons(4) == (0, 2)
    assert reasons(6) == (2, 0)
    node.put(other)
    assert reasons(4) == (0, 2)
    node.fast.set_stack_prefixes(host_cidrs=[ip_network("::/0")], node=(HOST, HOST_V6))
    assert reasons(4) == (2, 0), "IPv4 is not in an IPv6 prefix"
    assert reasons(6) == (0, 2)
    node.fast.set_stack_prefixes(node=(HOST, HOST_V6))
    assert reasons(4) == reasons(6) == (2, 0)


def test_no_bpf_file_system_is_said_and_not_died_of(node: FastNode, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="pin"):
        open_fast_path(tmp_path / "plain", netns=node.world.node)
    missing = Options(find=lambda name: tmp_path / name)
    with pytest.raises(Unavailable):
        FastPath.open(node.pins, netns=node.world.node, options=missing)
    assert node.fast.is_on(), "what was there goes on"
    assert os.listdir(node.pins)

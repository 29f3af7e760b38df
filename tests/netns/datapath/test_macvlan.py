"""The second mode: pods without a link on the host, beside PolicyRoute's, on one node."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datapath import namespace
from datapath.endpoint import AppliedSlave, Endpoint, Presence
from datapath.errors import AddressTaken, KernelError, NameTaken
from datapath.netlink import link
from datapath.netlink.wire import Request
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.own_eni import OwnPod, alias, another, links, macvlan_pod, own, presence
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import (
    ENI1,
    ENI2,
    HOST,
    HOST_V6,
    OUTSIDE,
    OUTSIDE_V6,
    Address,
    World,
    eni_link,
    policy_route,
    shared,
    witness,
)
from tests.netns.fastpath.node import until

VERSIONS = (4, 6)


def address(endpoint: Endpoint, version: int) -> Address:
    found = endpoint.ipv4 if version == 4 else endpoint.ipv6
    assert found is not None
    return found


@pytest.fixture
def pod(world: World, mode: NodeDatapath, tmp_path: Path) -> OwnPod:
    made = macvlan_pod(world, tmp_path)
    mode.setup(made.endpoint, made.netns)
    return made


# Packets


@pytest.mark.parametrize("version", VERSIONS)
def test_reaches_everybody_and_is_reached(
    world: World, mode: NodeDatapath, pod: OwnPod, version: int
) -> None:
    """A pod of the other mode, the node, and the world beyond; by its own ENI alone."""
    beside, netns = world.endpoint(ENI1), world.namespace()
    mode.setup(beside, netns)
    mine, other = address(pod.endpoint, version), address(beside, version)
    outside, host = (OUTSIDE, HOST) if version == 4 else (OUTSIDE_V6, HOST_V6)
    before = world.received_by_router()
    for _ in range(10):
        assert exchange(pod.netns, world.router, outside) == str(mine)
    assert world.received_by_router()["port2"] - before["port2"] >= 10
    exchange(world.router, pod.netns, mine)
    assert exchange(pod.netns, netns, other, size=1400) == str(mine)
    assert exchange(netns, pod.netns, mine) == str(other)
    assert exchange(world.node, pod.netns, mine) == str(host)
    assert exchange(pod.netns, world.node, host) == str(mine)


def test_has_the_macs_that_the_vpc_accepts_and_no_link_on_the_host(
    world: World, mode: NodeDatapath, tmp_path: Path
) -> None:
    before = set(links(world.node))
    made = macvlan_pod(world, tmp_path)
    applied = mode.setup(made.endpoint, made.netns)
    assert isinstance(applied, AppliedSlave)
    assert applied.pod_mac == ENI2.mac == links(made.netns)["eth0"].get("address")
    assert set(links(world.node)) == before


# Verbs


def test_twice_is_once_and_all_of_it_goes(world: World, mode: NodeDatapath, tmp_path: Path) -> None:
    before = world.snapshot(world.node)
    made = macvlan_pod(world, tmp_path)
    first = mode.setup(made.endpoint, made.netns)
    assert mode.setup(made.endpoint, made.netns) == first
    assert mode.check(made.endpoint, made.netns) == ()
    mode.teardown(made.endpoint, made.netns)
    mode.teardown(made.endpoint, made.netns)
    mode.flush()
    assert "eth0" not in links(made.netns)
    assert world.snapshot(world.node) == before
    assert alias(world) == ""


@pytest.mark.parametrize("told", [True, False], ids=["path", "neither"])
def test_teardown_without_a_namespace(world: World, mode: NodeDatapath, tmp_path: Path, told: bool) -> None:
    """By the path in the record; or by the one on the ENI, when the record has none."""
    made = macvlan_pod(world, tmp_path)
    mode.setup(made.endpoint, made.netns)
    mode.teardown(another(made, netns=made.endpoint.netns if told else ""), None)
    assert "eth0" not in links(made.netns)
    assert presence(mode, made) is Presence.GONE


def test_teardown_that_gets_at_nothing_says_so_and_frees_nothing(
    world: World, mode: NodeDatapath, pod: OwnPod
) -> None:
    pod.path.unlink()
    with pytest.raises(KernelError, match="do not get at"):
        mode.teardown(pod.endpoint, None)
    assert alias(world)
    exchange(world.router, pod.netns, address(pod.endpoint, 4))
    mode.teardown(pod.endpoint, pod.netns)
    assert alias(world) == ""


def test_late_teardown_of_an_old_sandbox_finds_nothing(mode: NodeDatapath, pod: OwnPod) -> None:
    mode.teardown(another(pod, container_id="old"), pod.netns)
    mode.teardown(another(pod, container_id="old"), None)
    assert mode.check(pod.endpoint, pod.netns) == ()


def test_the_eni_is_shared_again(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    mode.teardown(pod.endpoint, pod.netns)
    other, netns = world.endpoint(ENI2), world.namespace()
    mode.setup(other, netns)
    assert mode.check(other, netns) == ()
    assert exchange(netns, world.router, OUTSIDE) == str(other.ipv4)


def test_nobody_shares_an_eni_that_a_pod_has(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    with pytest.raises(KernelError, match="for itself"):
        mode.setup(world.endpoint(ENI2), world.namespace())
    assert mode.check(pod.endpoint, pod.netns) == ()


def test_no_second_pod_has_it(world: World, mode: NodeDatapath, pod: OwnPod, tmp_path: Path) -> None:
    second = macvlan_pod(world, tmp_path)
    with pytest.raises(AddressTaken, match="for itself"):
        mode.setup(second.endpoint, second.netns)
    mode.flush()
    assert set(links(second.netns)) == {"lo"}
    assert mode.check(pod.endpoint, pod.netns) == ()


def test_no_pod_has_an_eni_that_others_share(world: World, mode: NodeDatapath, tmp_path: Path) -> None:
    sharing, netns = world.endpoint(ENI2), world.namespace()
    mode.setup(sharing, netns)
    made = macvlan_pod(world, tmp_path)
    with pytest.raises(AddressTaken, match="share"):
        mode.setup(made.endpoint, made.netns)
    assert mode.check(sharing, netns) == ()


def test_failed_setup_leaves_nothing(world: World, mode: NodeDatapath, tmp_path: Path) -> None:
    made = macvlan_pod(world, tmp_path)
    with witness(made.netns) as reader:
        reader.link("add", ifname="eth0", kind="veth", peer={"ifname": "other"})
    before, inside = world.snapshot(world.node), world.snapshot(made.netns)
    with pytest.raises(NameTaken):
        mode.setup(made.endpoint, made.netns)
    mode.flush()
    assert (world.snapshot(world.node), world.snapshot(made.netns)) == (before, inside)
    assert alias(world) == ""


def test_a_slave_that_the_kernel_refuses(world: World, mode: NodeDatapath, tmp_path: Path) -> None:
    """The pod's MTU is above what its ENI has: the kernel refuses the slave, after the mark is written."""
    eni = replace(eni_link(ENI2), mtu=1400)
    made = macvlan_pod(world, tmp_path, uplink=replace(own(), eni=eni))
    before = world.snapshot(world.node)
    with pytest.raises(KernelError):
        mode.setup(made.endpoint, made.netns)
    mode.flush()
    assert set(links(made.netns)) == {"lo"}
    assert world.snapshot(world.node) == before
    assert alias(world) == ""


def test_setup_that_fails_in_the_pod_leaves_nothing(world: World, mode: NodeDatapath, tmp_path: Path) -> None:
    """The kernel takes no route by a gateway that is an address of the pod itself."""
    made = macvlan_pod(world, tmp_path)
    assert made.endpoint.ipv4 is not None
    eni = replace(eni_link(ENI2), gateway=made.endpoint.ipv4)
    before = world.snapshot(world.node)
    with pytest.raises(KernelError):
        mode.setup(replace(made.endpoint, uplink=replace(own(), eni=eni)), made.netns)
    mode.flush()
    assert set(links(made.netns)) == {"lo"}
    assert world.snapshot(world.node) == before
    assert alias(world) == ""


def test_a_shared_uplink_is_refused(world: World, mode: NodeDatapath, tmp_path: Path) -> None:
    made = macvlan_pod(world, tmp_path, uplink=shared(eni_link(ENI2)))
    with pytest.raises(KernelError, match="no use for a SharedEni"):
        mode.setup(made.endpoint, made.netns)


# CHECK and repair


Hand = Callable[[World, OwnPod], None]


def _inside(**more: object) -> Hand:
    return lambda _world, pod: _set(pod.netns, "eth0", more)


def _eni(**more: object) -> Hand:
    return lambda world, _pod: _set(world.node, "eni2", more)


def _set(netns: int, name: str, more: dict[str, object]) -> None:
    with witness(netns) as reader:
        reader.link("set", index=reader.link_lookup(ifname=name)[0], **more)


MENDED = {
    "ENI down": _eni(state="down"),
    "ENI's MTU": _eni(mtu=1400),
    "mark removed": _eni(IFLA_IFALIAS=""),
    "mark overwritten": _eni(IFLA_IFALIAS="lab port 2"),
    "MAC set by the pod": _inside(address="02:00:00:00:00:99"),
}


@pytest.mark.parametrize("hand", MENDED.values(), ids=MENDED.keys())
def test_check_sees_and_repair_mends(world: World, mode: NodeDatapath, pod: OwnPod, hand: Hand) -> None:
    hand(world, pod)
    assert mode.check(pod.endpoint, pod.netns) != ()
    assert mode.repair([pod.endpoint]) != ()
    mode.flush()
    assert presence(mode, pod) is Presence.THERE
    if hand is not MENDED["ENI down"] and hand is not MENDED["ENI's MTU"]:
        assert mode.check(pod.endpoint, pod.netns) == ()
        exchange(world.router, pod.netns, address(pod.endpoint, 4))
    assert mode.repair([pod.endpoint]) == ()


SEEN = {
    "link down": _inside(state="down"),
    "link renamed": _inside(ifname="mine"),
    "MTU": _inside(mtu=1300),
}


@pytest.mark.parametrize("name", ["link down", "link renamed", "MTU"])
def test_check_sees_what_the_pod_has_done(world: World, mode: NodeDatapath, pod: OwnPod, name: str) -> None:
    if name == "link renamed":
        SEEN["link down"](world, pod)
    SEEN[name](world, pod)
    assert mode.check(pod.endpoint, pod.netns) != ()
    assert presence(mode, pod) is Presence.THERE


def test_check_sees_addresses_and_routes(mode: NodeDatapath, pod: OwnPod) -> None:
    with witness(pod.netns) as reader:
        reader.route("del", dst="0.0.0.0/0")
    (difference,) = mode.check(pod.endpoint, pod.netns)
    assert "0.0.0.0/0" in difference.what
    assert mode.check(pod.endpoint, None) == ()


def test_a_mark_whose_pod_is_gone_goes_with_a_repair(
    world: World, mode: NodeDatapath, tmp_path: Path
) -> None:
    """Or a crash between the mark and the slave, which looks the same."""
    with world.passing() as netns:
        made = macvlan_pod(world, tmp_path)
        mode.setup(replace(made.endpoint, netns=f"/proc/{os.getpid()}/fd/{netns}"), netns)
    until(lambda: presence(mode, made) is Presence.GONE, "the slave is still there")
    assert [one.what for one in mode.repair([])] == [f"mark of ENI {ENI2.mac}"]
    other, netns = world.endpoint(ENI2), world.namespace()
    mode.setup(other, netns)
    assert mode.check(other, netns) == ()


# A restart, a mode beside another, and what the kernel alone knows


def test_the_next_daemon_finds_it(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    beside, netns = world.endpoint(ENI1), world.namespace()
    mode.setup(beside, netns)
    with closing(NodeDatapath(world.node)) as restarted:
        found = {one.container_id: one for one in restarted.carriers()}
        assert found[pod.endpoint.container_id].addresses == set(pod.endpoint.addresses())
        assert found[pod.endpoint.container_id].enis == {ENI2.mac}
        assert found[pod.endpoint.container_id].is_of(*pod.key)
        assert set(found) == {pod.endpoint.container_id, beside.container_id}
        restarted.prepare((HOST, HOST_V6))
        for card in (ENI1, ENI2):
            restarted.prepare_uplink(shared(eni_link(card)))
        exchange(world.router, pod.netns, address(pod.endpoint, 4))
        assert restarted.repair([pod.endpoint, beside]) == ()
        assert restarted.check(pod.endpoint, pod.netns) == ()
        assert restarted.check(beside, netns) == ()
        seen = restarted.live([pod.endpoint.id, beside.id])
        assert {one.presence for one in seen.values()} == {Presence.THERE}
        with pytest.raises(KernelError, match="for itself"):
            restarted.setup(world.endpoint(ENI2), world.namespace())
        restarted.teardown(pod.endpoint, None)
        shares = world.endpoint(ENI2)
        restarted.setup(shares, world.namespace())
        restarted.flush()


def test_without_a_record_it_is_held_until_taken_down(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    assert mode.repair([]) == ()
    (carrier,) = mode.carriers()
    assert set(mode.take_down(carrier.id)) == set(pod.endpoint.addresses())
    assert mode.carriers() == ()
    assert "eth0" not in links(pod.netns)
    other = world.endpoint(ENI2)
    mode.setup(other, world.namespace())


def test_modes_are_repaired_apart(
    world: World, mode: NodeDatapath, pod: OwnPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mode that fails keeps no other from being mended."""

    def fails(_endpoints: object) -> Iterator[None]:
        yield
        raise KernelError("list links")

    MENDED["mark removed"](world, pod)
    with monkeypatch.context() as broken:
        broken.setattr(policy_route(mode), "repairing", fails)
        with pytest.raises(KernelError, match="list links"):
            mode.repair([pod.endpoint])
    assert mode.check(pod.endpoint, pod.netns) == ()
    assert [one.what for one in mode.repair([pod.endpoint])] == [f"mark of ENI {ENI2.mac}"], (
        "it is told later"
    )
    assert mode.repair([pod.endpoint]) == ()


def test_a_mark_that_cannot_be_taken_off_keeps_no_other(
    world: World, mode: NodeDatapath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for card in (ENI1, ENI2):
        with world.passing() as netns:
            made = macvlan_pod(world, tmp_path, card)
            mode.setup(replace(made.endpoint, netns=f"/proc/{os.getpid()}/fd/{netns}"), netns)
        until(lambda made=made: presence(mode, made) is Presence.GONE, "the slave is still there")  # type: ignore[misc]
    with witness(world.node) as reader:
        (first,) = reader.link_lookup(ifname="eni1")
    change = link.change

    def refuse(index: int, **how: Any) -> Request:
        request = change(index, **how)
        return replace(request, body=bytes(3)) if index == first else request

    with monkeypatch.context() as broken:
        broken.setattr(link, "change", refuse)
        assert f"mark of ENI {ENI2.mac}" in [one.what for one in mode.repair([])]
    assert f"mark of ENI {ENI1.mac}" in [one.what for one in mode.repair([])]


def test_eni_that_is_gone(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    with witness(world.node) as reader:
        reader.link("del", index=reader.link_lookup(ifname="eni2")[0])
    assert [one.found for one in mode.check(pod.endpoint, pod.netns)] == ["absent"]
    assert presence(mode, pod) is Presence.GONE
    assert mode.carriers() == ()
    mode.teardown(pod.endpoint, pod.netns)
    mode.teardown(pod.endpoint, None)
    with pytest.raises(KernelError, match="was the ENI detached"):
        mode.setup(pod.endpoint, pod.netns)


def test_identity_of_the_test_pod(pod: OwnPod) -> None:
    """The path leads to the pod's namespace: what the other tests lean on."""
    fd = namespace.open_path(str(pod.path))
    assert namespace.identity(fd) == namespace.identity(pod.netns)
    os.close(fd)


def test_a_crash_between_the_mark_and_the_slave(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    """The mark alone holds nothing: the next daemon shares the ENI again, or another pod has it."""
    words = alias(world)
    mode.teardown(pod.endpoint, pod.netns)
    with witness(world.node) as reader:
        reader.link("set", index=reader.link_lookup(ifname="eni2")[0], IFLA_IFALIAS=words)
    with closing(NodeDatapath(world.node)) as restarted:
        assert presence(restarted, pod) is Presence.GONE
        assert restarted.carriers() == ()
        restarted.prepare((HOST, HOST_V6))
        restarted.prepare_uplink(shared(eni_link(ENI2)))
        restarted.teardown(pod.endpoint, None)
        assert alias(world) == ""
        restarted.setup(world.endpoint(ENI2), world.namespace())
        restarted.flush()


def test_an_eni_that_was_plugged_anew_has_no_pod(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    """Same MAC, another device: the slave died with the old one, and says so until the pod is made anew."""
    with witness(world.node) as reader:
        reader.link("del", index=reader.link_lookup(ifname="eni2")[0])
        peer = {"ifname": "port2", "net_ns_fd": world.router}
        reader.link("add", ifname="eni2", kind="veth", address=ENI2.mac, peer=peer)
    with witness(world.router) as reader:
        reader.link("set", index=reader.link_lookup(ifname="port2")[0], state="up")
    assert presence(mode, pod) is Presence.GONE
    assert mode.check(pod.endpoint, pod.netns) != ()
    mode.setup(pod.endpoint, pod.netns)
    assert mode.check(pod.endpoint, pod.netns) == ()
    assert presence(mode, pod) is Presence.THERE


def test_an_alias_that_an_operator_gives_shares_no_pods_eni(
    world: World, mode: NodeDatapath, pod: OwnPod
) -> None:
    """A .link file of udev's gives aliases too. Meanwhile the ENI is looked at, as every minute."""
    before = world.snapshot(world.node)
    with witness(world.node) as reader:
        (index,) = reader.link_lookup(ifname=ENI2.name)
        reader.link("set", index=index, ifalias="uplink to production")
    mode.prepare_uplink(shared(eni_link(ENI2)))
    assert f"mark of ENI {ENI2.mac}" in [one.what for one in mode.repair([pod.endpoint])]
    assert world.snapshot(world.node) == before
    assert alias(world).endswith(" // uplink to production"), "and what the operator wrote stays"
    assert mode.repair([pod.endpoint]) == ()
    assert mode.check(pod.endpoint, pod.netns) == ()
    mode.teardown(pod.endpoint, pod.netns)
    assert alias(world) == "uplink to production"
    beside, netns = world.endpoint(ENI2), world.namespace()
    mode.setup(beside, netns)
    exchange(world.router, netns, address(beside, 4))


@pytest.mark.parametrize("text", ["rack 7, port 2", "terway-own of nobody", "x" * 250])
def test_an_alias_that_was_there_before_is_kept_or_refused_by_name(
    world: World, mode: NodeDatapath, tmp_path: Path, text: str
) -> None:
    """What begins as a mark and is none is the rest of one of ours."""
    with witness(world.node) as reader:
        (index,) = reader.link_lookup(ifname=ENI2.name)
        reader.link("set", index=index, ifalias=text)
    made = macvlan_pod(world, tmp_path)
    if len(text) == 250:
        with pytest.raises(KernelError, match=f"{text}.*ip link set {ENI2.name} alias"):
            mode.setup(made.endpoint, made.netns)
        assert alias(world) == text
        assert "eth0" not in links(made.netns)
        return
    mode.setup(made.endpoint, made.netns)
    assert presence(mode, made) is Presence.THERE
    mode.setup(made.endpoint, made.netns)
    mode.teardown(made.endpoint, None)
    assert alias(world) == ("" if text.startswith("terway-own") else text)


@pytest.mark.parametrize("restarted", [False, True], ids=["runs", "restarted"])
def test_a_pod_that_takes_the_mac_of_another_eni_takes_nothing_of_it(
    world: World, mode: NodeDatapath, tmp_path: Path, restarted: bool
) -> None:
    """A slave's MAC is its ENI's: root in the pod sets both. That ENI's link comes first in the list."""
    thief = macvlan_pod(world, tmp_path, ENI1)
    mode.setup(thief.endpoint, thief.netns)
    beside, netns = world.endpoint(ENI2), world.namespace()
    mode.setup(beside, netns)
    before = world.snapshot(world.node)
    with witness(thief.netns) as reader:
        (index,) = reader.link_lookup(ifname="eth0")
        reader.link("set", index=index, address=ENI2.mac)
    assert links(world.node)[ENI1.name].get("address") == ENI2.mac
    with closing(NodeDatapath(world.node)) as other:
        told = other if restarted else mode
        if restarted:
            told.prepare((HOST, HOST_V6))
        for card in (ENI1, ENI2):
            told.prepare_uplink(shared(eni_link(card)))
        assert world.snapshot(world.node) == before
        told.repair([thief.endpoint, beside])
        assert world.snapshot(world.node) == before
        exchange(world.router, netns, address(beside, 4))

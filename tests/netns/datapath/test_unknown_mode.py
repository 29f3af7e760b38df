"""A pod that another release has set up in a mode that this one has not: it runs on, and can be taken down.

Its objects are made here as PolicyRoute makes them, or by hand; the word on the endpoint is another's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from datapath.endpoint import Endpoint, EndpointId, Presence
from datapath.errors import KernelError
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.own_eni import links
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, OUTSIDE, World, witness

FUTURE = "from-the-future"


@dataclass(frozen=True, slots=True)
class Strange:
    endpoint: Endpoint
    netns: int
    path: Path

    @property
    def id(self) -> EndpointId:
        return self.endpoint.id


@pytest.fixture
def before(world: World, mode: NodeDatapath) -> dict[str, set[str]]:
    del mode
    return world.snapshot(world.node)


@pytest.fixture
def strange(world: World, mode: NodeDatapath, before: dict[str, set[str]], tmp_path: Path) -> Strange:
    """By a pair, whose rules and routes have priorities and tables of a later release as well."""
    del before
    netns = world.namespace()
    path = tmp_path / "netns"
    path.symlink_to(f"/proc/{os.getpid()}/fd/{netns}")
    known = world.endpoint(ENI1, netns=str(path))
    mode.setup(known, netns)
    with witness(world.node) as reader:
        address = str(known.ipv4)
        reader.rule("add", src=address, src_len=32, priority=777, table=777)
        reader.rule("add", dst=address, dst_len=32, priority=778, table=777)
        reader.route("add", dst=f"{address}/32", type="blackhole", table=777)
        (eni,) = reader.link_lookup(ifname="eni1")
        reader.neigh("add", dst=address, lladdr="02:00:00:00:00:09", ifindex=eni, state="permanent")
    return Strange(replace(known, mode=FUTURE), netns, path)


def presence(mode: NodeDatapath, who: EndpointId) -> Presence:
    return mode.live([who])[who.key].presence


@contextmanager
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        yield caplog


def test_it_runs_on_and_is_told(world: World, mode: NodeDatapath, strange: Strange) -> None:
    there = world.snapshot(world.node)
    assert presence(mode, strange.id) is Presence.THERE
    (difference,) = mode.check(strange.endpoint, strange.netns)
    assert FUTURE in difference.found
    assert "policy_route" in difference.found
    mode.repair([strange.endpoint])
    assert world.snapshot(world.node)["links"] == there["links"]
    with pytest.raises(KernelError, match=FUTURE):
        mode.setup(strange.endpoint, strange.netns)
    assert exchange(strange.netns, world.router, OUTSIDE) == str(strange.endpoint.ipv4)


@pytest.mark.parametrize("descriptor", [True, False])
def test_all_of_it_goes_and_what_was_not_looked_at_is_told(
    world: World,
    mode: NodeDatapath,
    before: dict[str, set[str]],
    strange: Strange,
    caplog: pytest.LogCaptureFixture,
    descriptor: bool,
) -> None:
    with told(caplog):
        gone = mode.take_down(strange.id, strange.netns if descriptor else None)
    assert gone == strange.endpoint.addresses()
    assert (str(strange.path) in caplog.text) is not descriptor
    mode.flush()
    assert world.snapshot(world.node) == before
    assert mode.take_down(strange.id) == gone, "twice is once"
    # Another pod has the address at once.
    other = replace(world.endpoint(ENI1), ipv4=strange.endpoint.ipv4, ipv6=strange.endpoint.ipv6)
    netns = world.namespace()
    mode.setup(other, netns)
    assert exchange(netns, world.router, OUTSIDE) == str(other.ipv4)


@pytest.mark.parametrize("change", [{"ifname": "renamed0"}, {"ifalias": "of nobody"}, {"address": "02::"}])
def test_found_by_what_a_hand_has_left(
    world: World,
    mode: NodeDatapath,
    before: dict[str, set[str]],
    strange: Strange,
    change: dict[str, str],
) -> None:
    """Each of name, alias and MAC is enough, but the name alone of what another has signed."""
    values = {key: "02:00:00:00:00:66" if key == "address" else value for key, value in change.items()}
    with witness(world.node) as reader:
        (index,) = reader.link_lookup(ifname=strange.endpoint.host_link)
        reader.link("set", index=index, state="down")
        reader.link("set", index=index, **values)
    mode.take_down(strange.id)
    mode.flush()
    left = world.snapshot(world.node)
    if "ifname" not in change:
        assert left == before
    else:  # what is not named as a pod's link may be anything: left, with nothing that leads to it
        assert left["links"] - before["links"] == {"renamed0"}
        assert {one for one in left["rules"] if str(strange.endpoint.ipv4) in one} == set()


def test_another_sandbox_is_left_alone(world: World, mode: NodeDatapath) -> None:
    """The late DEL of an earlier sandbox of the pod, whose link has the name."""
    now, netns = world.endpoint(ENI1), world.namespace()
    mode.setup(now, netns)
    there = world.snapshot(world.node)
    late = replace(now, container_id="a" * 64, mode=FUTURE, ipv4=None, ipv6=None)
    assert presence(mode, replace(late.id, netns="/run/no/such/path")) is not Presence.THERE
    mode.take_down(late.id)
    mode.flush()
    assert world.snapshot(world.node) == there
    assert exchange(netns, world.router, OUTSIDE) == str(now.ipv4)


def test_an_eni_is_no_pods_link(
    world: World, mode: NodeDatapath, strange: Strange, caplog: pytest.LogCaptureFixture
) -> None:
    """A later release may sign an ENI with its pod, as macvlan does."""
    with witness(world.node) as reader:
        (index,) = reader.link_lookup(ifname="eni2")
        reader.link("set", index=index, ifalias=f"mine {strange.endpoint.container_id} eth0")
    with told(caplog):
        mode.take_down(strange.id)
    mode.flush()
    assert "eni2" in links(world.node)
    assert links(world.node)["eni2"]["state"] == "up"
    assert "link eni2" in caplog.text


@pytest.mark.parametrize("kind", ["macvlan", "dummy"])
def test_what_borrows_a_link_of_the_node_goes_from_the_pod(
    world: World, mode: NodeDatapath, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """By the DEL's own descriptor; a device that might be an ENI is left to the namespace's end, and told."""
    netns = world.namespace()
    with witness(world.node) as reader:
        (lower,) = reader.link_lookup(ifname="eni2")
        more = {"link": lower, "macvlan_mode": "bridge"} if kind == "macvlan" else {"peer": "beyond"}
        reader.link("add", ifname="slave", kind="veth" if kind == "dummy" else kind, **more)
        (index,) = reader.link_lookup(ifname="slave")
        reader.link("set", index=index, net_ns_fd=netns)
    with witness(netns) as reader:
        (index,) = reader.link_lookup(ifname="slave")
        reader.link("set", index=index, ifname="eth0")
    path = tmp_path / "netns"
    path.symlink_to(f"/proc/{os.getpid()}/fd/{netns}")
    pod = world.endpoint(ENI1, mode=FUTURE, host_link="", netns=str(path))
    mode.take_down(pod.id)
    assert "eth0" in links(netns), "a path may be another pod's by now"
    with told(caplog):
        mode.take_down(pod.id, netns)
    assert ("eth0" in links(netns)) is (kind == "dummy")
    assert ("link eth0 (veth)" in caplog.text) is (kind == "dummy")


def test_gone_only_when_nothing_is_left_to_look_at(
    world: World, mode: NodeDatapath, strange: Strange
) -> None:
    with witness(world.node) as reader:
        reader.link("del", ifname=strange.endpoint.host_link)
    assert presence(mode, strange.id) is Presence.UNKNOWN, "its namespace is there"
    strange.path.unlink()
    assert presence(mode, strange.id) is Presence.GONE
    assert presence(mode, replace(strange.id, netns="")) is Presence.UNKNOWN
    assert presence(mode, replace(strange.id, netns="/no/such/mount/x")) is Presence.UNKNOWN

"""Observation and repair against a kernel that others have meddled with."""

from __future__ import annotations

import subprocess
from contextlib import closing
from dataclasses import dataclass, replace

import pytest

from datapath import namespace, sysctl
from datapath.acceleration.shortcut import NoShortcut, Now, Present
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import Endpoint, EndpointId, EndpointKey
from datapath.errors import KernelError
from datapath.modes.port import Reaction
from datapath.node_datapath import NodeDatapath
from datapath.pausing import Pausing
from datapath.pod import reaper
from datapath.pod.names import host_mac
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import (
    ENI1,
    ENI2,
    HOST,
    HOST_V6,
    OUTSIDE,
    OUTSIDE_V6,
    World,
    eni_link,
    policy_route,
    shared,
    witness,
)


def running(world: World, mode: NodeDatapath) -> tuple[Endpoint, int]:
    endpoint, pod = world.endpoint(ENI1), world.namespace()
    mode.setup(endpoint, pod)
    return endpoint, pod


def upstream_pod(world: World, endpoint: Endpoint, pod: int) -> int:
    """A pod as upstream's CNI leaves it: no alias, routes in main, two rules. The host link's index."""
    with witness(world.node) as reader:
        reader.link("add", ifname=endpoint.host_link, kind="veth", peer={"ifname": "eth0", "net_ns_fd": pod})
        (index,) = reader.link_lookup(ifname=endpoint.host_link)
        reader.link("set", index=index, state="up")
        (link,) = reader.get_links(index)
        (eni,) = reader.link_lookup(ifname="eni1")
    with witness(pod) as reader:
        (eth0,) = reader.link_lookup(ifname="eth0")
        reader.link("set", index=eth0, state="up")
        reader.addr("add", index=eth0, address=str(endpoint.ipv4), prefixlen=32)
        mac = link.get("address")
        reader.neigh("add", dst="169.254.1.1", lladdr=mac, ifindex=eth0, state="permanent")
        reader.route("add", dst="0.0.0.0/0", gateway="169.254.1.1", oif=eth0, flags=["onlink"])
    with witness(world.node) as reader:
        reader.route("add", dst=f"{endpoint.ipv4}/32", oif=index, scope=253)
        reader.rule("add", priority=512, dst=f"{endpoint.ipv4}/32", table=254)
        reader.rule("add", priority=2048, src=f"{endpoint.ipv4}/32", table=1000 + eni)
    return int(index)


def test_nothing_to_do(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    before = world.snapshot(world.node)
    assert mode.repair([endpoint]) == ()
    assert world.snapshot(world.node) == before


def test_a_link_that_the_reaper_is_about_to_delete_is_not_left_behind(
    world: World, mode: NodeDatapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "LINGER", 3600.0)
    endpoint, _ = running(world, mode)
    mode.teardown(endpoint, None)
    assert policy_route(mode).observe().doomed
    assert mode.repair([]) == ()
    mode.flush()
    assert policy_route(mode).observe().doomed == ()


def test_everything_deleted_comes_back(world: World, mode: NodeDatapath) -> None:
    """What systemd-networkd does to a node, and then some."""
    endpoint, pod = running(world, mode)
    before = world.snapshot(world.node)
    with witness(world.node) as reader:
        for family in (2, 10):
            for rule in reader.get_rules(family=family):
                if rule.get("priority") in (512, 2048):
                    reader.rule("del", family=family, priority=rule.get("priority"))
        reader.flush_routes(table=512, family=2)
        reader.flush_routes(table=512, family=10)
        for name in ("eni1", "eni2"):
            (index,) = reader.link_lookup(ifname=name)
            reader.flush_routes(table=1000 + index, family=2)
            reader.flush_routes(table=1000 + index, family=10)
            reader.link("set", index=index, state="down")
        (index,) = reader.link_lookup(ifname=endpoint.host_link)
        reader.link("set", index=index, state="down")
    assert world.snapshot(world.node) != before
    done = {one.what for one in mode.repair([endpoint])}
    assert f"link {endpoint.host_link}" in done
    assert f"rule 2048: from {endpoint.ipv4}/32 lookup {1000 + index_of(world, 'eni1')}" in done
    assert "rule 512: from all lookup 512" in done
    assert mode.check(endpoint, pod) == ()
    assert mode.repair([endpoint]) == ()
    assert world.snapshot(world.node) == before
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
    assert exchange(pod, world.router, OUTSIDE_V6) == str(endpoint.ipv6)


def test_what_shuts_the_node_off_comes_back(world: World, mode: NodeDatapath) -> None:
    """The pods' gateway, the end of packets for no pod, the guard's table, and settings, each taken away."""
    endpoint, pod = running(world, mode)
    before = everything(world, endpoint)
    with witness(world.node) as reader:
        (link,) = reader.link_lookup(ifname=endpoint.host_link)
        reader.addr("del", index=1, address="169.254.1.1", prefixlen=32)
        reader.addr("del", index=link, address="fe80::1", prefixlen=128)
        for family in (2, 10):
            reader.rule("del", family=family, priority=1024, iifname="eni1", action="unreachable")
        table = 1000 + index_of(world, "eni1")
        reader.route("del", dst="240.0.0.0/4", table=table, type="unreachable")
        reader.route("del", dst="::/96", table=table, type="unreachable", family=10)
    mode.guard.remove()
    with namespace.entered(world.node):
        sysctl.write(f"net/ipv4/conf/{endpoint.host_link}/rp_filter", "0")
        sysctl.write("net/ipv4/conf/all/rp_filter", "2")
        sysctl.write("net/ipv4/conf/all/forwarding", "0")
    assert everything(world, endpoint) != before
    assert mode.check(endpoint, pod) != ()
    assert {one.what for one in mode.repair([endpoint])} >= {
        "address 169.254.1.1/32 dev lo",
        f"address fe80::1/128 dev {endpoint.host_link}",
        "rule 1024: from all iif eni1 unreachable",
        "rule 1024: from all iif eni1 unreachable (IPv6)",
        f"route unreachable 240.0.0.0/4 table {table}",
        f"route unreachable ::/96 table {table}",
        f"link {endpoint.host_link}: what its pod may do to the node",
        "nft table inet terway",
        "sysctl net/ipv4/conf/all/rp_filter",
        "sysctl net/ipv4/conf/all/forwarding",
    }
    assert mode.check(endpoint, pod) == ()
    assert mode.repair([endpoint]) == ()
    assert everything(world, endpoint) == before


def everything(world: World, endpoint: Endpoint) -> tuple[object, ...]:
    """What a snapshot leaves out: unreachable routes, rules about links, all addresses, settings, nft."""
    with witness(world.node) as reader:
        unreachable = {(one.get("dst"), one.get("table")) for one in reader.get_routes(type=7)}
        addresses = {(one["index"], one.get("address")) for one in reader.get_addr()}
        rules = [*reader.get_rules(family=2), *reader.get_rules(family=10)]
    about_links = {(one["family"], one.get("iifname")) for one in rules if one["action"] == 7}
    names = ("all/rp_filter", "all/forwarding", f"{endpoint.host_link}/rp_filter")
    with namespace.entered(world.node):
        settings = [sysctl.read(f"net/ipv4/conf/{name}") for name in names]
        table = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    return unreachable, addresses, about_links, settings, table


def test_an_eni_lets_in_what_it_does_not_answer(world: World, mode: NodeDatapath) -> None:
    """A strict filter, which systemd-udevd may set a moment after the hot-plug, would cut its pods off."""
    endpoint, pod = world.endpoint(ENI2), world.namespace()
    mode.setup(endpoint, pod)
    mode.react()

    def at_once() -> tuple[Difference, ...]:
        return mode.react().mended

    def in_a_round() -> tuple[Difference, ...]:
        return mode.repair([endpoint])

    for mend in (at_once, in_a_round):
        with namespace.entered(world.node):
            sysctl.write("net/ipv4/conf/eni2/rp_filter", "1")
        assert [one.what for one in mend()] == [f"reverse path filter and accept_local of ENI {ENI2.mac}"]
        with namespace.entered(world.node):
            assert sysctl.read("net/ipv4/conf/eni2/rp_filter") == "0"
        mode.react()
        assert exchange(world.router, pod, endpoint.addresses()[0])


def test_an_eni_that_was_renamed_is_followed(world: World, mode: NodeDatapath) -> None:
    with witness(world.node) as reader:
        index = index_of(world, "eni2")
        reader.link("set", index=index, state="down")
        reader.link("set", index=index, ifname="ens6")
        reader.link("set", index=index, state="up")
    mode.repair([])
    mode.repair([])
    assert mode.repair([]) == ()
    with witness(world.node) as reader:
        rules = [*reader.get_rules(family=2), *reader.get_rules(family=10)]
    assert {one.get("iifname") for one in rules if one["action"] == 7} == {"eni1", "ens6"}


def test_what_we_do_ourselves_is_no_news(world: World, mode: NodeDatapath) -> None:
    """ADDs and DELs, and what the kernel does on their account, bring no repair about."""
    mode.react()
    endpoint, _ = running(world, mode)
    another, _ = running(world, mode)
    assert mode.react() == Reaction()
    mode.teardown(endpoint, None)
    mode.flush()
    assert mode.react() == Reaction()
    assert mode.repair([another]) == ()
    assert mode.react() == Reaction()


@pytest.mark.parametrize("state", ["permanent", "reachable"])
def test_a_neighbour_that_somebody_alters_is_news(world: World, mode: NodeDatapath, state: str) -> None:
    """What is for the pod would go to another MAC until the next round. What the kernel learns is no news."""
    endpoint, pod = running(world, mode)
    mode.react()
    index = index_of(world, endpoint.host_link)
    assert mode.react() == Reaction()
    with witness(world.node) as reader:
        wrong = {"dst": str(endpoint.ipv4), "ifindex": index, "lladdr": "02:00:00:00:00:77"}
        reader.neigh("replace", **wrong, state=state)
    assert mode.react() == Reaction(repair=True)
    assert len(mode.repair([endpoint])) == 1
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
    assert mode.react() == Reaction()


def test_foreign_rules_about_links_stay(world: World, mode: NodeDatapath) -> None:
    with witness(world.node) as reader:
        reader.rule("add", priority=1024, iifname="docker0", table=77)
        reader.rule("add", priority=1023, iifname="docker0", action="unreachable")
        reader.rule("add", priority=1024, iifname="docker0", src="10.9.0.0/16", action="unreachable")
    before = world.snapshot(world.node)
    assert mode.repair([]) == ()
    assert world.snapshot(world.node) == before


def test_observation(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    found = policy_route(mode).observe()
    (host,) = found.links
    assert (host.name, host.alias) == (endpoint.host_link, endpoint.container_id)
    assert set(found.addresses_of(host.index)) == set(endpoint.addresses())
    assert len(found.rules) == 4
    assert found.doomed == ()
    assert len(found.neighbours) == 2


def test_foreign_objects_stay(world: World, mode: NodeDatapath) -> None:
    with witness(world.node) as reader:
        reader.rule("add", priority=512, src="10.9.9.9/32", table=254)
        reader.rule("add", priority=2048, src="10.9.0.0/16", table=1003)
        reader.rule("add", priority=2048, src="10.9.9.9/32", table=77)
        reader.rule("add", priority=2048, src="10.9.9.9/32", iifname="eth0", table=1003)
        reader.rule("add", priority=600, fwmark=16, fwmask=16, table=100)
        reader.rule("add", priority=2049, src="10.9.9.9/32", table=1003)
        (eth0,) = reader.link_lookup(ifname="eth0")
        reader.route("add", dst="10.7.7.7/32", oif=eth0, scope=253)
    before = world.snapshot(world.node)
    assert policy_route(mode).observe().upstream_routes == ()
    assert mode.repair([]) == ()
    assert world.snapshot(world.node) == before


def test_upstreams_leftovers_go(world: World, mode: NodeDatapath) -> None:
    """Rules of a pod whose link is gone."""
    before = world.snapshot(world.node)
    with witness(world.node) as reader:
        (eni,) = reader.link_lookup(ifname="eni1")
        reader.rule("add", priority=512, dst="10.0.0.222/32", table=254)
        reader.rule("add", priority=2048, src="10.0.0.222/32", table=1000 + eni)
        reader.rule("add", priority=2048, src="10.0.0.223/32", table=1999)
    done = mode.repair([])
    assert len(done) == 3
    assert world.snapshot(world.node) == before


def test_upstreams_running_pod_is_adopted(world: World, mode: NodeDatapath) -> None:
    """A pod in the ledger that upstream's CNI made keeps its traffic and moves to our layout."""
    endpoint, pod = world.endpoint(ENI1, version_6=False), world.namespace()
    index = upstream_pod(world, endpoint, pod)
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
    assert mode.repair([endpoint]) != ()
    assert mode.repair([endpoint]) == ()
    found = world.snapshot(world.node)
    assert f"{endpoint.ipv4}/32 dev {index} table 512" in found["routes"]
    assert f"{endpoint.ipv4}/32 dev {index} table 254" not in found["routes"]
    assert [one for one in found["rules"] if f"{endpoint.ipv4}/" in one] == [
        f"v4 2048: from {endpoint.ipv4}/32 lookup {1000 + index_of(world, 'eni1')}"
    ]
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
    assert exchange(world.router, pod, endpoint.addresses()[0])
    mode.setup(endpoint, pod)
    assert mode.check(endpoint, pod) == ()
    mode.teardown(endpoint, pod)
    mode.flush()
    assert endpoint.host_link not in world.snapshot(world.node)["links"]


def named(endpoint: Endpoint, container_id: str) -> EndpointId:
    return replace(endpoint.id, key=EndpointKey(container_id, endpoint.ifname))


def test_upstreams_unrecorded_pod_stays_until_taken_down(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    endpoint, pod = world.endpoint(ENI1, version_6=False), world.namespace()
    upstream_pod(world, endpoint, pod)
    with_pod = world.snapshot(world.node)
    assert mode.repair([]) == ()
    assert world.snapshot(world.node) == with_pod
    assert mode.take_down(named(endpoint, "another container")) == ()
    assert world.snapshot(world.node) == with_pod
    assert mode.take_down(named(endpoint, "")) == (endpoint.ipv4,)
    mode.flush()
    assert world.snapshot(world.node) == before


def test_setup_over_upstreams_pod_of_that_name(world: World, mode: NodeDatapath) -> None:
    """Made anew after a sandbox change: the old link goes, with rules and routes that point to it."""
    endpoint, pod = world.endpoint(ENI1, version_6=False), world.namespace()
    index = upstream_pod(world, endpoint, world.namespace())
    mode.setup(endpoint, pod)
    mode.flush()
    found = world.snapshot(world.node)
    assert len([one for one in found["rules"] if f"{endpoint.ipv4}/" in one]) == 1
    assert not any(f"dev {index} " in one for one in found["routes"])
    assert mode.check(endpoint, pod) == ()


def test_rule_to_the_wrong_eni(world: World, mode: NodeDatapath) -> None:
    endpoint, pod = running(world, mode)
    wrong = 1000 + index_of(world, "eni2")
    with witness(world.node) as reader:
        reader.rule("del", priority=2048, src=f"{endpoint.ipv4}/32")
        reader.rule("add", priority=2048, src=f"{endpoint.ipv4}/32", table=wrong)
    (difference,) = mode.check(endpoint, pod)
    assert f"lookup {wrong}" in difference.found
    assert mode.repair([endpoint]) != ()
    assert mode.check(endpoint, pod) == ()


def test_unrecorded_link_goes_only_when_taken_down(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    other = world.endpoint(ENI2)
    mode.setup(other, world.namespace())
    assert mode.repair([other]) == ()
    assert set(mode.take_down(endpoint.id)) == set(endpoint.addresses())
    mode.flush()
    found = world.snapshot(world.node)
    assert endpoint.host_link not in found["links"]
    assert not any(f"{endpoint.ipv4}/" in one for one in found["rules"] | found["routes"])
    assert other.host_link in found["links"]


def test_carriers_are_told_whatever_is_done_to_them(world: World, mode: NodeDatapath) -> None:
    """Flushed, renamed, or down: the addresses are still known to be somebody's, and the rules stay."""
    endpoint, _ = running(world, mode)
    with witness(world.node) as reader:
        (index,) = reader.link_lookup(ifname=endpoint.host_link)
        eni = reader.get_links(index_of(world, "eni1"))[0].get("address")

    def told() -> list[tuple[str, set[object], set[str]]]:
        assert mode.repair([]) == ()
        return [(one.link, set(one.addresses), set(one.enis)) for one in mode.carriers()]

    whole = (set(endpoint.addresses()), {eni})
    assert told() == [(endpoint.host_link, *whole)]
    with witness(world.node) as reader:
        reader.flush_routes(table=512, family=2)
        reader.flush_routes(table=512, family=10)
    assert told() == [(endpoint.host_link, *whole)]
    with witness(world.node) as reader:
        reader.link("set", index=index, state="down")
    assert told() == [(endpoint.host_link, *whole)]
    with witness(world.node) as reader:
        reader.link("set", index=index, ifname="foreign0")
        reader.link("set", index=index, state="up")
        for address in endpoint.addresses():
            reader.route("add", dst=f"{address}/{address.max_prefixlen}", oif=index, table=512, scope=253)
    assert told() == [("foreign0", *whole)]


def test_another_sandboxes_link_is_not_adopted(world: World, mode: NodeDatapath) -> None:
    endpoint, _ = running(world, mode)
    before = world.snapshot(world.node)
    assert mode.repair([replace(endpoint, container_id="other")]) == ()
    assert world.snapshot(world.node) == before


def index_of(world: World, name: str) -> int:
    with witness(world.node) as reader:
        return int(reader.link_lookup(ifname=name)[0])


def test_a_link_that_somebody_changed_is_as_it_was(world: World, mode: NodeDatapath) -> None:
    """Its MAC, which the pod sends to; its alias, by which it is the pod's; its name; its MTU."""
    endpoint, pod = running(world, mode)
    before = world.snapshot(world.node)
    changes = (
        {"address": "02:00:00:00:99:99"},
        {"ifalias": "somebody's"},
        {"ifname": "renamed0"},
        {"mtu": 1300},
    )
    index = index_of(world, endpoint.host_link)
    for changed in changes:
        with witness(world.node) as reader:
            reader.link("set", index=index, **changed)
        assert mode.repair([endpoint]) != (), changed
        mode.repair([endpoint])
        assert mode.repair([endpoint]) == (), changed
        assert mode.check(endpoint, pod) == (), changed
        assert world.snapshot(world.node) == before, changed
        assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4), changed
        assert exchange(pod, world.router, OUTSIDE_V6) == str(endpoint.ipv6), changed
    with witness(world.node) as reader:
        reader.link("set", index=index, ifalias="somebody's")
    mode.teardown(endpoint, None)
    mode.flush()
    assert endpoint.host_link not in world.snapshot(world.node)["links"]


def test_a_pair_that_is_whole_again_is_looked_at_again(world: World, mode: NodeDatapath) -> None:
    """The pod's end alone was altered back, of which the node's own links and routes say nothing."""
    endpoint, pod = running(world, mode)
    index = index_of(world, endpoint.host_link)
    with witness(pod) as reader:
        (eth0,) = reader.link_lookup(ifname="eth0")
        (before,) = reader.get_links(eth0)
        reader.link("set", index=eth0, address="02:00:00:00:99:98")
    with witness(world.node) as reader:
        reader.link("set", index=index, address="02:00:00:00:99:99")
    for _ in range(2):
        mode.repair([endpoint])
    assert mode.repair([endpoint]) == ()
    with witness(pod) as reader:
        reader.link("set", index=eth0, address=before.get("address"))
    assert ObjectKind.LINK in {one.kind for one in mode.repair([endpoint])}
    with witness(world.node) as reader:
        (host,) = reader.get_links(index)
    assert host.get("address") == host_mac(endpoint.container_id, endpoint.ifname)


def test_what_a_round_has_done_that_fails_later_is_told_by_the_next(
    world: World, mode: NodeDatapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, _ = running(world, mode)

    def fails(*_: object) -> None:
        raise KernelError("list links")

    for _ in range(2):
        with witness(world.node) as reader:
            reader.link("set", index=index_of(world, endpoint.host_link), mtu=1300)
        with monkeypatch.context() as broken:
            broken.setattr(policy_route(mode)._rounds, "_mend_beside", fails)
            with pytest.raises(KernelError, match="list links"):
                mode.repair([endpoint])
    assert len(mode.repair([endpoint])) == 1
    assert mode.repair([endpoint]) == ()


@dataclass
class Told(NoShortcut):
    """Keeps which links it was told of, by repair."""

    links: frozenset[int] = frozenset()
    pods: frozenset[int] = frozenset()

    def mending(self, present: Present, now: Now) -> Pausing[list[Difference]]:
        self.links, self.pods = present.links, frozenset(present.pods)
        return super().mending(present, now)


def test_a_link_with_another_name_is_no_pod_that_is_gone(world: World) -> None:
    """Its row in the fast path would go, and a program without a row drops what the pod sends."""
    told = Told()
    with closing(NodeDatapath(world.node, shortcut=told)) as mode:
        mode.prepare((HOST, HOST_V6))
        mode.prepare_uplink(shared(eni_link(ENI1)))
        endpoint, pod = running(world, mode)
        index = index_of(world, endpoint.host_link)
        before = world.snapshot(world.node)
        with witness(world.node) as reader:
            reader.link("set", index=index, ifname="renamed0")
        assert f"link {endpoint.host_link}" in {one.what for one in mode.repair([endpoint])}
        assert told.links == told.pods == {index}
        assert world.snapshot(world.node) == before
        assert mode.check(endpoint, pod) == ()


def test_an_eni_whose_mtu_somebody_changed(world: World, mode: NodeDatapath) -> None:
    endpoint, pod = running(world, mode)
    before = world.snapshot(world.node)
    for mtu in (1400, 1300):
        with witness(world.node) as reader:
            reader.link("set", index=index_of(world, "eni1"), mtu=mtu)
        done = mode.repair([endpoint])
        assert f"link eni1 of ENI {ENI1.mac} mtu 1500" in {one.what for one in done}
        mode.repair([endpoint])
        assert mode.repair([endpoint]) == ()
        assert world.snapshot(world.node) == before
        assert exchange(pod, world.router, OUTSIDE_V6) == str(endpoint.ipv6)


@pytest.mark.parametrize("link", ["host", "eni1", "all", "default"])
@pytest.mark.parametrize(
    ("setting", "value"), [("ipv4/forwarding", "0"), ("ipv6/forwarding", "0"), ("ipv6/disable_ipv6", "1")]
)
def test_forwarding_and_ipv6_come_back_link_by_link(
    world: World, mode: NodeDatapath, link: str, setting: str, value: str
) -> None:
    """sysctl.d, a hardening guide's ``disable_ipv6``: running pods and the next one talk in both families."""
    endpoint, pod = running(world, mode)
    family, key = setting.split("/")
    name = f"net/{family}/conf/{endpoint.host_link if link == 'host' else link}/{key}"
    with namespace.entered(world.node):
        was = sysctl.read(name)
        sysctl.write(name, value)
    assert f"sysctl {name}" in {one.what for one in mode.repair([endpoint])}
    assert mode.repair([endpoint]) == ()
    with namespace.entered(world.node):
        assert sysctl.read(name) == was
    another, second = running(world, mode)
    for one, where in ((endpoint, pod), (another, second)):
        assert exchange(where, world.router, OUTSIDE) == str(one.ipv4)
        assert exchange(where, world.router, OUTSIDE_V6) == str(one.ipv6)

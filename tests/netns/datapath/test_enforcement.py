"""Who would send as somebody else does not start: what must hold fails the ADD, what makes fast does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from datapath.acceleration.shortcut import NoShortcut
from datapath.endpoint import AppliedVeth, Endpoint
from datapath.enforcement.locks import Lie, Lock, Locks
from datapath.errors import KernelError, Unenforced
from datapath.modes.table import MODES
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6, World, eni_link, shared

NO_NFT = "the kernel has no nf_tables"


class Programs(NoShortcut):
    """eBPF as enforcement sees it: there or not at all, and at each pod's link or not."""

    def __init__(self, *, there: str = "", at_link: str = "") -> None:
        self._there, self._at_link = there, at_link
        self.left: list[int] = []

    def lacking(self) -> str:
        return self._there

    def pod_joined(self, endpoint: Endpoint, applied: AppliedVeth) -> str:
        del endpoint, applied
        return self._there or self._at_link

    def pod_leaves(self, host_ifindex: int) -> None:
        self.left.append(host_ifindex)


def node(world: World, programs: Programs, *, nft: bool) -> NodeDatapath:
    made = NodeDatapath(world.node, shortcut=programs)
    made.prepare((HOST, HOST_V6))
    for card in (ENI1, ENI2):
        made.prepare_uplink(shared(eni_link(card)))
    if not nft:
        made.guard.lacking = NO_NFT
    return made


@pytest.fixture
def unguarded(world: World) -> Iterator[NodeDatapath]:
    """A kernel without nf_tables and without eBPF: of IPv6 nobody checks anything."""
    with closing(node(world, Programs(there="bpf is off"), nft=False)) as made:
        yield made


def test_ipv6_that_nobody_checks_does_not_start(world: World, unguarded: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    endpoint, pod = world.endpoint(ENI1), world.namespace()
    with pytest.raises(Unenforced) as refused:
        unguarded.setup(endpoint, pod)
    for word in (str(endpoint), "source_ipv6", "neighbour_nd", NO_NFT, "bpf is off", "-bpf on"):
        assert word in str(refused.value)
    unguarded.flush()
    assert world.snapshot(world.node) == before
    assert world.snapshot(pod)["links"] == {"lo"}


def test_ipv4_is_held_by_the_link_alone(world: World, unguarded: NodeDatapath) -> None:
    """By the reverse path filter, which the ADD sets; the families of the pod count, not the node's."""
    endpoint, pod = world.endpoint(ENI1, version_6=False), world.namespace()
    unguarded.setup(endpoint, pod)
    assert unguarded.check(endpoint, pod) == ()


@pytest.mark.parametrize(
    ("programs", "nft"),
    [
        (Programs(), False),
        (Programs(there="bpf is off"), True),
        (Programs(at_link="the row was refused"), True),
    ],
    ids=["eBPF alone", "nftables alone", "nftables, and eBPF not for this pod"],
)
def test_one_lock_is_enough(world: World, programs: Programs, nft: bool) -> None:
    with closing(node(world, programs, nft=nft)) as made:
        endpoint, pod = world.endpoint(ENI1), world.namespace()
        made.setup(endpoint, pod)
        assert not programs.left


def test_a_program_that_is_not_at_this_pods_link_holds_nothing(world: World) -> None:
    """eBPF is there and refuses this pod's row, and nothing else would hold: the pair goes again."""
    programs = Programs(at_link="no room in the map")
    with closing(node(world, programs, nft=False)) as made:
        before = world.snapshot(world.node)
        endpoint, pod = world.endpoint(ENI1), world.namespace()
        with pytest.raises(Unenforced, match="no room in the map"):
            made.setup(endpoint, pod)
        made.flush()
        assert world.snapshot(world.node) == before
        assert len(programs.left) == 1


def test_a_link_that_another_plugin_shapes_has_no_program(world: World) -> None:
    with closing(node(world, Programs(), nft=False)) as made:
        with pytest.raises(Unenforced, match="another plugin"):
            made.setup(world.endpoint(ENI1, hooked=False), world.namespace())
        made.setup(world.endpoint(ENI1, hooked=False, ipv6=None), world.namespace())


def test_check_tells_when_nobody_holds_it_any_more(world: World) -> None:
    """A repeated ADD of a pod that runs fails as well, and takes nothing away from it."""
    with closing(node(world, Programs(there="bpf is off"), nft=True)) as made:
        endpoint, pod = world.endpoint(ENI1), world.namespace()
        made.setup(endpoint, pod)
        assert made.check(endpoint, pod) == ()
        made.guard.lacking = NO_NFT
        told = made.check(endpoint, pod)
        assert {one.what.split()[0] for one in told} == {
            "source_ipv6",
            "neighbour_nd",
            "router_advertisement",
        }
        with pytest.raises(KernelError):
            made.setup(endpoint, pod)
        made.guard.lacking = ""
        assert made.check(endpoint, pod) == ()


def test_each_lie_has_a_lock_in_each_mode() -> None:
    for mode in MODES.values():
        locks = mode.locks
        whole = Locks(locks)
        assert {lie for lie in Lie if not whole.holders(lie)} <= {Lie.TUNNEL_TO_THE_NODE}
        assert Lock.VPC in locks or not Locks(locks, dict.fromkeys(locks, "off")).holders(Lie.SOURCE_IPV4)

"""A kernel that has not got what the programs need: simulated by programs that need what no kernel has."""

from __future__ import annotations

from functools import partial

import pytest

from datapath.acceleration import Unavailable, load, open_fast_path
from datapath.acceleration.load import Options
from datapath.acceleration.needs import HELPERS, Need, lacking
from datapath.acceleration.path import FastPath
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2
from tests.netns.fastpath.builds import Find, build
from tests.netns.fastpath.node import FastNode

FUTURE = (Need("bpf_redirect_far", 9998, "99.12"), Need("bpf_redirect_beyond", 9999, "99.2"))
CALLS_IT = ("lib/act.h", "bpf_redirect_peer(", "((long (*)(__u32, __u64))9999)(")


@pytest.fixture(scope="session")
def needy(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return build(tmp_path_factory.mktemp("needy"), CALLS_IT)


def test_this_kernel_has_what_is_needed_and_not_what_no_kernel_has(node: FastNode) -> None:
    assert node.fast.is_on(), "so it has everything"
    assert lacking() == ""
    assert "bpf_redirect_beyond: the programs need Linux 99.2 or later" in lacking((*HELPERS, FUTURE[1]))
    both = lacking(tuple(reversed(FUTURE)))
    assert "bpf_redirect_beyond and no bpf_redirect_far: the programs need Linux 99.12" in both


def test_a_helper_that_is_missing_is_named(
    node: FastNode, needy: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    monkeypatch.setattr(load, "lacking", partial(lacking, (*HELPERS, *FUTURE)))
    with pytest.raises(Unavailable, match="has no bpf_redirect_far and no bpf_redirect_beyond"):
        open_fast_path(node.pins, netns=node.world.node, objects=needy("pod_egress").parent)
    with node.counting("fast_local") as grown:
        exchange(one.netns, other.netns, other.address(4))
    assert grown == {"fast_local": 2, "forwarded": 0}, "what was there goes on"
    fresh = node.pins.parent / "fresh"
    with pytest.raises(Unavailable, match="programs need Linux 99"):
        FastPath.open(fresh, netns=node.world.node, options=Options(find=needy))
    assert not list(fresh.iterdir()), "nothing is left of it"


def test_another_reason_is_the_verifiers(node: FastNode, needy: Find) -> None:
    with pytest.raises(Unavailable, match="9999"):
        FastPath.open(node.pins, netns=node.world.node, options=Options(find=needy))
    assert node.fast.is_on()

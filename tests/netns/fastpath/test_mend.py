"""Mending, as the agent asks for it every minute: what cannot be mended is no reason to leave the rest."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from datapath import namespace
from datapath.acceleration.companion import Companion, Prefixes
from datapath.acceleration.shortcut import Present
from datapath.endpoint import EniLink
from tests.netns.datapath.world import ENI1, ENI2, eni_link, witness
from tests.netns.fastpath.node import FastNode, Tenant

GONE = 99999
"""A device that there is not."""


@pytest.fixture
def companion(node: FastNode) -> Iterator[Companion]:
    node.close()
    made = Companion(node.world.node)
    made.open(node.pins, Prefixes())
    yield made
    made.close()
    node.open()


def present(node: FastNode, *pods: Tenant, enis: dict[int, EniLink] | None = None) -> Present:
    links = frozenset(one.applied.host_ifindex for one in pods)
    known = {one.applied.host_ifindex: (one.endpoint, one.applied) for one in pods}
    return Present(known, {**(enis or {}), node.enis[ENI1.name]: eni_link(ENI1)}, links)


def tc(node: FastNode, *words: str) -> None:
    with namespace.entered(node.world.node):
        subprocess.run(["tc", *words], check=True)


@pytest.fixture
def pods(node: FastNode) -> tuple[Tenant, Tenant]:
    return node.pod(ENI1), node.pod(ENI1)


def name(pod: Tenant) -> str:
    return pod.endpoint.host_link


def test_an_eni_that_was_unplugged_does_not_keep_pods_from_being_mended(
    node: FastNode, pods: tuple[Tenant, Tenant], companion: Companion
) -> None:
    index = pods[0].applied.host_ifindex
    companion.fast.detach_pod(index)
    ghost = replace(eni_link(ENI1), mac="02:00:00:00:00:99")
    companion.mend(present(node, *pods, enis={GONE: ghost}))
    assert index in companion.fast.attached()


def test_an_eni_that_is_up_when_its_event_is_read_stays_fast(
    node: FastNode, pods: tuple[Tenant, Tenant], companion: Companion
) -> None:
    """One that is plugged tells of a carrier that is to come, and events are read a moment later."""
    companion.mend(present(node, *pods))
    index = node.enis[ENI1.name]
    with witness(node.world.node) as writer:
        writer.link("set", index=index, state="down")
        writer.link("set", index=index, state="up")
    companion.links_changed()
    assert index in [one.ifindex for one in companion.fast.uplinks().values()]


def test_the_link_that_an_eni_had_before_takes_nothing_from_the_one_it_has(
    node: FastNode, pods: tuple[Tenant, Tenant], companion: Companion
) -> None:
    """Plugged anew: the event of the old link's end may be read after the new one is ready."""
    before, now = node.enis[ENI1.name], node.enis[ENI2.name]
    for index in (before, now):
        companion.eni_ready(eni_link(ENI1), index)
    with witness(node.world.node) as writer:
        writer.link("set", index=before, state="down")
    companion.links_changed()
    assert [one.ifindex for one in companion.fast.uplinks().values() if one.mac == ENI1.mac] == [now]
    assert pods
    companion.mend(replace(present(node, *pods), enis={now: eni_link(ENI1)}))
    assert before not in companion.fast.attached(), "nothing of the old link is kept"


def test_a_pod_that_is_gone_does_not_keep_the_others_from_being_mended(
    node: FastNode, pods: tuple[Tenant, Tenant], companion: Companion
) -> None:
    gone, other = pods
    vanished = replace(gone, applied=replace(gone.applied, host_ifindex=GONE))
    companion.fast.detach_pod(other.applied.host_ifindex)
    companion.mend(present(node, vanished, other))
    assert other.applied.host_ifindex in companion.fast.attached()


def test_anothers_ingress_qdisc_keeps_its_place(
    node: FastNode, pods: tuple[Tenant, Tenant], companion: Companion
) -> None:
    """One hook for both directions: filters of ours would land on the wrong one."""
    shaped, other = pods
    companion.fast.detach_pod(shaped.applied.host_ifindex)
    tc(node, "qdisc", "add", "dev", name(shaped), "ingress")
    for _ in range(2):
        done = companion.mend(present(node, *pods))
        assert [one.what for one in done if name(shaped) in one.what] == [], "nothing to mend"
    companion.pod_joined(shaped.endpoint, shaped.applied)
    with namespace.entered(node.world.node):
        listed = subprocess.run(
            ["tc", "filter", "show", "dev", name(shaped), "ingress"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert listed.stdout == ""
    assert other.applied.host_ifindex in companion.fast.attached()


def test_a_place_that_is_left_to_another_plugin_is_not_taken_before_it_comes(
    node: FastNode, pods: tuple[Tenant, Tenant], companion: Companion
) -> None:
    limited = replace(pods[0], endpoint=replace(pods[0].endpoint, fast=False, hooked=False))
    companion.pod_joined(limited.endpoint, limited.applied)
    repaired = replace(limited, endpoint=replace(limited.endpoint, fast=None, hooked=True))
    companion.mend(present(node, repaired, pods[1]))
    assert limited.applied.host_ifindex not in companion.fast.attached()
    assert not companion.fast.endpoints()[limited.applied.host_ifindex].fast
    tc(node, "qdisc", "add", "dev", name(limited), "ingress")
    tc(
        node,
        "qdisc",
        "add",
        "dev",
        name(limited),
        "root",
        "tbf",
        "rate",
        "8mbit",
        "burst",
        "40kb",
        "latency",
        "9ms",
    )
    found = companion.fast.shaped()
    assert limited.applied.host_ifindex in found.sent & found.received
    assert pods[1].applied.host_ifindex not in found.sent | found.received
    companion.pod_leaves(limited.applied.host_ifindex)
    tc(node, "qdisc", "del", "dev", name(limited), "ingress")
    companion.mend(present(node, repaired, pods[1]))
    assert limited.applied.host_ifindex in companion.fast.attached(), "the index may be another pod's now"

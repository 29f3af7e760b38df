"""Who is at a hook of a device: ours by its name, and others behind it."""

from __future__ import annotations

import os

import pytest

from datapath import namespace
from datapath.acceleration import bpf_call
from datapath.acceleration.bpf_call import TcxHook
from tests.linux import ENI_HOOK
from tests.netns.datapath.world import ENI1
from tests.netns.fastpath.node import FastNode, until

pytestmark = pytest.mark.skipif(ENI_HOOK != "tcx", reason="the kernel has no tcx")


def names_at(node: FastNode, hook: TcxHook) -> list[str]:
    with namespace.entered(node.world.node):
        found = bpf_call.programs_at(node.enis[ENI1.name], hook)
    names = []
    for number in found:
        fd = bpf_call.program_by_id(number)
        names.append(bpf_call.program_info(fd).name)
        os.close(fd)
    return names


def test_an_enis_programs_are_told_in_their_order(node: FastNode) -> None:
    ours = {TcxHook.INGRESS: "eni_ingress", TcxHook.EGRESS: "eni_egress"}
    assert {hook: names_at(node, hook) for hook in TcxHook} == {h: [name] for h, name in ours.items()}
    with namespace.entered(node.world.node):
        program = node.fast.program_fd("pod_egress")
        link = bpf_call.link_create(program, node.enis[ENI1.name], TcxHook.INGRESS)
    assert names_at(node, TcxHook.INGRESS) == ["eni_ingress", "pod_egress"]
    os.close(link)
    assert names_at(node, TcxHook.INGRESS) == ["eni_ingress"]


def test_nobody_is_at_the_hook_of_a_detached_eni(node: FastNode) -> None:
    """The kernel takes a link away a moment after its last name is gone."""
    assert all(names_at(node, hook) for hook in TcxHook)
    node.fast.detach_eni(node.enis[ENI1.name])
    until(lambda: not any(names_at(node, hook) for hook in TcxHook), "no program is left")

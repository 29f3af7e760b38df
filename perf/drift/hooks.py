"""Where the programs are: the pods' clsact with its shared blocks, and the ENI's tcx links."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datapath import namespace
from datapath.acceleration import bpf_call, tc
from datapath.acceleration.attach import BLOCKS
from datapath.acceleration.bpf_call import TcxHook
from datapath.acceleration.tc import Place, Side
from datapath.ebpf import libbpf
from datapath.netlink.socket import Socket
from perf.drift.item import Change, Item, Shell, Shown, Thing
from perf.drift.scene import Scene

_NUMBER = {Side.INGRESS: BLOCKS.ingress, Side.EGRESS: BLOCKS.egress}
_OTHER = {Side.INGRESS: "eni_ingress", Side.EGRESS: "pod_egress"}
_OTHER_AT_ENI = {Side.INGRESS: "pod_egress", Side.EGRESS: "eni_ingress"}
"""Programs at hooks that are not their own."""
_HOOK = {Side.INGRESS: TcxHook.INGRESS, Side.EGRESS: TcxHook.EGRESS}
_QDISC = Shown("tc qdisc show dev {link}")
_SLOW = "nobody: the pod is routed"
_LIES = "nobody: routed, or unseen"


def items() -> tuple[Item, ...]:
    both = [one for side in Side for one in (*_of_block(side), *_of_eni(side))]
    return (*_qdisc(), *both)


def _qdisc() -> tuple[Item, ...]:
    remove = "tc qdisc del dev {link} clsact"
    rows = (
        (Change.DELETED, remove, _QDISC),
        (Change.IMPOSTOR, f"{remove}; tc qdisc add dev {{link}} clsact", _QDISC),
    )
    made = [
        Item(f"pod-clsact-{change}", Thing.HOOK, change, Shell(text), look, _SLOW, bpf=True)
        for change, text, look in rows
    ]
    foreign = Shell("tc qdisc add dev {eni} root tbf rate 1mbit burst 4kb latency 50ms")
    look = Shown("tc qdisc show dev {eni} root")
    harms = "all of the ENI's pods that go beyond the node"
    return (*made, Item("eni-qdisc-added", Thing.HOOK, Change.ADDED, foreign, look, harms))


def _of_block(side: Side) -> tuple[Item, ...]:
    number, name = _NUMBER[side], f"block-{side.name.lower()}-filter"
    # Not the kernel's number of the program, which a restarted agent loads anew.
    look = Shown(f"tc filter show block {number} | sed 's/ id [0-9]*//'")
    foreign = f"bpf da object-pinned {{layout}}/prog_{_OTHER[side]}"
    ahead = Shell(f"tc filter add block {number} pref 1 protocol all {foreign}")
    hook = Thing.HOOK
    return (
        Item(
            f"{name}-deleted",
            hook,
            Change.DELETED,
            Shell(f"tc filter del block {number} pref {tc.PRIORITY}"),
            look,
            _LIES,
            bpf=True,
        ),
        Item(
            f"{name}-impostor",
            hook,
            Change.IMPOSTOR,
            partial(_replace, side),
            look,
            "all of the pods",
            bpf=True,
        ),
        Item(f"{name}-added", hook, Change.ADDED, ahead, look, "all of the node's pods", bpf=True),
    )


def _of_eni(side: Side) -> tuple[Item, ...]:
    name = f"eni-{side.name.lower()}-link"
    pin = f"{{pins}}/links/{side.name.lower()}_{{eni_index}}"
    rows: tuple[tuple[Change, Callable[[Scene], None]], ...] = (
        (Change.DELETED, Shell(f"bpftool link detach pinned {pin}")),
        (Change.ALTERED, Shell(f"rm {pin}")),
        (Change.IMPOSTOR, partial(_update, side)),
        (Change.ADDED, partial(_append, side)),
    )
    words = {Change.DELETED: "detached", Change.ALTERED: "unpinned"}
    return tuple(
        Item(
            f"{name}-{words.get(change, change)}",
            Thing.HOOK,
            change,
            hand,
            partial(_at_eni, side),
            harms,
            bpf=True,
        )
        for (change, hand), harms in zip(
            rows, (_SLOW, _SLOW, "the ENI's pods", "the ENI's pods"), strict=True
        )
    )


def _program(scene: Scene, name: str) -> int:
    return libbpf.open_pinned(str(scene.layout / f"prog_{name}"))


def _replace(side: Side, scene: Scene) -> None:
    """Another program under our number in the pods' block."""
    fd = _program(scene, _OTHER[side])
    try:
        with Socket(scene.netns) as netlink:
            netlink.one(tc.put_filter(Place.block(_NUMBER[side]), fd, "impostor"))
    finally:
        os.close(fd)


def _update(side: Side, scene: Scene) -> None:
    """Another program in the ENI's link."""
    link = libbpf.open_pinned(str(_pin(side, scene)))
    program = _program(scene, _OTHER_AT_ENI[side])
    try:
        bpf_call.link_update(link, program)
    finally:
        os.close(link)
        os.close(program)


def _append(side: Side, scene: Scene) -> None:
    """A foreign program behind ours, held by a pin of its own."""
    program = _program(scene, _OTHER_AT_ENI[side])
    try:
        with namespace.entered(scene.netns):
            link = bpf_call.link_create(program, scene.number("eni_index"), _HOOK[side])
        libbpf.pin(link, f"{scene.root}/sys/fs/bpf/foreign_{side.name.lower()}")
        os.close(link)
    finally:
        os.close(program)


def _at_eni(side: Side, scene: Scene) -> str:
    """The programs at the hook in their order, and whether ours is held by its pin."""
    with namespace.entered(scene.netns):
        programs = bpf_call.programs_at(scene.number("eni_index"), _HOOK[side])
    names = []
    for number in programs:
        fd = bpf_call.program_by_id(number)
        names.append(bpf_call.program_info(fd).name)
        os.close(fd)
    return f"{' '.join(names)}; {'pinned' if _pin(side, scene).exists() else 'no pin'}"


def _pin(side: Side, scene: Scene) -> Path:
    return scene.pins / "links" / f"{side.name.lower()}_{scene.names['eni_index']}"

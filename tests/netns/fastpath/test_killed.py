"""A process killed by SIGKILL at each step of taking over: whoever comes next finds every row, and serves."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from datapath.acceleration import bpf_call
from datapath.acceleration.load import Options
from datapath.ebpf import libbpf
from datapath.netlink.socket import Socket
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2
from tests.netns.fastpath.builds import LAYOUT_6, Find, build
from tests.netns.fastpath.node import FastNode

NAMES: tuple[tuple[Any, str], ...] = ((libbpf, "pin"), (Path, "rename"))
STEPS = (
    *NAMES,
    (libbpf.Object, "load"),
    (bpf_call, "link_update"),
    (Socket, "one"),
    (Socket, "transact"),
    (Path, "unlink"),
    (shutil, "rmtree"),
)
"""What changes something in the kernel, by the object that has it and the name."""


@pytest.fixture(scope="session")
def layout_6(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return build(tmp_path_factory.mktemp("layout_6"), *LAYOUT_6)


def killed_before(
    step: int, node: FastNode, options: Options, steps: tuple[tuple[Any, str], ...] = STEPS
) -> bool:
    """Take over in another process, which is killed before its step of that number; False if it has fewer."""
    child = os.fork()
    if child == 0:
        taken = count()
        for owner, name in steps:
            setattr(owner, name, _dying(getattr(owner, name), taken, step))
        try:
            node.open(options=options)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _dying(work: Callable[..., Any], taken: count[int], step: int) -> Callable[..., Any]:
    def run(*arguments: Any, **more: Any) -> Any:
        if next(taken) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments, **more)

    return run


@pytest.mark.parametrize("node", ["records"], indirect=True)
@pytest.mark.parametrize(
    "way", ["names", *(pytest.param(one, marks=pytest.mark.long) for one in ("same", "up", "back"))]
)
def test_killed_at_any_step(node: FastNode, layout_6: Find, way: str) -> None:
    """``same``: a restart; ``names``: of it, only what pins. ``up``, ``back``: between two layouts."""
    one, other = node.pod(ENI1), node.pod(ENI2)
    rows = node.fast.endpoints(), node.fast.uplinks(), node.fast.is_on()
    ours, theirs = Options(), Options(find=layout_6)
    first, then = {"up": (ours, theirs), "back": (theirs, ours)}.get(way, (ours, ours))
    for step in count():
        if first is not then or not step:
            node.reopen(first.find)
            node.close()
        died = killed_before(step, node, then, NAMES if way == "names" else STEPS)
        for options in dict.fromkeys((first, then)):
            node.open(options=options)
            assert (node.fast.endpoints(), node.fast.uplinks(), node.fast.is_on()) == rows, f"step {step}"
            node.close()
        if not died:
            break
    assert step >= 10, "there is more to be killed at"
    node.open()
    with node.counting("fast_local") as grown:
        exchange(one.netns, other.netns, other.address(4))
    assert grown == {"fast_local": 2, "forwarded": 0}

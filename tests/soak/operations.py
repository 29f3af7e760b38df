"""What runtimes, kubelets and init systems do: requests, repeated, raced and cut off, and agents that end.

Each function is a verb of ``plan``. It changes the world and its model, and tells in a few words what came of
it. A request may be refused: the next quiet moment asks for what cause.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

from lab.cni_call import CniError
from lab.kube_client import KubeError
from lab.messages import LabError
from lab.nodes.agent import Wait
from tests.soak.sandbox import Sandbox
from tests.soak.sandbox import collect as collect_garbage
from tests.soak.site import Site
from tests.soak.world import World

HANG_UP_AFTER = 0.03
"""Seconds after which a runtime kills the executable: about the middle of an ADD."""


def add(world: World, *, node: int, slot: int) -> str:
    return _add(world.sites[node], slot)


def _add(site: Site, slot: int) -> str:
    """ADD of a new sandbox, or of the one that runs there once more."""
    if slot in site.pods:
        return _again(site, site.pods[slot])
    try:
        sandbox = Sandbox(site.node, f"p{slot}", site.pod_uid(slot))
    except KubeError as exc:
        return f"p{slot} is not created: {exc}"
    return _run(site, slot, sandbox)


def _run(site: Site, slot: int, sandbox: Sandbox) -> str:
    sandbox.make_netns()
    try:
        got = sandbox.add()
    except CniError as exc:
        _give_up(site, sandbox)
        return site.refused("ADD", sandbox, exc)
    site.pods[slot] = sandbox
    return f"p{slot} has {' '.join(got)}"


def _again(site: Site, sandbox: Sandbox) -> str:
    before = sandbox.addresses
    try:
        got = sandbox.add()
    except CniError as exc:
        return site.refused("repeated ADD", sandbox, exc)
    if got != before and not sandbox.broken:
        raise AssertionError(f"a repeated ADD of {sandbox} gave {got}, and the first one {before}")
    sandbox.unrecorded = False
    return f"{sandbox.name} again has {' '.join(got)}"


def _give_up(site: Site, sandbox: Sandbox) -> None:
    """As containerd undoes a failed ADD. A DEL that fails is repeated later."""
    try:
        sandbox.delete()
    except CniError as exc:
        site.refused("DEL", sandbox, exc)
        site.owed.append(sandbox)
    sandbox.remove_netns()


def delete(world: World, *, node: int, slot: int, netns: str, object: bool) -> str:
    """``netns``: there, unnamed (CNI_NETNS is empty), or gone before. An empty slot is deleted again."""
    site = world.sites[node]
    if object:
        site.forget_object(slot)
    return _delete(site, slot, netns)


def _delete(site: Site, slot: int, netns: str = "there") -> str:
    sandbox = site.pods.pop(slot, None)
    if sandbox is None:
        nobody = Sandbox(site.node, f"p{slot}", site.uids.get(slot, "unknown"))
        try:
            nobody.delete(named=False)
        except CniError as exc:
            return site.refused("DEL", nobody, exc)
        return f"p{slot} deleted again"
    if netns == "gone":
        site.cut(sandbox)
        sandbox.remove_netns()
    told = end(site, sandbox, named=netns == "there")
    sandbox.remove_netns()
    return told


def end(site: Site, sandbox: Sandbox, *, named: bool = False) -> str:
    """DEL, which is owed if it fails."""
    try:
        sandbox.delete(named=named)
    except CniError as exc:
        site.owed.append(sandbox)
        return site.refused("DEL", sandbox, exc)
    return f"{sandbox.name} deleted"


def add_many(world: World, *, node: int, slots: tuple[int, ...]) -> str:
    site = world.sites[node]
    return world.together(partial(_add, site, slot) for slot in slots)


def delete_many(world: World, *, node: int, slots: tuple[int, ...]) -> str:
    site = world.sites[node]
    return world.together(partial(_delete, site, slot) for slot in slots)


def remake(world: World, *, node: int, slot: int, late: str) -> str:
    """A new sandbox of the pod beside its old one, whose DEL comes ``after``, ``during``, or at the end."""
    site = world.sites[node]
    old = site.pods.get(slot)
    if old is None:
        return _add(site, slot)
    new = Sandbox(site.node, old.name, old.uid)
    del site.pods[slot]
    if late == "during":
        told = world.together((partial(_run, site, slot, new), partial(end, site, old)))
    else:
        told = _run(site, slot, new)
        if new.result is None:  # the old one runs on, and a runtime that fails to replace it ends it
            told += "; " + end(site, old, named=True)
        elif late == "after":
            told += "; late DEL: " + end(site, old)
        else:
            site.owed.append(old)
    old.remove_netns()
    return told


def race(world: World, *, node: int, slot: int) -> str:
    """ADD and DEL of one sandbox at once. The runtime then ends what may be left, and has no sandbox."""
    site = world.sites[node]
    try:
        sandbox = site.pods.pop(slot, None) or Sandbox(site.node, f"p{slot}", site.pod_uid(slot))
    except KubeError as exc:
        return f"p{slot} is not created: {exc}"
    if sandbox.result is None:
        sandbox.make_netns()
    site.causes.add("race")

    def adding() -> str:
        try:
            return f"ADD gave {' '.join(sandbox.add())}"
        except CniError as exc:
            return site.refused("ADD", sandbox, exc)

    told = world.together((adding, partial(end, site, sandbox), partial(end, site, sandbox)))
    _give_up(site, sandbox)
    return told


def hang_up(world: World, *, node: int, slot: int) -> str:
    """A runtime whose time-out passes kills the executable in the middle of an ADD, and says DEL."""
    site = world.sites[node]
    if slot in site.pods:
        return _delete(site, slot)
    try:
        sandbox = Sandbox(site.node, f"p{slot}", site.pod_uid(slot))
    except KubeError as exc:
        return f"p{slot} is not created: {exc}"
    sandbox.make_netns()
    site.causes.add("hang_up")
    answered = sandbox.add_and_hang_up(HANG_UP_AFTER)
    _give_up(site, sandbox)
    return f"ADD of p{slot} was cut off {'after' if answered else 'before'} its answer"


def check(world: World, *, node: int, slot: int) -> str:
    site = world.sites[node]
    sandbox = site.pods.get(slot)
    if sandbox is None:
        return "nothing to check"
    try:
        sandbox.check()
    except CniError as exc:
        return site.refused("CHECK", sandbox, exc)
    return f"{sandbox.name} is as ADD left it"


def collect(world: World, *, node: int) -> str:
    """CNI GC, with the sandboxes that run."""
    site = world.sites[node]
    try:
        collect_garbage(site.node, site.running())
    except CniError as exc:
        return site.refused("GC", site.pods[0], exc)
    return f"GC with {len(site.pods)} sandboxes"


def kill_agent(world: World, *, node: int, signal: str, slots: tuple[int, ...], after: float) -> str:
    """``after`` seconds of adding ``slots``, if any; the agent is started again at once."""
    site = world.sites[node]
    site.causes.add("kill")
    number = _SIGNALS[signal]
    begun = threading.Event()

    def adding(slot: int) -> str:
        begun.set()
        return _add(site, slot)

    def killing() -> str:
        if slots:
            begun.wait(5.0)
            time.sleep(after)
        with contextlib.suppress(LabError):
            site.node.stop_agent(number)
        site.start(wait=Wait.SOCKET)
        return f"agent ended by SIG{signal} and started"

    return world.together((*(partial(adding, slot) for slot in slots), killing))


_SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM}


def kill_agent_at(world: World, *, node: int, point: str, slots: tuple[int, ...]) -> str:
    """The agent is started anew and will kill itself at a point of ``control.agent.state.faults``.

    Pods go and come meanwhile, and an agent that has died is started again, as a DaemonSet does it.
    """
    site = world.sites[node]
    site.causes.update(("kill", f"point {point}"))
    site.node.stop_agent()
    with contextlib.suppress(LabError):  # it may die while it starts
        site.start(fault=point, wait=Wait.SOCKET)
    over = threading.Event()
    reviving = world.pool.submit(_revive, site, over)
    try:
        told = [_delete(site, slot) for slot in slots[:1]]
        told += [world.together(partial(_add, site, slot) for slot in slots)]
    finally:
        over.set()
    died = "has died" if reviving.result() else "may die"
    return f"agent {died} at {point}: {'; '.join(told)}"


def _revive(site: Site, over: threading.Event) -> bool:
    """Start the agent when it has died, until ``over``. True if it was started."""
    while not over.wait(0.05):
        if site.ensure_agent():
            return True
    return site.ensure_agent()


def kill_worker(world: World, *, node: int) -> str:
    """The process with the cloud's SDK, by SIGKILL: the agent starts another when it needs one."""
    site = world.sites[node]
    site.causes.add("worker")
    agent, ended = site.node.agent_pid, 0
    for children in Path(f"/proc/{agent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGKILL)
                ended += 1
    return f"{ended} SDK workers killed"

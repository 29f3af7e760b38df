"""The API server says that pods are gone, and they run: nobody is freed, not even who cannot be looked at.

Pods of both modes, in a real kernel, by the agent's own collection and by the runtime's GC.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.client import Lab
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import bench, conf, sandbox
from tests.e2e.conftest import Bench
from tests.e2e.test_modes import CHANGES, MACVLAN, POLICY_ROUTE, assert_talk, modes, restart, start
from tests.e2e.witnesses import reaches, settled, state, until

COLLECTED = 400.0
"""Seconds on the clock: the grace of an attachment and a round of collection."""


@pytest.fixture
def made(lab: Lab) -> Iterator[Bench]:
    with bench(lab, **CHANGES) as one:
        yield one


def _addresses(made: Bench) -> dict[str, str]:
    return {row["pod_name"]: row["ipv4"] for row in state(made.node)["attachments"]}


@pytest.mark.long
def test_gc_frees_nobody_whom_it_cannot_look_at(made: Bench) -> None:
    start(made, MACVLAN)
    own = made.pod("own")
    restart(made, POLICY_ROUTE)
    shares, second = made.pod("shares"), made.pod("second")
    pods: list[LabPod] = [own, shares, second]
    settled(made.node)
    before = _addresses(made)
    for pod in pods:
        made.lab.kubernetes.delete_pod(pod.record.namespace, pod.record.name)
    made.advance(COLLECTED)
    until(lambda: _addresses(made), lambda now: now == before)
    settled(made.node)
    held = own.netns_fd()  # as the pod's processes do
    _hide(made, own)
    with sandbox(made) as raw:
        answer = raw.call("GC", stdin=conf("1.1.0", **{"cni.dev/valid-attachments": []}))
        assert answer.code == 0, answer.stdout
    made.advance(COLLECTED)
    settled(made.node)
    assert _addresses(made) == before
    assert set(modes(made)) == {"own", "shares", "second"}
    assert reaches(held, str(OUTSIDE_ADDRESS))
    assert reaches(held, str(shares.ipv4))
    assert_talk(shares, second)
    os.close(held)
    until(lambda: _gone(made), lambda left: left == {"shares", "second"})
    assert not made.drops()


def _gone(made: Bench) -> set[str]:
    """With the last process the slave is gone, and then so is the pod."""
    made.advance(COLLECTED)
    settled(made.node)
    return set(_addresses(made))


def _hide(made: Bench, pod: LabPod) -> None:
    """The runtime's file for the namespace is gone, as in a mount namespace that has not got it."""
    path = pod.attachment().netns
    made.node.exec(["sh", "-c", f"while umount -l {path} 2>/dev/null; do :; done; rm {path}"], check=True)

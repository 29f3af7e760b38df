"""Programs of another layout take over, and the first ones again: rows, records and packets survive."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import numpy as np
import pytest

from datapath import namespace
from datapath.acceleration.load import Options
from datapath.acceleration.path import FastPath
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2
from tests.netns.fastpath.builds import LAYOUT_6, LAYOUT_7, LAYOUT_8, VERSION, Find, build
from tests.netns.fastpath.flood import Flood
from tests.netns.fastpath.node import FAR, FastNode
from tests.pace import patience


@pytest.fixture(scope="session")
def layout_6(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return build(tmp_path_factory.mktemp("layout_6"), *LAYOUT_6)


@pytest.fixture(scope="session")
def layout_7(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return build(tmp_path_factory.mktemp("layout_7"), *LAYOUT_7)


@pytest.fixture(scope="session")
def layout_8(tmp_path_factory: pytest.TempPathFactory) -> Find:
    return build(tmp_path_factory.mktemp("layout_8"), *LAYOUT_8)


def peers(fast: FastPath) -> int:
    """Pods' peers that the stack has sent something to or from."""
    return sum(int(np.count_nonzero(row["noted"])) for _, row in fast.rows("flow_owners"))


@pytest.mark.parametrize("layout", ["layout_6", "layout_7"])
def test_a_layout_comes_and_goes(node: FastNode, layout: str, request: pytest.FixtureRequest) -> None:
    """Rows, switches and records are there under the other layout, and nothing of the old one is left."""
    find: Find = request.getfixturevalue(layout)
    one, other = node.pod(ENI1), node.pod(ENI2)
    assert node.fast.switch_pod(other.address(4), False)
    node.fast.switch_pod(other.address(4), True)
    rows = node.fast.endpoints(), node.fast.uplinks(), node.fast.is_on()
    node.fast.switch(False)
    exchange(node.far, one.netns, one.address(4))
    node.fast.switch(True)
    noted, recorded = peers(node.fast), len(node.fast.rows("flows"))
    assert noted >= 1
    assert recorded >= 1 or not node.fast.unasked
    with Flood(one.netns, other.netns, other.address(4)) as flood:
        for turn in range(6):
            fast = node.reopen(find if turn % 2 == 0 else None)
            wanted = int(layout[-1]) if turn % 2 == 0 else VERSION
            assert fast.names.version == wanted
            assert sorted(p.name for p in node.pins.iterdir()) == ["links", f"v{wanted}"]
            assert (fast.endpoints(), fast.uplinks(), fast.is_on()) == rows
            assert peers(fast) >= noted
            assert len(fast.rows("flows")) >= recorded
        sent, rate, lost = flood.stop()
    assert lost == 0, f"of {sent} at {rate:.0f} per second"
    with node.counting("fast_local") as grown:
        exchange(one.netns, other.netns, other.address(6))
    assert grown == {"fast_local": 2, "forwarded": 0}


@pytest.mark.parametrize("layout", ["layout_6", "layout_7", "layout_8"])
def test_what_the_stack_sent_under_one_layout_it_answers_under_another(
    node: FastNode, layout: str, request: pytest.FixtureRequest
) -> None:
    # First of all, as conntrack forgets sooner than a compiler on a loaded machine is done.
    found: Find = request.getfixturevalue(layout)
    pod = node.pod(ENI1)
    with ExitStack() as stack:
        with namespace.entered(pod.netns):
            listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with namespace.entered(node.far):
            caller = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for one in (listener, caller):
            one.settimeout(patience(2.0))
        listener.bind((str(pod.address(4)), 0))
        node.fast.switch(False)
        with node.counting("seen_new") as grown:
            caller.sendto(b"one", listener.getsockname())
            _, origin = listener.recvfrom(10)
        assert grown["seen_new"] == 1
        node.fast.switch(True)
        for find in (found, None):
            node.reopen(find)
            with node.counting("stack_flow", "fast_eni") as grown:
                listener.sendto(b"two", origin)
                assert caller.recv(10) == b"two"
            assert grown == {"stack_flow": 1, "fast_eni": 0, "forwarded": 1}
    with node.counting("fast_eni", "fast_pod") as grown:
        exchange(node.far, pod.netns, pod.address(6))
    assert grown == {"fast_eni": 1, "fast_pod": 1, "forwarded": 0}


def test_what_a_crash_left_half_made_is_not_believed(node: FastNode, layout_6: Find) -> None:
    class Crash(Exception):
        pass

    def crash(_: FastPath) -> None:
        raise Crash

    pod = node.pod(ENI1)
    node.fast.close()
    with pytest.raises(Crash):
        node.open(options=Options(find=layout_6), prepare=crash)
    node.open()
    assert list(node.fast.endpoints()) == [pod.applied.host_ifindex]
    node.reopen(layout_6)
    assert list(node.fast.endpoints()) == [pod.applied.host_ifindex]


@pytest.mark.parametrize("then", ["layout_7", "back"])
def test_of_two_whole_layouts_the_one_in_use_counts(
    node: FastNode, layout_6: Find, layout_7: Find, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """A crash when the new one was whole and the old one not yet removed; then another release is started."""
    gone, stays = node.pod(ENI1), node.pod(ENI2)
    with monkeypatch.context() as crash:
        crash.setattr("datapath.acceleration.load.shutil.rmtree", lambda *_args, **_more: None)
        node.reopen(layout_6)
    assert {f"v{VERSION}", "v6"} <= {p.name for p in node.pins.iterdir()}
    node.fast.drop_endpoint(gone.applied.host_ifindex)
    rows = node.fast.endpoints(), node.fast.uplinks()
    fast = node.reopen(layout_7 if then == "layout_7" else None)
    assert list(fast.endpoints()) == [stays.applied.host_ifindex]
    assert (fast.endpoints(), fast.uplinks()) == rows
    assert sorted(p.name for p in node.pins.iterdir()) == ["links", f"v{fast.names.version}"]
    with node.counting("fast_local") as grown:
        exchange(stays.netns, node.far, FAR)
    assert grown["forwarded"] == 0

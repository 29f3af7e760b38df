"""A fast path that is used after its end: an error, and no file of another's is touched."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from datapath.acceleration.open_lock import Closed
from datapath.acceleration.path import FastPath
from datapath.acceleration.rows import UplinkName, UplinkRow
from tests.netns.datapath.world import ENI1, HOST
from tests.netns.fastpath.node import FastNode

VERBS: dict[str, Callable[[FastPath], object]] = {
    "endpoints": FastPath.endpoints,
    "uplinks": FastPath.uplinks,
    "snapshot": FastPath.snapshot,
    "fingerprint": FastPath.fingerprint,
    "strays": FastPath.remove_strays,
    "uplink": lambda fast: fast.put_uplink(UplinkRow(1, ENI1.mac, None, None, 1500)),
    "no uplink": lambda fast: fast.drop_uplink(UplinkName(ENI1.mac)),
    "no endpoint": lambda fast: fast.drop_endpoint(1),
    "home": lambda fast: fast.set_home(1),
    "settings": lambda fast: fast.mend_settings(1),
    "pins": FastPath.mend_pins,
    "switch": lambda fast: fast.switch(True),
    "is on": FastPath.is_on,
    "switch of a pod": lambda fast: fast.switch_pod(HOST, True),
    "down": lambda fast: fast.set_pod_down(1, True),
    "attach a pod": lambda fast: fast.attach_pod(1),
    "detach a pod": lambda fast: fast.detach_pod(1),
    "attach an ENI": lambda fast: fast.attach_eni(1),
    "detach an ENI": lambda fast: fast.detach_eni(1),
    "attached": FastPath.attached,
    "hooks": FastPath.hooks,
    "shaped": FastPath.shaped,
    "counters": FastPath.counters,
    "counters of pods": FastPath.endpoint_counters,
    "refusals": FastPath.refusals,
    "trace": FastPath.trace,
    "maps": FastPath.maps,
    "rows": lambda fast: fast.rows("settings"),
    "programs": FastPath.programs,
    "program": lambda fast: fast.program_fd("pod_egress"),
    "map": lambda fast: fast.map_fd("settings"),
    "removal": FastPath.remove,
}


def test_every_verb_says_that_it_is_closed(node: FastNode) -> None:
    """Another one is open, whose maps may have the numbers that the closed one's had."""
    node.pod(ENI1)
    closed = node.fast
    trace = closed.trace()
    node.reopen()
    there = node.fast.endpoints(), node.fast.uplinks(), node.fast.is_on()
    for what, verb in VERBS.items():
        with pytest.raises(Closed, match="closed"):
            print(what, verb(closed))
    closed.set_stack_prefixes(node=(HOST,))
    closed.compare_stack_prefixes()
    closed.turn_flows(at_once=True)
    closed.trace_only(None)
    trace.close()
    closed.close()
    assert (node.fast.endpoints(), node.fast.uplinks(), node.fast.is_on()) == there


def test_who_reads_while_it_is_closed_reads_or_hears_of_it(node: FastNode) -> None:
    node.pod(ENI1)
    closed, begun = node.fast, threading.Barrier(3)
    ended: list[Exception] = []

    def read() -> None:
        begun.wait()
        try:
            while True:
                closed.counters()
                closed.endpoints()
        except Exception as exc:  # noqa: BLE001  # whatever it is, the test tells it
            ended.append(exc)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for one in threads:
        one.start()
    begun.wait()
    node.close()
    files = [os.memfd_create("another") for _ in range(64)]
    for one in threads:
        one.join()
    for fd in files:
        os.close(fd)
    assert [type(one) for one in ended] == [Closed, Closed]
    node.open()

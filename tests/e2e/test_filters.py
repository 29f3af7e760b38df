"""A filter of forwarded packets turns the fast path off by itself, which would slip past it, and says so."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from datapath import namespace
from lab.client import Lab
from lab.sandbox import LabPod
from tests.e2e import benches
from tests.e2e.conftest import Bench
from tests.e2e.test_fastpath import asked, counted
from tests.e2e.witnesses import assert_agree, reaches, until

SOON = 10.0
"""Seconds within which it is off, or on again."""
PORT = 9

OPERATOR = """
table inet operator {{
    chain forward {{
        type filter hook forward priority 10
        ip saddr {source} ip daddr {target} udp dport 9 counter drop
    }}
}}
"""

DROP = "FORWARD -s {source} -d {target} -p udp --dport 9 -j DROP"
QUEUE = "POSTROUTING -s {source} -j NFQUEUE --queue-num 100 --queue-bypass"
"""As kube-network-policies has them, by xtables: not every kernel has nft's own expression for it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """``add`` and ``remove`` are commands on a node; ``text`` is the first one's input.

    ``shows`` is the command that shows packets that the rule has met. ``drops``: or it lets them by.
    """

    where: str
    add: str
    remove: str
    shows: str
    text: str = ""
    drops: bool = True
    silent: bool = False
    """The kernel tells nobody of such rules: seen with the next change of a pod, or within a minute."""


FILTERS = {
    "operator": Filter(
        "nft table inet operator chain forward",
        "nft -f -",
        "nft delete table inet operator",
        "nft list chain inet operator forward",
        OPERATOR,
    ),
    "iptables-nft": Filter(
        "nft table ip filter chain FORWARD",
        f"iptables-nft -I {DROP}",
        f"iptables-nft -D {DROP}",
        "nft list chain ip filter FORWARD",
    ),
    "iptables-legacy": Filter(
        "iptables-legacy table filter chain FORWARD (IPv4)",
        f"iptables-legacy -I {DROP}",
        f"iptables-legacy -D {DROP}",
        "iptables-legacy -nvxL FORWARD",
        silent=True,
    ),
    "queue": Filter(
        "nft table ip mangle chain POSTROUTING: queue",
        f"iptables-nft -t mangle -A {QUEUE}",
        f"iptables-nft -t mangle -D {QUEUE}",
        "nft list chain ip mangle POSTROUTING",
        drops=False,
    ),
}


@dataclass
class Pair:
    """A node with two pods, and a socket of the first that is connected to a closed port of the second."""

    bench: Bench
    source: LabPod
    target: LabPod
    asking: socket.socket
    touched: int = 0

    def run(self, command: str, text: str = "") -> str:
        names = {"source": self.source.ipv4, "target": self.target.ipv4}
        words = command.format(**names).split()
        return self.bench.node.exec(words, stdin=text.format(**names), check=True).stdout

    def touch(self) -> None:
        """A change of a pod that means nothing."""
        path = f"/api/v1/namespaces/{self.source.record.namespace}/pods/{self.source.record.name}"
        self.touched += 1
        labels = {"touched": str(self.touched)}
        self.bench.lab.kubernetes.request("PATCH", path, {"metadata": {"labels": labels}})

    def is_answered(self) -> bool:
        """By "port unreachable", within a second."""
        self.asking.send(b"?")
        try:
            self.asking.recv(1)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
        raise AssertionError("nobody listens there")

    def met(self, rule: Filter) -> int:
        """Packets that the rule has counted."""
        told = self.run(rule.shows).split()
        at = told.index("packets") + 1 if "packets" in told and "counter" in told else told.index("DROP") - 2
        return int(told[at])


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Iterator[Pair]:
    with benches.bench(lab, ip_stack="dual") as made:
        made.start()
        source, target = made.pod("source"), made.pod("target")
        fd = source.netns_fd()
        try:
            with namespace.entered(fd):
                asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            os.close(fd)
        with asking:
            asking.settimeout(1.0)
            asking.connect((str(target.ipv4), PORT))
            yield Pair(made, source, target, asking)


@contextmanager
def in_place(pair: Pair, rule: Filter) -> Iterator[None]:
    pair.run(rule.add, rule.text)
    try:
        if rule.silent:
            pair.touch()
        yield
    finally:
        pair.run(rule.remove)
        if rule.silent:
            pair.touch()


@pytest.mark.parametrize("kind", FILTERS)
def test_off_while_a_filter_is_there(pair: Pair, kind: str) -> None:
    rule, node = FILTERS[kind], pair.bench.node
    with counted(node, pair.source, fast=True):
        assert pair.is_answered()
    with in_place(pair, rule):
        mode = until(partial(asked, node, "/mode"), lambda m: not m["in_force"]["bpf"], seconds=SOON)
        assert mode["in_force"]["datapath"] == "kernel routing"
        assert any(rule.where in line for line in mode["because"]), mode["because"]
        assert asked(node, "/fastpath")["why"] == ["filtered"]
        assert rule.where in node.exec(["terway-cli", "mode"], check=True).stdout
        assert metric(pair.bench) == {("off", "filtered"): 1.0}
        until(
            partial(latest, pair.bench), lambda e: e["reason"] == "FastPathOff" and rule.where in e["message"]
        )
        with counted(node, pair.source, fast=False):
            assert pair.is_answered() is not rule.drops, "a flow that began before the rule"
            assert pair.met(rule) >= 1
    until(partial(asked, node, "/mode"), lambda m: m["in_force"]["bpf"], seconds=SOON)
    assert metric(pair.bench) == {("on", ""): 1.0}
    until(partial(latest, pair.bench), lambda e: e["reason"] == "FastPathOn")
    assert pair.is_answered()
    with counted(node, pair.source, fast=True):
        assert reaches(pair.source, str(pair.target.ipv4), port=PORT), "by a flow that begins now"
    assert_agree(pair.bench.lab, node)


def metric(bench: Bench) -> dict[tuple[str, str], float]:
    """``terway_fastpath_state`` by state and why, as far as it is not zero."""
    status, body = bench.node.agent_get("/metrics")
    assert status == 200
    found = re.findall(r'terway_fastpath_state{state="(.*)",why="(.*)"} (.*)', body)
    return {(state, why): float(value) for state, why, value in found if float(value)}


def latest(bench: Bench) -> dict[str, Any]:
    """The node's last event about the fast path; with no reason if there is none."""
    mine = [
        e for e in bench.lab.kubernetes.events("default") if e["involvedObject"]["name"] == bench.node.name
    ]
    about = [e for e in mine if e["reason"].startswith("FastPath")]
    return max(about, key=lambda e: int(e["metadata"]["resourceVersion"]), default={"reason": ""})

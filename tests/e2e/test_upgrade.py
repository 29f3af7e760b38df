"""The datapath outlives its agent: killed, replaced, upgraded and switched, and no packet is missed.

All of it happens under one load, of datagrams and of bulk both ways, on a node and between two, by IPv4 and
IPv6. The nodes drop forwarded packets that conntrack finds invalid, as kube-proxy has them do.
"""

from __future__ import annotations

import operator
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from lab.client import Lab
from lab.cni_call import CniError
from lab.sandbox import LabPod
from tests.e2e import benches, evidence, programs
from tests.e2e.conftest import Bench
from tests.e2e.evidence import by_ebpf_alone
from tests.e2e.fastpath_rows import pins, rows_of_pods
from tests.e2e.load import Load, Sent, Way, compiled
from tests.e2e.test_fastpath import ANNOTATION, asked, fast_packets
from tests.e2e.witnesses import assert_agree, reaches, until

INVALID = """
table inet kube-proxy {
    chain filter-forward { type filter hook forward priority -110; ct state invalid drop; }
}
"""


@dataclass
class Site:
    """Two nodes with two pods each, and traffic between these that never ends."""

    benches: tuple[Bench, Bench]
    pods: tuple[LabPod, ...]
    load: Load
    objects: dict[str, Path]

    @property
    def lab(self) -> Lab:
        return self.benches[0].lab

    def unharmed(self) -> AbstractContextManager[Sent]:
        nodes = [one.node for one in self.benches]
        return self.load.unharmed(lambda: evidence.counted(self.lab, nodes, self.pods))

    def restart(self, bench: Bench, build: str = "") -> None:
        """Killed, and started with programs of ``build``, "" for the installation's own."""
        bench.node.stop_agent(signal.SIGKILL)
        self.start(bench, build)

    def start(self, bench: Bench, build: str = "") -> None:
        words = ["-bpf-objects", programs.given_to(bench.node, self.objects[build])] if build else []
        bench.node.start_agent(words, env={"TERWAY_TEST_CLOCK": "1"})

    def agree(self) -> None:
        for bench in self.benches:
            assert asked(bench.node, "/mode")["in_force"]["bpf"]
            assert_agree(self.lab, bench.node)


@pytest.fixture
def site(_site: Site) -> Site:
    """With both agents up, also when an earlier test has failed between two of its steps."""
    for bench in _site.benches:
        if bench.node.agent_pid is None:
            _site.start(bench)
    return _site


@pytest.fixture(scope="module")
def _site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    scratch = tmp_path_factory.mktemp("upgrade")
    objects, tool = programs.built(scratch), compiled(scratch)
    with ExitStack() as stack:
        one, other = (stack.enter_context(_node(lab)) for _ in range(2))
        pods = tuple(bench.pod(f"web-{i}") for bench in (one, other) for i in range(2))
        flows = [Way(pods[0], pods[1], 4), Way(pods[1], pods[0], 6)]
        flows += [Way(pods[0], pods[2], 6), Way(pods[3], pods[1], 4)]
        streams = [Way(pods[0], pods[1], 6), Way(pods[1], pods[2], 4)]
        load = stack.enter_context(Load(tool, flows=flows, streams=streams))
        yield Site((one, other), pods, load, objects)


@contextmanager
def _node(lab: Lab) -> Iterator[Bench]:
    with benches.bench(lab, ip_stack="dual", ip_cool_down="0s") as made:
        made.node.exec(["nft", "-f", "-"], stdin=INVALID, check=True)
        made.start()
        yield made


def test_killed_for_ten_seconds_and_back_with_other_programs(site: Site) -> None:
    """A DEL that nobody answers is asked for again, an ADD waits for the agent, and nothing is forgotten."""
    bench = site.benches[0]
    before = programs.running(bench.node)
    assert len(before) == 4, "a program per hook"
    leaving = bench.pod("leaving")
    with site.unharmed(), by_ebpf_alone(bench.node), ThreadPoolExecutor() as runtime:
        for one in site.benches:
            one.node.stop_agent(signal.SIGKILL)
        site.load.go_on(10.0)
        assert reaches(site.pods[0], str(site.pods[2].ipv4)), "new connections too"
        with pytest.raises(CniError, match="terwayd running"):
            site.lab.delete_pod(leaving)
        adding = runtime.submit(bench.pod, "late")
        for one in site.benches:
            site.start(one, "other")
        late = adding.result()
        site.lab.delete_pod(leaving)
    after = programs.running(bench.node)
    assert {name for name, _ in after} == {name for name, _ in before}
    assert not after & before, "every program is another one"
    site.agree()
    assert reaches(late, str(site.pods[3].ipv6))
    site.lab.delete_pod(late)


@pytest.mark.long
def test_a_hundred_swaps(site: Site) -> None:
    """By whatever opens the fast path in the node's namespaces, while no agent runs."""
    node = site.benches[0].node
    given = [programs.given_to(node, site.objects[name]) for name in ("other", "same")]
    with site.unharmed(), by_ebpf_alone(site.benches[0].node):
        node.stop_agent(signal.SIGKILL)
        assert programs.swapped(node, 100, *given) == 2
        site.start(site.benches[0])
    site.agree()


@pytest.mark.parametrize("build", ["layout 6", "layout 7"])
def test_a_layout_comes_and_goes(site: Site, build: str) -> None:
    """Rows and counts are there under the other layout, and of the old one nothing is left.

    Where rows of flows cannot be shared the stack carries everything while they are copied.
    """
    bench = site.benches[0]
    for wanted, version in ((build, build.split()[1]), ("", "3")):
        rows, counts = rows_of_pods(bench.node), _counts(site)
        unaware = by_ebpf_alone(bench.node) if build == "layout 6" else nullcontext()
        with site.unharmed(), unaware:
            site.restart(bench, wanted)
        assert {name.split("/")[0] for name in pins(bench.node)} == {"links", f"v{version}"}
        assert rows_of_pods(bench.node) == rows
        assert all(now > then for then, now in zip(counts, _counts(site), strict=True))
        site.agree()


def _counts(site: Site) -> list[int]:
    """Of the first node: packets of each pod, of the reason they mostly had, and its flows by the stack."""
    bench = site.benches[0]
    pods = [fast_packets(bench.node, pod) for pod in site.pods if pod.node.name == bench.node.name]
    return [*pods, evidence.reasons(bench.node)["pod_egress fast_local"]]


def test_off_and_on_by_an_operator(site: Site) -> None:
    node = site.benches[0].node

    def counted(reason: str) -> int:
        return evidence.reasons(node)[f"pod_egress {reason}"]

    with site.unharmed():
        for word, reason in (("off", "stack_off"), ("on", "fast_local"), ("off", "stack_off")):
            before, more = counted(reason), 1000
            node.exec(["terway-cli", "fastpath", word], check=True)
            if word == "on":  # what the stack has carried stays with it; what is new is fast
                assert reaches(site.pods[0], str(site.pods[1].ipv4))
                more = 0
            until(partial(counted, reason), partial(operator.lt, before + more))
        node.exec(["terway-cli", "fastpath", "on"], check=True)
    site.agree()


def test_off_and_on_by_a_pods_annotation(site: Site) -> None:
    pod = site.pods[0]
    path = f"/api/v1/namespaces/{pod.record.namespace}/pods/{pod.record.name}"
    with site.unharmed():
        for word in ("off", "on"):
            site.lab.kubernetes.request("PATCH", path, {"metadata": {"annotations": {ANNOTATION: word}}})
            until(lambda: rows_of_pods(pod.node)[str(pod.ipv6)].off, partial(operator.eq, word == "off"))
            site.load.go_on(1.0)
    site.agree()


def test_pods_come_and_go_beside(site: Site) -> None:
    bench = site.benches[0]
    going = bench.pod("going")
    with site.unharmed():
        coming = [bench.pod("coming-0")]
        site.lab.delete_pod(going)
        coming += [bench.pod(f"coming-{i}") for i in (1, 2)]
        assert reaches(coming[2], str(site.pods[3].ipv4))
    site.agree()
    for pod in coming:
        site.lab.delete_pod(pod)

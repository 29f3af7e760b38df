"""Services, node ports, host ports and masquerading beside the fast path, by each way of writing rules."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.client import Lab
from lab.spec import LabSpec, RuleSpec, SecurityGroupSpec
from tests.e2e import evidence
from tests.e2e.service_site import BEYOND, HOST_PORT, NODE_PORTS, VIPS, WRITERS, Site, site
from tests.e2e.services import PORT, TARGET
from tests.e2e.test_fastpath import asked, counted
from tests.e2e.witnesses import assert_agree
from tests.netns.fastpath.conversation import Place, converse

PROGRAMS = {
    "nft": "nftables",
    "iptables-nft": "iptables",
    "iptables-legacy": "iptables",
    "ip6tables-nft": "iptables",
    "ip6tables-legacy": "iptables",
}
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Whose security group lets the outside in."""
    missing = {PROGRAMS[name] for name in PROGRAMS if not shutil.which(name)}
    assert not missing, f"install the Debian packages {', '.join(sorted(missing))}"
    usual = LabSpec().groups[0]
    inward = tuple(RuleSpec("ingress", peer=str(network)) for network in BEYOND.values())
    group = SecurityGroupSpec(usual.group_id, (*usual.rules, *inward))
    with Lab.start(LabSpec(nodes=(), groups=(group,)), name="e2e-services") as running:
        yield running


@pytest.fixture(scope="module")
def _site(lab: Lab) -> Iterator[Site]:
    with site(lab) as made:
        yield made


@pytest.fixture(scope="module", params=WRITERS)
def served(_site: Site, request: pytest.FixtureRequest) -> Iterator[Site]:
    """With the rules of one writer. The fast path has never been off for them."""
    with _site.written(request.param):
        for bench in _site.nodes:
            assert asked(bench.node, "/mode")["in_force"]["bpf"], "kube-proxy's rules are no filter"
        yield _site
        for bench in _site.nodes:
            assert not asked(bench.node, "/mode")["because"]
            assert_agree(bench.lab, bench.node)


@pytest.fixture(autouse=True)
def _nothing_is_dropped(_site: Site) -> Iterator[None]:
    """By the fabric, of what the nodes send: a wrong address above all."""
    before = _site.drops()
    yield
    assert _site.drops() == before


@dataclass(frozen=True, slots=True)
class Case:
    """``client`` calls; ``server`` answers, and sees the client's address if it is ``kept``, else a node's.

    ``called`` is a service's name, or that of one with a node port, which is node A's, or "host port".
    """

    client: str
    called: str
    server: str
    kept: bool

    def place(self, served: Site, version: int) -> Place:
        if self.called in VIPS[version]:
            return Place(0, VIPS[version][self.called], PORT)
        port = HOST_PORT if self.called == "host port" else NODE_PORTS[self.called.removesuffix(" port")]
        return Place(0, served.address("A", version), port)


CASES = (
    Case("a", "here", "x", kept=True),
    Case("a", "there", "b", kept=True),
    Case("a", "itself", "a", kept=False),
    Case("b", "here", "x", kept=True),
    Case("A", "there", "b", kept=True),
    *(Case(client, "here port", "x", kept=False) for client in ("B", "outside", "b", "a", "x")),
    *(Case(client, "there port", "b", kept=False) for client in ("B", "outside", "b", "a")),
    *(Case(client, "local port", "x", kept=True) for client in ("B", "outside", "b", "a")),
    *(Case(client, "host port", "x", kept=True) for client in ("B", "outside", "b", "a")),
    Case("x", "host port", "x", kept=False),
)


def flows(served: Site) -> int:
    """Packets that were left to the stack because they answer what it had sent, on both nodes."""
    hooks = ("pod_egress", "eni_ingress")
    return sum(evidence.reasons(one.node)[f"{hook} stack_flow"] for one in served.nodes for hook in hooks)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.client}-{c.called.replace(' ', '-')}")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [4, 6])
def test_service(served: Site, case: Case, kind: str, version: int) -> None:
    """What is not masqueraded is answered to another address than the one that was called: by the stack."""
    server = Place(served.fds[case.server], served.address(case.server, version), TARGET)
    before = flows(served)
    seen = converse(served.fds[case.client], case.place(served, version), server, kind=KINDS[kind])
    assert (seen == str(served.address(case.client, version))) is case.kept
    if case.kept and case.client != "A":  # whose answers are for the node itself
        assert flows(served) - before >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [4, 6])
def test_the_way_out_with_the_nodes_address(served: Site, kind: str, version: int) -> None:
    server = Place(served.fds["outside"], served.address("outside", version), TARGET)
    seen = converse(served.fds["b"], server, server, kind=KINDS[kind])
    assert seen == str(served.address("B", version))


@pytest.mark.parametrize("server", ["x", "b"])
def test_pods_by_their_own_addresses_beside_the_rules(served: Site, server: str) -> None:
    for version in (4, 6):
        place = Place(served.fds[server], served.address(server, version), TARGET)
        for kind in KINDS.values():
            with counted(served.a.node, served.a, fast=True):
                assert converse(served.fds["a"], place, place, kind=kind) == str(served.address("a", version))

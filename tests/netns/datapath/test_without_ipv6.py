"""A kernel without IPv6 has no objects of it, and everything else works.

``python -m tests.vm.run --kernel 6.1 --append ipv6.disable=1 tests/netns/datapath/test_without_ipv6.py``
runs this on such a kernel. Elsewhere the kernel's answers are stood in for, as that one has been seen to give
them: ``test_the_kernel_says_so`` holds them against the real one wherever there is one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from pyroute2 import IPRoute

from datapath import namespace, sysctl
from datapath.endpoint import Endpoint, EniLink, Mode
from datapath.errors import KernelError
from datapath.netlink import address, neighbour, route, rule
from datapath.netlink.address import Assigned
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import Path as Question
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Kind, Message, Request
from datapath.node_datapath import NodeDatapath
from datapath.pod.names import host_link_name
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import policy_route, shared

HOST, OUTSIDE = IPv4Address("10.0.0.10"), IPv4Address("203.0.113.10")
SIX = IPv6Address("2001:db8::5")
ENI = EniLink("00:16:3e:00:00:11", IPv4Address("10.0.1.253"), IPv6Address("2001:db8::fffd"))
ANSWERS = {
    Kind.GETRULE: errno.EAFNOSUPPORT,
    Kind.NEWRULE: errno.EAFNOSUPPORT,
    Kind.DELRULE: errno.EAFNOSUPPORT,
    Kind.NEWNEIGH: errno.EAFNOSUPPORT,
    Kind.DELNEIGH: errno.EAFNOSUPPORT,
    Kind.NEWROUTE: errno.EOPNOTSUPP,
    Kind.DELROUTE: errno.EOPNOTSUPP,
    Kind.GETROUTE: errno.EOPNOTSUPP,
    Kind.NEWADDR: errno.EOPNOTSUPP,
    Kind.DELADDR: errno.EOPNOTSUPP,
}
"""To requests of the family. Who asks for a list of its routes gets those of IPv4."""
REAL = not os.path.isdir("/proc/sys/net/ipv6")


class Answering(Socket):
    """As the socket of a kernel without IPv6."""

    def transact(self, *requests: Request) -> list[Message | None]:
        answers: list[Message | None] = []
        failed: KernelError | None = None
        for request in requests:
            if request.body[0] != AF_INET6 or request.kind not in ANSWERS:
                answers.extend(super().transact(request))
                continue
            answers.append(None)
            number = ANSWERS[Kind(request.kind)]
            if number not in request.done_if and failed is None:
                failed = KernelError(request.verb, errno=number, object=str(request.subject))
        if failed is not None:
            raise failed
        return answers

    def dump(self, request: Request) -> list[Message]:
        if request.body[0] != AF_INET6 or request.kind != Kind.GETRULE:
            family = bytes([AF_INET]) if request.body[0] == AF_INET6 else request.body[:1]
            return super().dump(replace(request, body=family + request.body[1:]))
        if errno.EAFNOSUPPORT in request.done_if:
            return []
        raise KernelError(request.verb, errno=errno.EAFNOSUPPORT, object=str(request.subject))


@pytest.fixture(autouse=True)
def _without_ipv6(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if REAL:
        return
    for module in ("datapath.netlink.socket", "datapath.pod.inside", "datapath.pod.reaper"):
        monkeypatch.setattr(f"{module}.Socket", Answering)
    (tmp_path / "ipv4").symlink_to("/proc/sys/net/ipv4")
    monkeypatch.setattr(sysctl, "_net", f"{tmp_path}/")


class Net:
    """node ── eth0, eni1 ── router, which has 203.0.113.10."""

    def __init__(self) -> None:
        self.node, self.router, self.pod = namespace.new(), namespace.new(), namespace.new()
        with namespace.entered(self.node), IPRoute() as reader:
            _link(reader, "eth0", "00:16:3e:00:00:10", self.router)
            _link(reader, "eni1", ENI.mac, self.router)
            (eth0,) = reader.link_lookup(ifname="eth0")
            reader.link("set", index=eth0, state="up")
            reader.addr("add", index=eth0, address=str(HOST), prefixlen=24)
        with namespace.entered(self.router), IPRoute() as reader:
            sysctl.write("net/ipv4/conf/all/forwarding", "1")
            for name, mine in (("eth0", "10.0.0.253"), ("eni1", str(ENI.gateway))):
                (index,) = reader.link_lookup(ifname=name)
                reader.link("set", index=index, state="up")
                reader.addr("add", index=index, address=mine, prefixlen=32)
            reader.neigh("add", dst="169.254.9.1", lladdr=ENI.mac, ifindex=index, state="permanent")
            reader.route("add", dst="10.0.1.0/24", gateway="169.254.9.1", oif=index, flags=["onlink"])
            reader.link("set", index=1, state="up")
            reader.addr("add", index=1, address=str(OUTSIDE), prefixlen=32)

    def close(self) -> None:
        for one in (self.node, self.router, self.pod):
            os.close(one)


def _link(reader: Any, name: str, mac: str, router: int) -> None:
    reader.link("add", ifname=name, kind="veth", address=mac, peer={"ifname": name, "net_ns_fd": router})


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    yield made
    made.close()


@pytest.fixture
def mode(net: Net) -> Iterator[NodeDatapath]:
    made = NodeDatapath(net.node)
    made.prepare((HOST,))
    made.prepare_uplink(shared(ENI))
    yield made
    made.close()


POD = Endpoint(
    host_link=host_link_name("default", "web", "eth0"),
    ifname="eth0",
    container_id="c1",
    mode=Mode.POLICY_ROUTE,
    uplink=shared(ENI),
    ipv4=IPv4Address("10.0.1.5"),
)
DUAL = replace(POD, ipv6=SIX)


def test_it_is_known(mode: NodeDatapath) -> None:
    assert not mode.has_ipv6()


def test_a_pod_from_its_beginning_to_its_end(net: Net, mode: NodeDatapath) -> None:
    mode.setup(POD, net.pod)
    assert exchange(net.pod, net.router, OUTSIDE) == str(POD.ipv4)
    assert mode.check(POD, net.pod) == ()
    assert mode.repair([POD]) == ()
    mode.teardown(POD, None)
    mode.flush()
    assert policy_route(mode).observe().links == ()
    mode.teardown(POD, None)


def test_dual_stack_is_refused_by_a_clear_sentence(net: Net, mode: NodeDatapath) -> None:
    with pytest.raises(KernelError, match=r"this kernel has no IPv6.*set ip_stack to ipv4"):
        mode.setup(DUAL, net.pod)
    assert policy_route(mode).observe().links == ()


def test_what_the_ledger_still_knows_of_ipv6_is_left_out(net: Net, mode: NodeDatapath) -> None:
    """Written before the node was started without it."""
    mode.setup(POD, net.pod)
    assert mode.repair([DUAL]) == ()
    assert mode.check(DUAL, net.pod) == ()
    with namespace.entered(net.node), IPRoute() as reader:
        reader.flush_routes(table=512, family=2)
    assert len(mode.repair([DUAL])) == 1
    assert exchange(net.pod, net.router, OUTSIDE) == str(POD.ipv4)
    mode.teardown(DUAL, None)
    mode.teardown(DUAL, None)


def test_an_eni_goes_and_comes(net: Net, mode: NodeDatapath) -> None:
    mode.forget_uplink(ENI.mac)
    mode.forget_uplink(ENI.mac)
    mode.prepare_uplink(shared(ENI))
    mode.setup(POD, net.pod)
    assert exchange(net.pod, net.router, OUTSIDE) == str(POD.ipv4)


def test_the_guard_stands(mode: NodeDatapath) -> None:
    assert mode.guard.lacking == ""


def test_the_kernel_says_so(net: Net) -> None:
    """What is stood in for elsewhere."""
    wide = ip_network("2001:db8::5/128")
    requests = (
        rule.add(Rule(AF_INET6, 512, 512)),
        rule.delete(Rule(AF_INET6, 512, 512)),
        neighbour.add(Neighbour(SIX, ENI.mac, 1)),
        neighbour.delete(Neighbour(SIX, ENI.mac, 1)),
        route.add(Route(wide, 1)),
        route.delete(Route(wide, 1)),
        route.lookup(Question(SIX)),
        address.add(Assigned(SIX, 128, 1)),
        address.delete(Assigned(SIX, 128, 1)),
    )
    made = Socket(net.node) if REAL else Answering(net.node)
    with made as asking:
        for request in requests:
            with pytest.raises(KernelError) as caught:
                asking.one(replace(request, done_if=frozenset()))
            assert caught.value.errno == ANSWERS[Kind(request.kind)], request.verb
        assert rule.list_all(asking, AF_INET6) == []
        assert route.list_table(asking, AF_INET6, 254) == []
    with namespace.entered(net.node):
        assert not os.path.isdir(sysctl.path("net/ipv6/conf"))

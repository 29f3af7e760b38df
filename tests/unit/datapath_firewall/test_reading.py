"""Messages of nf_tables over a kernel that answers what the test says."""

from __future__ import annotations

import struct

import pytest

from datapath.errors import KernelError
from datapath.firewall import firewall as front
from datapath.firewall import nft
from datapath.firewall.blob import Blob
from datapath.firewall.nft import Nft, NftReader
from datapath.firewall.rule import Base, Chain, Family, Names, Rule, Source, Table
from datapath.netlink import wire
from datapath.netlink.wire import Message, Request
from tests.unit.datapath_firewall.written import u32


class Kernel:
    """In place of the socket."""

    def __init__(self) -> None:
        self.answers: dict[int, list[bytes]] = {}

    def dump(self, request: Request) -> list[Message]:
        return [Message(0, 0, 0, body) for body in self.answers.get(request.kind & 0xFF, [])]

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(nft, "open_netfilter", lambda _netns: made)
    return made


def chain(family: int, hook: int, devices: bytes = b"") -> bytes:
    names = wire.attribute_text(1, "t") + wire.attribute_text(3, "c")
    return struct.pack("=BBH", family, 0, 0) + names + wire.nested(4, u32(1, hook), devices) + u32(5, 1)


def test_hooks_that_forwarded_packets_come_to(kernel: Kernel) -> None:
    inet, ip, netdev, bridge = 1, 2, 5, 7
    kernel.answers[Nft.GETCHAIN] = [
        chain(family, hook) for family in (inet, ip, netdev, bridge) for hook in range(6)
    ]
    found = [(one.chain.table.family, one.drops) for one in NftReader().bases()]
    assert found == [(Family.INET, False)] * 4 + [(Family.IP, False)] * 3 + [(Family.NETDEV, False)] * 2


def test_devices_by_name_and_by_prefix(kernel: Kernel) -> None:
    """Prefixes are of Linux 6.16, in two forms; before 5.5 there was one device, by another attribute."""
    kernel.answers[Nft.GETCHAIN] = [
        chain(5, 0, wire.nested(4, wire.attribute_text(1, "eth1"), wire.attribute_text(2, "cali"))),
        chain(5, 0, wire.nested(4, wire.attribute(1, b"cali"))),
        chain(5, 0),
        chain(5, 0, wire.attribute_text(3, "eth1")),
    ]
    named = Chain(Table(Source.NFT, Family.NETDEV, "t"), "c")
    assert NftReader().bases() == [
        Base(named, drops=False, devices=(Names("eth1"), Names("cali", prefix=True))),
        Base(named, drops=False, devices=(Names("cali", prefix=True),)),
        Base(named, drops=False, devices=()),
        Base(named, drops=False, devices=(Names("eth1"),)),
    ]


def test_a_kernel_without_nf_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "open_netfilter", lambda _netns: None)
    reader = NftReader()
    assert reader.generation() is None
    assert reader.bases() == []
    reader.close()


class Restless:
    """In place of ``NftReader``: another generation at each question, ``times`` times."""

    def __init__(self, times: int) -> None:
        self.times, self.number, self.read = times, 0, 0

    def generation(self) -> int:
        self.number += self.number < self.times
        return self.number

    def bases(self) -> list[Base]:
        self.read += 1
        return []

    def rules(self, chain: Chain) -> list[Rule]:
        raise AssertionError(f"there is no {chain}")

    def close(self) -> None:
        pass


class Still:
    """In place of the events and of iptables-legacy: nothing, or a refusal."""

    refuses = False

    def read(self) -> bool:
        return False

    def tables(self) -> list[Blob]:
        if self.refuses:
            raise PermissionError(1, "no")
        return []

    def close(self) -> None:
        pass


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Still:
    made = Still()
    monkeypatch.setattr(front, "Watch", lambda _netns: made)
    monkeypatch.setattr(front, "XtablesReader", lambda _netns: made)
    return made


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(("times", "reads"), [(1, 1), (2, 2), (1000, 3)])
def test_a_reading_that_was_disturbed_is_repeated(
    monkeypatch: pytest.MonkeyPatch, times: int, reads: int
) -> None:
    reader = Restless(times)
    monkeypatch.setattr(front, "NftReader", lambda _netns: reader)
    with front.Firewall() as firewall:
        assert firewall.obstacles() == ()
        assert reader.read == reads


@pytest.mark.usefixtures("still")
def test_nothing_is_read_twice_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Restless(1)
    monkeypatch.setattr(front, "NftReader", lambda _netns: reader)
    with front.Firewall() as firewall:
        for _ in range(5):
            firewall.obstacles()
        assert reader.read == 1
        firewall.obstacles(devices=frozenset({"eth1"}))
        assert reader.read == 2


def test_a_refusal_is_of_one_kind(monkeypatch: pytest.MonkeyPatch, still: Still) -> None:
    monkeypatch.setattr(front, "NftReader", lambda _netns: Restless(1))
    still.refuses = True
    with front.Firewall() as firewall, pytest.raises(KernelError, match="packet filters"):
        firewall.obstacles()

"""What every Metadata shows of a node, and when."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from control.model.cloud import Eni
from control.model.ids import ClientToken, Mac
from tests.contract.cloud.bench import NODE, PODS, Bench, creation, on_a_loop

UNKNOWN = Mac("00:16:3e:ff:ff:ff")


async def attached(bench: Bench, *, ipv4: int = 1, ipv6: int = 0) -> Eni:
    eni = await bench.cloud.create_eni(creation(ipv4=ipv4, ipv6=ipv6))
    await bench.cloud.attach_eni(eni.eni_id, NODE.instance_id)
    return eni


@on_a_loop
async def test_the_node(bench: Bench) -> None:
    assert await bench.metadata.identity() == NODE


@on_a_loop
async def test_macs_are_those_of_attached_enis(bench: Bench) -> None:
    assert await bench.metadata.macs() == {NODE.mac}
    await bench.cloud.create_eni(creation(token="not-attached"))
    eni = await attached(bench)
    assert await bench.metadata.macs() == {NODE.mac, eni.mac}
    await bench.cloud.detach_eni(eni.eni_id, NODE.instance_id)
    assert await bench.metadata.macs() == {NODE.mac}


@on_a_loop
async def test_an_eni(bench: Bench) -> None:
    eni = await attached(bench, ipv4=3, ipv6=2)
    shown = await bench.metadata.eni(eni.mac, ipv6=True)
    assert shown is not None
    assert (shown.eni_id, shown.mac, shown.vswitch_id) == (eni.eni_id, eni.mac, PODS)
    assert (shown.primary_ip, shown.ipv4) == (eni.primary_ip, frozenset(eni.ipv4))
    assert (shown.cidr, shown.gateway) == (IPv4Network("10.0.16.0/20"), IPv4Address("10.0.31.253"))
    assert shown.ipv6 == frozenset(eni.ipv6)
    assert shown.cidr_v6 == IPv6Network("2001:db8:10:1::/64")
    assert shown.gateway_v6 == IPv6Address("2001:db8:10:1:ffff:ffff:ffff:fffd")


@on_a_loop
async def test_an_eni_without_its_ipv6_side(bench: Bench) -> None:
    eni = await attached(bench, ipv6=1)
    shown = await bench.metadata.eni(eni.mac, ipv6=False)
    assert shown is not None
    assert (shown.ipv6, shown.cidr_v6, shown.gateway_v6) == (frozenset(), None, None)


@on_a_loop
async def test_addresses_follow_assignments(bench: Bench) -> None:
    eni = await attached(bench, ipv4=2)
    v4 = await bench.cloud.assign_ipv4(eni.eni_id, 2, ClientToken("v4"))
    v6 = await bench.cloud.assign_ipv6(eni.eni_id, 1, ClientToken("v6"))
    assert await bench.metadata.addresses(eni.mac) == {*eni.ipv4, *v4}
    assert await bench.metadata.addresses_v6(eni.mac) == set(v6)
    await bench.cloud.unassign_ipv4(eni.eni_id, v4)
    await bench.cloud.unassign_ipv6(eni.eni_id, v6)
    assert await bench.metadata.addresses(eni.mac) == set(eni.ipv4)
    assert await bench.metadata.addresses_v6(eni.mac) == frozenset()


@on_a_loop
async def test_an_unknown_mac_has_nothing(bench: Bench) -> None:
    assert await bench.metadata.eni(UNKNOWN, ipv6=True) is None
    assert await bench.metadata.addresses(UNKNOWN) == frozenset()
    assert await bench.metadata.addresses_v6(UNKNOWN) == frozenset()


@on_a_loop
async def test_the_view_lags(bench: Bench) -> None:
    bench.lag(attach=0, metadata=30)
    eni = await attached(bench, ipv4=2)
    assert await bench.metadata.eni(eni.mac, ipv6=False) is None
    assert eni.mac not in await bench.metadata.macs()
    bench.advance(31)
    assert eni.mac in await bench.metadata.macs()
    given = await bench.cloud.assign_ipv4(eni.eni_id, 1, ClientToken("later"))
    assert await bench.metadata.addresses(eni.mac) == set(eni.ipv4)
    bench.advance(31)
    assert await bench.metadata.addresses(eni.mac) == {*eni.ipv4, *given}

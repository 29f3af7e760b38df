"""From endpoint to objects, and the numbers of the layout."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from datapath.endpoint import Endpoint, EniLink, Mode, SharedEni
from datapath.modes.policy_route import layout
from datapath.modes.policy_route.plan import Place, plan, proofs, upstream_rule
from datapath.pod import names

ENI = EniLink("00:16:3e:00:00:11", IPv4Address("10.0.0.253"), IPv6Address("2001:db8::fffd"))
DUAL = Endpoint(
    host_link="cali0",
    ifname="eth0",
    container_id="c1",
    mode=Mode.POLICY_ROUTE,
    uplink=SharedEni("eni-1", ENI),
    ipv4=IPv4Address("10.0.0.5"),
    ipv6=IPv6Address("2001:db8::5"),
)
PLACE = Place(host=7, pod=2, eni=3, host_mac="02:00:00:00:00:01", pod_mac="02:00:00:00:00:02")


def texts(objects: tuple[object, ...]) -> list[str]:
    return [str(one) for one in objects]


def test_dual_stack() -> None:
    made = plan(DUAL, PLACE)
    assert texts(made.host_routes) == [
        "10.0.0.5/32 dev cali0 table 512",
        "2001:db8::5/128 dev cali0 table 512",
    ]
    assert texts(made.host_rules) == [
        "2048: from 10.0.0.5/32 lookup 1003",
        "2048: from 2001:db8::5/128 lookup 1003 (IPv6)",
    ]
    assert texts(made.host_neighbours) == [
        "10.0.0.5 lladdr 02:00:00:00:00:02 dev cali0",
        "2001:db8::5 lladdr 02:00:00:00:00:02 dev cali0",
    ]
    assert texts(made.pod_addresses) == ["10.0.0.5/32 dev eth0", "2001:db8::5/128 dev eth0"]
    assert texts(made.pod_neighbours) == [
        "169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0",
        "fe80::1 lladdr 02:00:00:00:00:01 dev eth0",
    ]
    assert texts(made.pod_routes) == [
        "0.0.0.0/0 via 169.254.1.1 dev eth0 table 254",
        "::/0 via fe80::1 dev eth0 table 254",
    ]
    assert texts(made.host_addresses) == ["fe80::1/128 dev cali0"]
    assert {one.oif for one in made.host_routes} == {PLACE.host}
    assert {one.index for one in made.pod_addresses} == {PLACE.pod}


def test_one_family() -> None:
    made = plan(replace(DUAL, ipv6=None), PLACE)
    everything = (
        *made.host_addresses,
        *made.host_routes,
        *made.host_rules,
        *made.pod_routes,
        *made.pod_neighbours,
    )
    assert not any("::" in text for text in texts(everything))
    only_6 = plan(replace(DUAL, ipv4=None), PLACE)
    assert texts(only_6.pod_routes) == ["::/0 via fe80::1 dev eth0 table 254"]


def test_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="no address"):
        plan(replace(DUAL, ipv4=None, ipv6=None), PLACE)


def test_extra_routes_follow_the_route_to_their_gateway() -> None:
    extra = (ip_network("192.168.0.0/16"), ip_network("fd00::/8"))
    made = plan(replace(DUAL, default_route=False, extra_routes=extra), PLACE)
    assert texts(made.pod_routes) == [
        "169.254.1.1/32 dev eth0 table 254",
        "192.168.0.0/16 via 169.254.1.1 dev eth0 table 254",
        "fd00::/8 via fe80::1 dev eth0 table 254",
    ]
    assert texts(made.host_addresses) == ["169.254.1.1/32 dev cali0", "fe80::1/128 dev cali0"]


def test_extra_route_of_a_family_the_pod_lacks_is_left_out() -> None:
    made = plan(replace(DUAL, ipv6=None, extra_routes=(ip_network("fd00::/8"),)), PLACE)
    assert texts(made.pod_routes) == ["0.0.0.0/0 via 169.254.1.1 dev eth0 table 254"]


def test_proofs_ask_both_ways() -> None:
    asked = proofs(DUAL, PLACE)
    assert [(str(one.path), one.oif) for one in asked] == [
        ("to 10.0.0.5", 7),
        ("to 10.0.0.253 from 10.0.0.5 coming in by link 7", 3),
        ("to 2001:db8::5", 7),
        ("to 2001:db8::fffd from 2001:db8::5 coming in by link 7", 3),
    ]
    without = replace(DUAL, uplink=SharedEni("eni-1", replace(ENI, gateway_v6=None)))
    assert len(proofs(without, PLACE)) == 3


def test_upstream_rule() -> None:
    assert str(upstream_rule(IPv4Address("10.0.0.5"))) == "512: from all to 10.0.0.5/32 lookup 254"


def test_macs_are_local_unicast_and_told_apart() -> None:
    macs = [names.host_mac("c1", "eth0"), names.pod_mac("c1", "eth0"), names.host_mac("c2", "eth0")]
    macs += [names.host_mac("c1", "net1")]
    assert len(set(macs)) == len(macs)
    assert names.host_mac("c1", "eth0") == macs[0]
    for mac in macs:
        assert int(mac[:2], 16) & 3 == 2, mac


def test_names_and_tables() -> None:
    assert len(names.doomed_name(2**31 - 1)) <= 15
    assert layout.eni_table(3) == 1003
    taken = {100, 253, 254, 255, *range(1000, 70000)}
    assert layout.TABLE_PODS not in taken

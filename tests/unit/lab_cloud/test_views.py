"""Every view lags behind the write by a delay of its own, and only by that. Field failures 13 and 15."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from lab.cloud.state import CloudState
from lab.fabric.view import FabricView, Port
from lab.spec import Assumptions, NodeSpec, RuleSpec, gateway_of
from tests.unit.lab_cloud.bench import Bench


def _port(view: FabricView, eni_id: str) -> Port | None:
    return next((port for port in view.ports if port.port_id == eni_id), None)


def test_describe_shows_the_past(cloud: Bench) -> None:
    cloud.state.set_delays(describe=60.0)
    eni = cloud.create().network_interface_id
    assert cloud.status(eni) is None
    cloud.clock.advance(60)
    assert cloud.status(eni) == "Available"
    cloud.attach(eni)
    cloud.assign(eni, 2)
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.status, len(seen.private_ip_sets.private_ip_set)) == ("Available", 1)
    cloud.clock.advance(60)
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.status, len(seen.private_ip_sets.private_ip_set)) == ("InUse", 3)
    cloud.detach(eni)
    cloud.delete(eni)
    assert cloud.status(eni) == "InUse"
    cloud.clock.advance(60)
    assert cloud.status(eni) is None


def test_a_delay_can_change_at_any_time(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    assert cloud.status(eni) == "Available"
    cloud.state.set_delays(describe=3600.0)
    assert cloud.status(eni) is None
    cloud.state.set_delays(describe=0.0)
    assert cloud.status(eni) == "Available"


def test_metadata_lags_by_its_own(cloud: Bench) -> None:
    cloud.state.set_delays(metadata=60.0)
    made = cloud.create()
    cloud.attach(made.network_interface_id)
    macs = "network/interfaces/macs/"
    assert made.mac_address not in cloud.meta(macs)
    cloud.clock.advance(60)
    assert f"{made.mac_address}/" in cloud.meta(macs).split("\n")
    (given,) = cloud.assign(made.network_interface_id, 1)
    assert given not in cloud.meta(f"{macs}{made.mac_address}/private-ipv4s")
    cloud.clock.advance(60)
    assert given in cloud.meta(f"{macs}{made.mac_address}/private-ipv4s")
    cloud.detach(made.network_interface_id)
    assert made.mac_address in cloud.meta(macs)
    cloud.clock.advance(60)
    assert made.mac_address not in cloud.meta(macs)


def test_devices_come_and_go_with_the_device_delay(cloud: Bench) -> None:
    cloud.state.set_delays(device=30.0, attach=100.0)
    eni = cloud.create().network_interface_id
    cloud.attach(eni)
    assert _port(cloud.state.fabric_view(), eni) is None
    cloud.clock.advance(30)
    port = _port(cloud.state.fabric_view(), eni)
    assert port is not None
    assert (port.owner, port.device) == ("node1", "")
    cloud.clock.advance(70)
    cloud.detach(eni)
    assert _port(cloud.state.fabric_view(), eni) == port
    cloud.clock.advance(30)
    assert _port(cloud.state.fabric_view(), eni) is None


def test_the_fabric_learns_addresses_with_a_delay_of_its_own(cloud: Bench) -> None:
    made = cloud.create()
    eni = made.network_interface_id
    cloud.attach(eni)
    cloud.state.set_delays(fabric=60.0)
    cloud.clock.advance(60)
    (given,) = cloud.assign(eni, 1)

    def delivered() -> frozenset[object]:
        port = _port(cloud.state.fabric_view(), eni)
        assert port is not None
        return frozenset(port.addresses)

    first, second = IPv4Address(made.private_ip_address), IPv4Address(given)
    assert delivered() == {first}
    cloud.clock.advance(60)
    assert delivered() == {first, second}
    cloud.unassign(eni, given)
    assert delivered() == {first, second}
    cloud.clock.advance(60)
    assert delivered() == {first}


def test_the_fabric_at_the_start(state: CloudState) -> None:
    view = state.fabric_view()
    assert [(p.port_id, p.owner, p.device) for p in view.ports] == [
        ("eni-node1", "node1", "eth0"),
        ("eni-node2", "node2", "eth0"),
        ("eni-small", "small", "eth0"),
    ]
    assert {len(port.addresses) for port in view.ports} == {2}
    assert {port.groups for port in view.ports} == {frozenset({"sg-cluster"})}
    assert len(view.subnets) == 5
    assert all(subnet.gateway == gateway_of(subnet.cidr) for subnet in view.subnets)
    assert view.vpc == (state.spec.cidr, state.spec.cidr_v6)


def test_a_new_instance_is_on_the_fabric_at_once(state: CloudState) -> None:
    state.set_delays(device=60.0, fabric=60.0, metadata=60.0, describe=60.0)
    instance = state.add_instance(NodeSpec("late"))
    port = _port(state.fabric_view(), "eni-late")
    assert port is not None
    assert len(port.addresses) == 2
    state.remove_instance(instance)
    assert _port(state.fabric_view(), "eni-late") is None


def test_group_rules_reach_the_fabric_with_its_delay(cloud: Bench) -> None:
    rule = RuleSpec("ingress", protocol="TCP", ports=(80, 80))

    def rules() -> tuple[RuleSpec, ...]:
        groups = {group.group_id: group for group in cloud.state.fabric_view().groups}
        return groups["sg-other"].rules

    cloud.state.set_delays(fabric=60.0)
    cloud.state.edit_group("sg-other", add=(rule,))
    assert rules() == ()
    cloud.clock.advance(60)
    assert rules() == (rule,)


def test_next_change_names_each_time_at_which_a_view_changes(cloud: Bench) -> None:
    """Who sleeps until then, looks, and asks again sees every change and is never woken in vain."""
    cloud.state.set_delays(attach=100.0, describe=7.0, metadata=11.0, device=13.0, fabric=17.0)
    eni = cloud.create().network_interface_id
    cloud.clock.advance(1000)
    assert cloud.state.next_change(cloud.clock.now()) is None
    cloud.attach(eni)
    written = cloud.clock.now()
    at = written
    seen = []
    while (following := cloud.state.next_change(at)) is not None:
        assert following > at
        seen.append(round(following - written))
        at = following
    assert seen == [7, 11, 13, 17, 100, 107, 111, 113, 117]


def test_listeners_hear_of_every_write_and_may_look(state: CloudState) -> None:
    heard: list[int] = []
    state.on_change(lambda: heard.append(len(state.fabric_view().ports)))
    state.add_instance(NodeSpec("late"))
    assert heard == [4]
    state.fabric_view()
    state.describe_state()
    assert len(heard) == 1
    state.remove_instance("i-late")
    assert heard == [4, 3]


def _trunk_and_member(cloud: Bench) -> tuple[str, str]:
    trunk = cloud.create(instance_type="Trunk").network_interface_id
    cloud.attach(trunk)
    cloud.clock.advance(1000)
    member = cloud.create(security_group_id="sg-other").network_interface_id
    cloud.attach(member, trunk_network_instance_id=trunk)
    return trunk, member


def test_a_members_tag_is_known_when_it_is_in_use_and_the_device_delay_has_passed(cloud: Bench) -> None:
    cloud.state.set_delays(device=30.0, attach=100.0)
    trunk, member = _trunk_and_member(cloud)
    cloud.clock.advance(100)
    assert cloud.status(member) == "InUse"
    assert _port(cloud.state.fabric_view(), member) is None
    cloud.clock.advance(30)
    port, device = (_port(cloud.state.fabric_view(), eni) for eni in (member, trunk))
    assert port is not None
    assert device is not None
    assert (port.owner, port.device, port.trunk, port.vlan) == ("node1", "", trunk, 1)
    assert (port.mac, port.groups) == (device.mac, frozenset({"sg-other"}))
    assert port.addresses.isdisjoint(device.addresses)
    cloud.detach(member, trunk_network_instance_id=trunk)
    cloud.clock.advance(29)
    assert _port(cloud.state.fabric_view(), member) == port
    cloud.clock.advance(1)
    assert _port(cloud.state.fabric_view(), member) is None
    assert _port(cloud.state.fabric_view(), trunk) == device


def test_a_vlan_that_is_used_again_never_has_two_members(cloud: Bench) -> None:
    """Whoever is given it comes after the one before has gone from the fabric, whatever the delays."""
    cloud.state.set_delays(device=500.0, attach=10.0)
    trunk, first = _trunk_and_member(cloud)
    cloud.clock.advance(1000)
    cloud.detach(first, trunk_network_instance_id=trunk)
    cloud.clock.advance(10)
    second = cloud.create().network_interface_id
    cloud.attach(second, trunk_network_instance_id=trunk)
    for _ in range(120):
        ports = [p for p in cloud.state.fabric_view().ports if p.trunk]
        assert len({port.vlan for port in ports}) == len(ports)
        cloud.clock.advance(5)
    assert [p.port_id for p in cloud.state.fabric_view().ports if p.trunk] == [second]


def test_a_members_own_mac_if_the_spec_assumes_it(cloud: Bench) -> None:
    assumptions = Assumptions(members_use_trunk_mac=False)
    cloud.state.spec = replace(cloud.state.spec, assumptions=assumptions)
    _, member = _trunk_and_member(cloud)
    (seen,) = cloud.describe(network_interface_id=[member])
    port = _port(cloud.state.fabric_view(), member)
    assert port is not None
    assert port.mac == seen.mac_address


def test_the_address_check_reaches_the_fabric_with_its_delay(cloud: Bench) -> None:
    def forwards() -> bool:
        port = _port(cloud.state.fabric_view(), eni)
        assert port is not None
        return port.forwards

    eni = cloud.create(source_dest_check=False).network_interface_id
    cloud.attach(eni)
    assert forwards()
    cloud.state.set_delays(fabric=60.0)
    cloud.clock.advance(60)
    cloud.modify(eni, source_dest_check=True)
    assert forwards()
    cloud.clock.advance(60)
    assert not forwards()

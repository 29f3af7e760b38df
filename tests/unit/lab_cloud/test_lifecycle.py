"""Create, attach, detach, delete and modify, through the ECS SDK; every error that their state can give."""

from __future__ import annotations

from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs

from lab.spec import NodeSpec
from tests.unit.lab_cloud.bench import REGION, ZONE_B_VSWITCH, Bench, Refusal, refusal


def test_create_gives_addresses_mac_tags_and_is_available(cloud: Bench) -> None:
    before = cloud.state.current.available("vsw-pods")
    made = cloud.create(
        secondary_private_ip_address_count=3,
        ipv_6address_count=2,
        description="interface create by terway",
        tag=[ecs.CreateNetworkInterfaceRequestTag(key="creator", value="terway")],
    )
    addresses = [entry.private_ip_address for entry in made.private_ip_sets.private_ip_set]
    assert addresses[0] == made.private_ip_address
    assert len(set(addresses)) == 4
    assert [e.primary for e in made.private_ip_sets.private_ip_set] == [True, False, False, False]
    assert len(made.ipv_6sets.ipv_6set) == 2
    assert made.mac_address.startswith("00:16:3e:")
    assert made.request_id == made.request_id.upper()
    (seen,) = cloud.describe(tag=[ecs.DescribeNetworkInterfacesRequestTag(key="creator", value="terway")])
    assert (seen.network_interface_id, seen.status, seen.type) == (
        made.network_interface_id,
        "Available",
        "Secondary",
    )
    assert seen.security_group_ids.security_group_id == ["sg-cluster"]
    assert cloud.state.current.available("vsw-pods") == before - 4


def test_a_whole_life(cloud: Bench) -> None:
    """With times of its own for each step; only the clock moves the status on."""
    cloud.state.set_delays(create=30.0, attach=60.0, delete=90.0)
    free = cloud.state.current.available("vsw-pods")
    eni = cloud.create(secondary_private_ip_address_count=1).network_interface_id
    assert cloud.status(eni) == "Creating"
    cloud.clock.advance(30)
    assert cloud.status(eni) == "Available"
    cloud.attach(eni)
    assert cloud.status(eni) == "Attaching"
    cloud.clock.advance(60)
    (seen,) = cloud.describe(instance_id="i-node1", type="Secondary")
    assert (seen.status, seen.attachment.instance_id) == ("InUse", "i-node1")
    cloud.detach(eni)
    assert cloud.status(eni) == "Detaching"
    cloud.clock.advance(60)
    assert cloud.status(eni) == "Available"
    assert cloud.describe(instance_id="i-node1", type="Secondary") == []
    cloud.delete(eni)
    assert cloud.status(eni) == "Deleting"
    with cloud.state.transaction(writes=False):
        assert cloud.state.current.available("vsw-pods") == free - 2
    cloud.clock.advance(90)
    assert cloud.status(eni) is None
    with cloud.state.transaction(writes=False):
        assert cloud.state.current.available("vsw-pods") == free


def test_explicit_addresses(cloud: Bench) -> None:
    made = cloud.create(primary_ip_address="10.0.20.9", private_ip_address=["10.0.20.1", "10.0.20.2"])
    addresses = [entry.private_ip_address for entry in made.private_ip_sets.private_ip_set]
    assert addresses == ["10.0.20.9", "10.0.20.1", "10.0.20.2"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"vswitch": "vsw-nowhere"}, Refusal("InvalidVSwitchId.NotFound", 404)),
        ({"vswitch": ""}, Refusal("MissingParameter", 400)),
        ({"security_group_id": "sg-nobody"}, Refusal("InvalidSecurityGroupId.NotFound", 404)),
        ({"security_group_id": None}, Refusal("MissingParameter", 400)),
        ({"security_group_ids": ["sg-other"]}, Refusal("InvalidParameter", 400)),
        ({"secondary_private_ip_address_count": 50}, Refusal("InvalidParameter", 400)),
        ({"ipv_6address_count": 11}, Refusal("InvalidParameter", 400)),
        ({"instance_type": "Primary"}, Refusal("InvalidParameter", 400)),
        ({"primary_ip_address": "10.0.1.1"}, Refusal("InvalidVSwitchId.IpInvalid", 403)),
        ({"primary_ip_address": "10.0.31.253"}, Refusal("InvalidVSwitchId.IpInvalid", 403)),
        ({"primary_ip_address": "ten"}, Refusal("InvalidIp.Address", 403)),
        ({"private_ip_address": ["10.0.20.1", "10.0.20.1"]}, Refusal("InvalidIp.IpRepeated", 403)),
        ({"vswitch": ZONE_B_VSWITCH, "ipv_6address_count": 1}, Refusal("InvalidVSwitch.Ipv6NotTurnOn", 403)),
        ({"network_interface_traffic_mode": "HighPerformance"}, Refusal("UnsupportedParameter", 400)),
        ({"region_id": "cn-nowhere"}, Refusal("InvalidRegionId.NotFound", 404)),
    ],
)
def test_create_refuses(cloud: Bench, fields: dict[str, Any], expected: Refusal) -> None:
    before = cloud.state.describe_state()["enis"]
    request = ecs.CreateNetworkInterfaceRequest(
        **{
            "region_id": REGION,
            "v_switch_id": fields.pop("vswitch", "vsw-pods"),
            "security_group_id": "sg-cluster",
        }
        | fields
    )
    assert refusal(lambda: cloud.ecs().create_network_interface(request)) == expected
    assert cloud.state.describe_state()["enis"] == before


def test_a_full_vswitch_gives_nothing_at_all(cloud: Bench) -> None:
    cloud.state.occupy("vsw-pods", leave=2)
    full = Refusal("InvalidVSwitchId.IpNotEnough", 403)
    assert refusal(lambda: cloud.create(secondary_private_ip_address_count=2)) == full
    cloud.create(secondary_private_ip_address_count=1)
    assert refusal(cloud.create) == full
    cloud.state.release_occupied("vsw-pods")
    cloud.create()


def test_account_quotas(cloud: Bench) -> None:
    cloud.state.quotas.enis = 1
    cloud.create()
    assert refusal(cloud.create) == Refusal("QuotaExceeded.Eni", 403)
    cloud.state.quotas.enis = 10
    cloud.state.quotas.addresses_per_vpc = 5
    assert refusal(lambda: cloud.create(secondary_private_ip_address_count=1)) == Refusal(
        "QuotaExceeded.PrivateIpAddress", 400
    )
    cloud.create()


def test_a_full_security_group(cloud: Bench) -> None:
    outside = cloud.create(security_group_id="sg-cluster").network_interface_id
    cloud.state.quotas.addresses_per_group = 5
    eni = cloud.create(security_group_id="sg-other").network_interface_id
    full = Refusal("SecurityGroupInstanceLimitExceed", 403)
    assert refusal(lambda: cloud.assign(eni, 5)) == full
    cloud.assign(eni, 4)
    assert refusal(lambda: cloud.create(security_group_id="sg-other")) == full
    assert refusal(lambda: _rename(cloud, outside, security_group_id=["sg-other"])) == full


def test_attach_refuses(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    elsewhere = cloud.create(vswitch=ZONE_B_VSWITCH).network_interface_id
    assert refusal(lambda: cloud.attach("eni-none")) == Refusal("InvalidEniId.NotFound", 404)
    assert refusal(lambda: cloud.attach(eni, "i-none")) == Refusal("InvalidEcsId.NotFound", 404)
    mismatch = Refusal("InvalidOperation.AvailabilityZoneMismatch", 403)
    assert refusal(lambda: cloud.attach(elsewhere)) == mismatch
    cloud.attach(eni)
    wrong_state = Refusal("InvalidOperation.InvalidEniState", 400)
    assert refusal(lambda: cloud.attach(eni, "i-node2")) == wrong_state
    assert refusal(lambda: cloud.delete(eni)) == wrong_state


def test_an_instance_has_room_for_so_many_enis(cloud: Bench) -> None:
    """ecs.g6.large: two ENIs, the primary one included."""
    first, second = cloud.create().network_interface_id, cloud.create().network_interface_id
    cloud.attach(first, "i-small")
    assert refusal(lambda: cloud.attach(second, "i-small")) == Refusal("EniPerInstanceLimitExceeded", 403)
    cloud.detach(first, "i-small")
    cloud.attach(second, "i-small")


def test_an_eni_with_more_addresses_than_the_instance_type_allows(cloud: Bench) -> None:
    many = cloud.create(secondary_private_ip_address_count=6).network_interface_id
    assert refusal(lambda: cloud.attach(many, "i-small")) == Refusal(
        "InvalidOperation.Ipv4CountExceeded", 403
    )
    many_v6 = cloud.create(ipv_6address_count=2).network_interface_id
    assert refusal(lambda: cloud.attach(many_v6, "i-small")) == Refusal(
        "InvalidOperation.Ipv6CountExceeded", 403
    )


def test_trunk_enis_need_an_instance_type_for_them(cloud: Bench) -> None:
    trunk = cloud.create(instance_type="Trunk").network_interface_id
    assert refusal(lambda: cloud.attach(trunk, "i-small")) == Refusal("InvalidOperation.InvalidEniType", 403)
    cloud.attach(trunk, "i-node1")
    assert [eni.type for eni in cloud.describe(type="Trunk")] == ["Trunk"]


def test_detach_and_delete_refuse(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    assert refusal(lambda: cloud.detach("eni-none")) == Refusal("InvalidEniId.NotFound", 404)
    assert refusal(lambda: cloud.delete("eni-none")) == Refusal("InvalidEniId.NotFound", 404)
    assert refusal(lambda: cloud.detach(eni, "i-none")) == Refusal("InvalidEcsId.NotFound", 404)
    cloud.attach(eni)
    assert refusal(lambda: cloud.detach(eni, "i-node2")) == Refusal("InvalidParameter", 400)
    assert refusal(lambda: cloud.detach("eni-node1")) == Refusal(
        "InvalidOperation.DetachPrimaryEniNotAllowed", 400
    )
    assert refusal(lambda: cloud.delete("eni-node1")) == Refusal("InvalidOperation.InvalidEniType", 403)


def test_a_write_during_a_transition_conflicts(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    eni = cloud.create(secondary_private_ip_address_count=1)
    eni_id = eni.network_interface_id
    second = eni.private_ip_sets.private_ip_set[1].private_ip_address
    cloud.attach(eni_id)
    conflict = Refusal("Operation.Conflict", 403)
    assert refusal(lambda: cloud.assign(eni_id, 1)) == conflict
    assert refusal(lambda: cloud.unassign(eni_id, second)) == conflict
    assert refusal(lambda: _rename(cloud, eni_id)) == conflict
    assert refusal(lambda: cloud.delete(eni_id)) == Refusal("InvalidOperation.InvalidEniState", 400)
    cloud.clock.advance(60)
    assert len(cloud.assign(eni_id, 1)) == 1


def _rename(cloud: Bench, eni_id: str, **fields: Any) -> None:
    fields.setdefault("network_interface_name", "new")
    cloud.ecs().modify_network_interface_attribute(
        ecs.ModifyNetworkInterfaceAttributeRequest(region_id=REGION, network_interface_id=eni_id, **fields)
    )


def test_modify(cloud: Bench) -> None:
    eni = cloud.create(description="old").network_interface_id
    _rename(cloud, eni, description="newer", security_group_id=["sg-other"])
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.network_interface_name, seen.description) == ("new", "newer")
    assert seen.security_group_ids.security_group_id == ["sg-other"]
    assert refusal(lambda: _rename(cloud, "eni-none")) == Refusal("InvalidEniId.NotFound", 404)
    assert refusal(lambda: _rename(cloud, eni, security_group_id=["sg-none"])) == Refusal(
        "InvalidSecurityGroupId.NotFound", 404
    )


def test_instances_come_and_go_with_their_enis(cloud: Bench) -> None:
    instance = cloud.state.add_instance(NodeSpec("late"))
    leaves = cloud.create(delete_on_release=True).network_interface_id
    stays = cloud.create(delete_on_release=False).network_interface_id
    cloud.attach(leaves, instance)
    cloud.attach(stays, instance)
    assert {eni.type for eni in cloud.describe(instance_id=instance)} == {"Primary", "Secondary"}
    cloud.state.remove_instance(instance)
    assert cloud.describe(instance_id=instance) == []
    assert cloud.status(leaves) is None
    assert cloud.status(stays) == "Available"
    cloud.state.remove_instance(instance)
    again = cloud.state.add_instance(NodeSpec("late"))
    assert again == instance
    assert refusal(lambda: cloud.attach(leaves, again)) == Refusal("InvalidEniId.NotFound", 404)


@pytest.mark.parametrize(
    "node",
    [
        NodeSpec("node1"),
        NodeSpec("x", instance_type="ecs.none"),
        NodeSpec("x", vswitch_id="vsw-none"),
        NodeSpec("x", zone="cn-hangzhou-b"),
        NodeSpec("x", groups=("sg-none",)),
    ],
)
def test_an_impossible_node_is_named(cloud: Bench, node: NodeSpec) -> None:
    with pytest.raises(ValueError, match=r"node|instance type"):
        cloud.state.add_instance(node)

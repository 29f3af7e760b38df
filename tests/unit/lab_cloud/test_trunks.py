"""Trunk ENIs and their members, through the ECS SDK."""

from __future__ import annotations

from dataclasses import replace

import pytest
from alibabacloud_ecs20140526 import models as ecs

from lab.cloud import instance_types
from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal

WRONG_STATE = Refusal("InvalidOperation.InvalidEniState", 400)
WRONG_TYPE = Refusal("InvalidOperation.InvalidEniType", 403)
FULL = Refusal("EniPerInstanceLimitExceeded", 403)


def trunk(cloud: Bench, instance_id: str = "i-node1") -> str:
    """The id of a trunk ENI that is in use."""
    eni = cloud.create(instance_type="Trunk", source_dest_check=False).network_interface_id
    cloud.attach(eni, instance_id)
    return str(eni)


def member(cloud: Bench, trunk_id: str, instance_id: str = "i-node1") -> str:
    """The id of a new member, made as upstream's controller makes it."""
    made = cloud.create(
        instance_type="Secondary",
        delete_on_release=True,
        source_dest_check=False,
        security_group_id="sg-other",
        tag=[ecs.CreateNetworkInterfaceRequestTag(key="creator", value="terway-controlplane")],
    )
    cloud.attach(made.network_interface_id, instance_id, trunk_network_instance_id=trunk_id)
    return str(made.network_interface_id)


def vlan(cloud: Bench, eni_id: str) -> int:
    (seen,) = cloud.describe(network_interface_id=[eni_id])
    return int(seen.attachment.device_index)


def test_what_describe_says_of_a_member(cloud: Bench) -> None:
    trunk_id = trunk(cloud)
    eni = member(cloud, trunk_id)
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.type, seen.status, seen.instance_id) == ("Member", "InUse", "i-node1")
    assert seen.attachment.trunk_network_interface_id == trunk_id
    assert 1 <= seen.attachment.device_index <= 4094
    assert seen.attachment.network_card_index is None
    assert seen.security_group_ids.security_group_id == ["sg-other"]
    (kept,) = cloud.describe(network_interface_id=[trunk_id])
    assert (kept.type, kept.attachment.trunk_network_interface_id) == ("Trunk", None)


def test_filters_that_a_controller_asks_with(cloud: Bench) -> None:
    trunk_id = trunk(cloud)
    eni, spare = member(cloud, trunk_id), cloud.create().network_interface_id
    wanted = {"vpc_id": "vpc-lab", "type": "Member", "status": "InUse"}
    assert [e.network_interface_id for e in cloud.describe(**wanted)] == [eni]
    assert cloud.describe(**{**wanted, "vpc_id": "vpc-other"}) == []
    assert cloud.describe(**{**wanted, "status": "Available"}) == []
    available = cloud.describe(vpc_id="vpc-lab", type="Secondary", status="Available")
    assert [e.network_interface_id for e in available] == [spare]
    tagged = [ecs.DescribeNetworkInterfacesRequestTag(key="creator", value="terway-controlplane")]
    assert [e.network_interface_id for e in cloud.describe(tag=tagged)] == [eni]


def test_a_member_that_was_detached_is_a_secondary_eni_again(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    trunk_id = trunk(cloud)
    cloud.clock.advance(60)
    eni = member(cloud, trunk_id)
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.type, seen.status) == ("Member", "Attaching")
    cloud.clock.advance(60)
    cloud.detach(eni, trunk_network_instance_id=trunk_id)
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.type, seen.status, seen.attachment.device_index) == ("Member", "Detaching", 1)
    cloud.detach(eni, trunk_network_instance_id=trunk_id)
    cloud.clock.advance(60)
    (seen,) = cloud.describe(network_interface_id=[eni])
    assert (seen.type, seen.status, seen.instance_id) == ("Secondary", "Available", "")
    assert seen.attachment.device_index is None
    cloud.attach(eni)
    assert [e.type for e in cloud.describe(network_interface_id=[eni])] == ["Secondary"]


def test_vlans_are_unique_on_a_trunk_and_free_again_after_detach(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    first, second = trunk(cloud), trunk(cloud)
    cloud.clock.advance(60)
    members = [member(cloud, first) for _ in range(3)]
    assert len({vlan(cloud, eni) for eni in members}) == 3
    assert vlan(cloud, member(cloud, second)) == vlan(cloud, members[0])
    cloud.clock.advance(60)
    freed = vlan(cloud, members[1])
    cloud.detach(members[1], trunk_network_instance_id=first)
    assert vlan(cloud, member(cloud, first)) not in {vlan(cloud, eni) for eni in members}
    cloud.clock.advance(60)
    assert vlan(cloud, member(cloud, first)) == freed


def test_an_attach_may_be_repeated_to_the_same_trunk_alone(cloud: Bench) -> None:
    trunk_id, other = trunk(cloud), trunk(cloud)
    eni = member(cloud, trunk_id)
    before = vlan(cloud, eni)
    cloud.attach(eni, trunk_network_instance_id=trunk_id)
    assert vlan(cloud, eni) == before
    assert refusal(lambda: cloud.attach(eni, trunk_network_instance_id=other)) == WRONG_STATE
    assert refusal(lambda: cloud.attach(eni)) == WRONG_STATE


def test_what_is_no_trunk_of_this_instance(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    eni, spare = cloud.create().network_interface_id, cloud.create().network_interface_id
    cloud.attach(spare)
    coming = trunk(cloud)

    def attach(trunk_id: str, instance_id: str = "i-node1") -> Refusal:
        return refusal(lambda: cloud.attach(eni, instance_id, trunk_network_instance_id=trunk_id))

    assert attach("eni-none") == Refusal("InvalidEniId.NotFound", 404)
    assert attach(spare) == WRONG_TYPE
    assert attach(coming) == WRONG_STATE, "it is attaching"
    cloud.clock.advance(60)
    assert attach(coming, "i-node2") == Refusal("InvalidParameter", 400)
    another = cloud.create(instance_type="Trunk").network_interface_id
    assert refusal(lambda: cloud.attach(another, trunk_network_instance_id=coming)) == WRONG_TYPE, (
        "a trunk is no member"
    )
    cloud.attach(eni, trunk_network_instance_id=coming)


def test_a_detach_names_the_trunk(cloud: Bench) -> None:
    trunk_id = trunk(cloud)
    eni, secondary = member(cloud, trunk_id), cloud.create().network_interface_id
    cloud.attach(secondary)
    wrong = Refusal("InvalidParameter", 400)
    assert refusal(lambda: cloud.detach(eni)) == wrong
    assert refusal(lambda: cloud.detach(eni, trunk_network_instance_id=secondary)) == wrong
    assert refusal(lambda: cloud.detach(secondary, trunk_network_instance_id=trunk_id)) == wrong
    cloud.detach(eni, trunk_network_instance_id=trunk_id)


def test_a_trunk_with_members_stays(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    trunk_id = trunk(cloud)
    cloud.clock.advance(60)
    eni = member(cloud, trunk_id)
    assert refusal(lambda: cloud.detach(trunk_id)) == WRONG_STATE
    assert refusal(lambda: cloud.delete(trunk_id)) == WRONG_STATE
    cloud.clock.advance(60)
    cloud.detach(eni, trunk_network_instance_id=trunk_id)
    assert refusal(lambda: cloud.detach(trunk_id)) == WRONG_STATE, "the member is detaching"
    cloud.clock.advance(60)
    cloud.detach(trunk_id)
    cloud.clock.advance(60)
    cloud.delete(trunk_id)
    assert cloud.status(trunk_id) is None


def test_an_instance_that_is_released_takes_its_members_along(cloud: Bench) -> None:
    trunk_id = trunk(cloud)
    leaves = member(cloud, trunk_id)
    stays = cloud.create(delete_on_release=False).network_interface_id
    cloud.attach(stays, trunk_network_instance_id=trunk_id)
    cloud.state.remove_instance("i-node1")
    assert (cloud.status(trunk_id), cloud.status(leaves)) == (None, None)
    (seen,) = cloud.describe(network_interface_id=[stays])
    assert (seen.type, seen.status, seen.instance_id) == ("Secondary", "Available", "")


def test_members_are_bounded_by_the_total_and_others_by_their_own_limit(cloud: Bench) -> None:
    """ecs.g7.xlarge: 4 ENIs with a device, 20 in all. Upstream: 20 - 4 members always, 20 - 2 at most."""
    trunk_id = trunk(cloud)
    for _ in range(18):
        member(cloud, trunk_id)
    assert refusal(lambda: member(cloud, trunk_id)) == FULL
    assert refusal(lambda: cloud.attach(cloud.create().network_interface_id)) == FULL
    cloud.detach(cloud.describe(type="Member")[0].network_interface_id, trunk_network_instance_id=trunk_id)
    cloud.attach(cloud.create().network_interface_id)


def test_members_take_no_place_of_an_eni_with_a_device(cloud: Bench) -> None:
    trunk_id = trunk(cloud)
    for _ in range(16):
        member(cloud, trunk_id)
    for _ in range(2):
        cloud.attach(cloud.create().network_interface_id)
    assert refusal(lambda: cloud.attach(cloud.create().network_interface_id)) == FULL


def test_metadata_lists_the_trunk_and_no_member(cloud: Bench) -> None:
    trunk_id = trunk(cloud)
    (seen,) = cloud.describe(network_interface_id=[trunk_id])
    (inside,) = cloud.describe(network_interface_id=[member(cloud, trunk_id)])
    macs = cloud.meta("network/interfaces/macs/").split("\n")
    assert f"{seen.mac_address}/" in macs
    assert f"{inside.mac_address}/" not in macs


def test_the_members_of_a_trunk_by_attribute(cloud: Bench) -> None:
    trunk_id = trunk(cloud)
    members = {member(cloud, trunk_id) for _ in range(2)}
    request = ecs.DescribeNetworkInterfaceAttributeRequest(
        region_id=REGION, network_interface_id=trunk_id, attribute="attachment"
    )
    body = cloud.ecs().describe_network_interface_attribute(request).body
    assert set(body.attachment.member_network_interface_ids.member_network_interface_id) == members


def test_a_network_card_is_chosen_where_there_are_some(cloud: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    eni = cloud.create().network_interface_id
    assert refusal(lambda: cloud.attach(eni, network_card_index=0)) == Refusal("InvalidParameter", 400)
    kind = instance_types.instance_type("ecs.g7.xlarge")
    two_cards = replace(kind, network_cards=2)
    monkeypatch.setitem(instance_types.INSTANCE_TYPES, kind.name, two_cards)
    assert refusal(lambda: cloud.attach(eni, network_card_index=2)) == Refusal("InvalidParameter", 400)
    cloud.attach(eni, network_card_index=1)
    assert [e.attachment.network_card_index for e in cloud.describe(network_interface_id=[eni])] == [1]

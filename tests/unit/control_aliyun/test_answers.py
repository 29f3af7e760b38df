from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from control.aliyun import answers
from control.model.cloud import EniStatus, EniType

ENI: dict[str, object] = {
    "NetworkInterfaceId": "eni-1",
    "MacAddress": "00:16:3E:00:00:0A",
    "VSwitchId": "vsw-1",
    "PrivateIpAddress": "10.0.0.5",
}


def test_a_bare_eni() -> None:
    eni = answers.eni(ENI)
    assert eni.mac == "00:16:3e:00:00:0a"
    assert eni.ipv4 == (IPv4Address("10.0.0.5"),)
    assert (eni.status, eni.eni_type, eni.instance_id) == (EniStatus.OTHER, EniType.SECONDARY, None)


def test_the_primary_address_comes_first_and_once() -> None:
    sets = {
        "PrivateIpSet": [{"PrivateIpAddress": "10.0.0.9"}, {"PrivateIpAddress": "10.0.0.5", "Primary": True}]
    }
    assert answers.eni({**ENI, "PrivateIpSets": sets}).ipv4 == (
        IPv4Address("10.0.0.5"),
        IPv4Address("10.0.0.9"),
    )


def test_words_that_are_not_known_yet() -> None:
    eni = answers.eni({**ENI, "Status": "Pending", "Type": "Novel", "InstanceId": ""})
    assert (eni.status, eni.eni_type, eni.instance_id) == (EniStatus.OTHER, EniType.SECONDARY, None)


def test_ipv6_addresses() -> None:
    sets = {"Ipv6Set": [{"Ipv6Address": "2001:db8::1"}]}
    assert answers.eni({**ENI, "Ipv6Sets": sets}).ipv6 == (IPv6Address("2001:db8::1"),)


@pytest.mark.parametrize("field", ENI)
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        answers.eni({name: value for name, value in ENI.items() if name != field})


def test_pages() -> None:
    assert answers.enis({}) == ((), "")
    page, following = answers.enis({"NetworkInterfaceSets": {"NetworkInterfaceSet": [ENI]}, "NextToken": "n"})
    assert [eni.eni_id for eni in page] == ["eni-1"]
    assert following == "n"


def test_limits_of_older_types_lack_fields() -> None:
    body = {
        "InstanceTypes": {
            "InstanceType": [
                {"InstanceTypeId": "ecs.other", "EniQuantity": 9, "EniPrivateIpAddressQuantity": 9},
                {"InstanceTypeId": "ecs.old", "EniQuantity": 2, "EniPrivateIpAddressQuantity": 6},
            ]
        }
    }
    limits = answers.instance_limits(body, "ecs.old")
    assert limits is not None
    assert (limits.eni_quantity, limits.ipv4_per_eni, limits.ipv6_per_eni) == (2, 6, 0)
    assert (limits.eni_total_quantity, limits.trunk_supported) == (2, False)
    assert answers.instance_limits(body, "ecs.none") is None


def test_assigned_addresses() -> None:
    v4 = {"AssignedPrivateIpAddressesSet": {"PrivateIpSet": {"PrivateIpAddress": ["10.0.0.7"]}}}
    assert answers.assigned_v4(v4) == (IPv4Address("10.0.0.7"),)
    assert answers.assigned_v4({}) == ()
    assert answers.assigned_v6({"Ipv6Sets": {"Ipv6Address": ["2001:db8::2"]}}) == (
        IPv6Address("2001:db8::2"),
    )

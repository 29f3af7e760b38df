"""Security groups and their rules through the ECS SDK, at run time; and that the fabric follows."""

from __future__ import annotations

from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs

from lab.cloud.faults import Fault
from lab.spec import RuleSpec, SecurityGroupSpec
from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal

OTHER = "sg-other"
INVALID = Refusal("InvalidParameter", 400)
OF_ENTERPRISE = Refusal("InvalidGroupParameter.OperationDenied", 400)
HTTP = {"ip_protocol": "tcp", "port_range": "80/80", "source_cidr_ip": "10.0.0.0/8"}


def permission(**fields: str) -> Any:
    return ecs.AuthorizeSecurityGroupRequestPermissions(**fields)


def authorize(cloud: Bench, *permissions: dict[str, str], group: str = OTHER, **fields: Any) -> None:
    listed = [permission(**p) for p in permissions] or None
    request = ecs.AuthorizeSecurityGroupRequest(
        region_id=REGION, security_group_id=group, permissions=listed, **fields
    )
    cloud.ecs().authorize_security_group(request)


def authorize_egress(cloud: Bench, group: str = OTHER, **fields: str) -> None:
    each = [ecs.AuthorizeSecurityGroupEgressRequestPermissions(**fields)]
    request = ecs.AuthorizeSecurityGroupEgressRequest(
        region_id=REGION, security_group_id=group, permissions=each
    )
    cloud.ecs().authorize_security_group_egress(request)


def revoke(cloud: Bench, *permissions: dict[str, str], ids: list[str] | None = None) -> None:
    listed = [ecs.RevokeSecurityGroupRequestPermissions(**p) for p in permissions] or None
    request = ecs.RevokeSecurityGroupRequest(
        region_id=REGION, security_group_id=OTHER, permissions=listed, security_group_rule_id=ids
    )
    cloud.ecs().revoke_security_group(request)


def seen(cloud: Bench, group: str = OTHER, **fields: Any) -> Any:
    request = ecs.DescribeSecurityGroupAttributeRequest(region_id=REGION, security_group_id=group, **fields)
    return cloud.ecs().describe_security_group_attribute(request).body


def rules(cloud: Bench, group: str = OTHER) -> list[Any]:
    return list(seen(cloud, group).permissions.permission)


def make(cloud: Bench, **fields: Any) -> str:
    fields = {"vpc_id": "vpc-lab", "security_group_name": "made", **fields}
    request = ecs.CreateSecurityGroupRequest(region_id=REGION, **fields)
    return str(cloud.ecs().create_security_group(request).body.security_group_id)


def remove(cloud: Bench, group: str) -> None:
    cloud.ecs().delete_security_group(
        ecs.DeleteSecurityGroupRequest(region_id=REGION, security_group_id=group)
    )


def set_policy(cloud: Bench, group: str, policy: str) -> None:
    request = ecs.ModifySecurityGroupPolicyRequest(
        region_id=REGION, security_group_id=group, inner_access_policy=policy
    )
    cloud.ecs().modify_security_group_policy(request)


def join(cloud: Bench, eni_id: str, *groups: str) -> None:
    request = ecs.ModifyNetworkInterfaceAttributeRequest(
        region_id=REGION, network_interface_id=eni_id, security_group_id=list(groups)
    )
    cloud.ecs().modify_network_interface_attribute(request)


def in_fabric(cloud: Bench, group: str = OTHER) -> SecurityGroupSpec:
    return next(g for g in cloud.state.fabric_view().groups if g.group_id == group)


def test_a_rule_is_added_seen_and_revoked(cloud: Bench) -> None:
    authorize(cloud, {**HTTP, "policy": "drop", "priority": "7", "description": "no web"})
    (rule,) = rules(cloud)
    assert (rule.ip_protocol, rule.port_range, rule.source_cidr_ip) == ("TCP", "80/80", "10.0.0.0/8")
    assert (rule.policy, rule.priority, rule.direction) == ("Drop", "7", "ingress")
    assert (rule.description, rule.nic_type) == ("no web", "intranet")
    assert rule.security_group_rule_id.startswith("sgr-")
    wanted = RuleSpec("ingress", "Drop", "TCP", (80, 80), "10.0.0.0/8", 7)
    assert in_fabric(cloud).rules == (wanted,)
    revoke(cloud, {**HTTP, "policy": "drop", "priority": "8"})
    assert len(rules(cloud)) == 1
    revoke(cloud, {**HTTP, "policy": "drop", "priority": "7"})
    assert (rules(cloud), in_fabric(cloud).rules) == ([], ())


def test_the_flat_style_says_the_same(cloud: Bench) -> None:
    authorize(cloud, **HTTP)
    authorize(cloud, HTTP)
    assert len(rules(cloud)) == 1
    mixed = Refusal("InvalidParam.Permissions", 400)
    assert refusal(lambda: authorize(cloud, HTTP, ip_protocol="udp")) == mixed


def test_peers_of_each_kind_and_both_directions(cloud: Bench) -> None:
    v6 = {"ip_protocol": "ICMPv6", "ipv_6source_cidr_ip": "2001:db8::/32"}
    named = {"ip_protocol": "all", "source_group_id": "sg-cluster"}
    authorize(cloud, v6, named, {"ip_protocol": "gre", "source_cidr_ip": "192.0.2.7"})
    authorize_egress(cloud, ip_protocol="udp", port_range="53/53", dest_cidr_ip="192.0.2.9/24")
    shown = [
        (r.direction, r.ip_protocol, r.port_range, r.ipv_6source_cidr_ip or r.source_group_id)
        for r in rules(cloud)[:2]
    ]
    assert shown == [
        ("ingress", "ICMPv6", "-1/-1", "2001:db8::/32"),
        ("ingress", "ALL", "-1/-1", "sg-cluster"),
    ]
    assert rules(cloud)[2].source_cidr_ip == "192.0.2.7/32"
    (out,) = seen(cloud, direction="egress").permissions.permission
    assert (out.direction, out.dest_cidr_ip) == ("egress", "192.0.2.0/24")
    both = {**named, "source_cidr_ip": "192.0.2.0/24"}
    authorize(cloud, both)
    assert rules(cloud)[-1].source_cidr_ip == "192.0.2.0/24"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ip_protocol": "tcp", "port_range": "1/9"}, Refusal("MissingParameter.Source", 400)),
        ({"port_range": "1/9", "source_cidr_ip": "10.0.0.0/8"}, Refusal("MissingParameter", 400)),
        ({**HTTP, "ip_protocol": "sctp"}, Refusal("InvalidIpProtocol.ValueNotSupported", 400)),
        ({**HTTP, "port_range": "0/80"}, Refusal("InvalidIpPortRange.Malformed", 400)),
        ({**HTTP, "port_range": "90/80"}, Refusal("InvalidIpPortRange.Malformed", 400)),
        ({**HTTP, "port_range": "80"}, Refusal("InvalidIpPortRange.Malformed", 400)),
        ({**HTTP, "port_range": "-1/-1"}, Refusal("InvalidIpPortRange.Malformed", 400)),
        ({"ip_protocol": "all", "source_cidr_ip": "::/0"}, Refusal("InvalidSourceCidrIp.Malformed", 400)),
        ({"ip_protocol": "udp", "source_cidr_ip": "10.0.0.0/8"}, Refusal("InvalidPortRange.Malformed", 400)),
        ({**HTTP, "ip_protocol": "icmp"}, Refusal("OperationDenied", 400)),
        ({**HTTP, "policy": "reject"}, Refusal("InvalidPolicy.Malformed", 400)),
        ({**HTTP, "priority": "0"}, Refusal("InvalidPriority.ValueNotSupported", 400)),
        ({**HTTP, "priority": "101"}, Refusal("InvalidPriority.ValueNotSupported", 400)),
        ({**HTTP, "nic_type": "internet"}, Refusal("InvalidNicType.ValueNotSupported", 400)),
        ({**HTTP, "source_cidr_ip": "10.0.0.0/33"}, Refusal("InvalidSourceCidrIp.Malformed", 400)),
        ({**HTTP, "ipv_6source_cidr_ip": "::/0"}, Refusal("InvalidParam.SourceIp", 400)),
        (
            {"ip_protocol": "all", "ipv_6source_cidr_ip": "10.0.0.0/8"},
            Refusal("InvalidParam.Ipv6SourceCidrIp", 400),
        ),
        (
            {"ip_protocol": "icmp", "ipv_6source_cidr_ip": "::/0"},
            Refusal("InvalidParam.Ipv4ProtocolConflictWithIpv6Address", 400),
        ),
        (
            {"ip_protocol": "icmpv6", "source_cidr_ip": "0.0.0.0/0"},
            Refusal("InvalidParam.Ipv6ProtocolConflictWithIpv4Address", 400),
        ),
        (
            {"ip_protocol": "all", "source_group_id": "sg-none"},
            Refusal("InvalidSourceGroupId.NotFound", 404),
        ),
        ({"ip_protocol": "all", "source_group_id": OTHER}, Refusal("InvalidParamter.Conflict", 403)),
        ({**HTTP, "description": "x" * 513}, Refusal("InvalidSecurityGroupDiscription.Malformed", 400)),
        ({**HTTP, "source_port_range": "1/2"}, Refusal("UnsupportedParameter", 400)),
        ({**HTTP, "dest_cidr_ip": "10.0.0.1"}, Refusal("UnsupportedParameter", 400)),
        ({**HTTP, "source_prefix_list_id": "pl-1"}, Refusal("UnsupportedParameter", 400)),
    ],
)
def test_authorize_refuses(cloud: Bench, fields: dict[str, str], expected: Refusal) -> None:
    """All or nothing: the good rule of the same call is not added either."""
    good = {**HTTP, "port_range": "443/443"}
    assert refusal(lambda: authorize(cloud, good, fields)) == expected
    assert rules(cloud) == []


def test_more_refusals(cloud: Bench) -> None:
    twice = Refusal("InvalidParam.DuplicatePermissions", 400)
    assert refusal(lambda: authorize(cloud, HTTP, HTTP)) == twice
    assert refusal(lambda: authorize(cloud)) == Refusal("MissingParameter", 400)
    missing = Refusal("InvalidSecurityGroupId.NotFound", 404)
    assert refusal(lambda: authorize(cloud, HTTP, group="sg-none")) == missing
    same = Refusal("InvalidSecurityGroup.IsSame", 403)
    assert refusal(lambda: authorize_egress(cloud, ip_protocol="all", dest_group_id=OTHER)) == same
    no_dest = Refusal("MissingParameter.Dest", 400)
    assert refusal(lambda: authorize_egress(cloud, ip_protocol="all")) == no_dest


def test_a_rule_by_its_id(cloud: Bench) -> None:
    authorize(cloud, HTTP, {**HTTP, "port_range": "81/81"})
    first, second = (rule.security_group_rule_id for rule in rules(cloud))
    request = ecs.ModifySecurityGroupRuleRequest(
        region_id=REGION,
        security_group_id=OTHER,
        security_group_rule_id=first,
        policy="drop",
        source_group_id="sg-cluster",
        description="now",
    )
    cloud.ecs().modify_security_group_rule(request)
    changed = rules(cloud)[0]
    assert (changed.security_group_rule_id, changed.policy, changed.port_range) == (first, "Drop", "80/80")
    assert (changed.source_group_id, changed.source_cidr_ip) == ("sg-cluster", None)
    assert changed.description == "now"
    assert in_fabric(cloud).rules[0] == RuleSpec("ingress", "Drop", "TCP", (80, 80), "sg-cluster")
    unknown = Refusal("InvalidSecurityGroupRuleId.NotFound", 404)
    assert refusal(lambda: revoke(cloud, ids=["sgr-none"])) == unknown
    revoke(cloud, ids=[second])
    assert [rule.security_group_rule_id for rule in rules(cloud)] == [first]
    egress = ecs.ModifySecurityGroupEgressRuleRequest(
        region_id=REGION, security_group_id=OTHER, security_group_rule_id=first, policy="accept"
    )
    assert refusal(lambda: cloud.ecs().modify_security_group_egress_rule(egress)) == unknown


def test_groups_have_room_for_so_many_rules(cloud: Bench) -> None:
    many = [{**HTTP, "port_range": f"{n}/{n}"} for n in range(1, 101)]
    authorize(cloud, *many)
    authorize(cloud, *({**p, "ip_protocol": "udp"} for p in many))
    full = Refusal("AuthorizationLimitExceed", 403)
    assert refusal(lambda: authorize(cloud, {**HTTP, "port_range": "200/200"})) == full
    authorize(cloud, *many)
    assert refusal(lambda: authorize(cloud, *many, HTTP)) == INVALID
    cloud.state.quotas.rules_per_eni = 202
    eni = cloud.create(security_group_id="sg-cluster").network_interface_id
    assert refusal(lambda: join(cloud, eni, "sg-cluster", OTHER)) == full
    cloud.state.quotas.rules_per_eni = 204
    join(cloud, eni, "sg-cluster", OTHER)
    assert refusal(lambda: authorize(cloud, HTTP | {"priority": "9"}, group="sg-cluster")) == full


def test_a_group_names_so_many_groups(cloud: Bench) -> None:
    cloud.state.quotas.peer_groups_per_group = 1
    authorize(cloud, {"ip_protocol": "all", "source_group_id": "sg-cluster"})
    more = {"ip_protocol": "gre", "source_group_id": "sg-cluster"}
    assert refusal(lambda: authorize(cloud, more)) == Refusal("AuthorizedGroupRule.LimitExceed", 400)


def test_a_group_is_made_and_deleted(cloud: Bench) -> None:
    tag = ecs.CreateSecurityGroupRequestTag(key="team", value="net")
    group = make(cloud, description="of tests", tag=[tag])
    body = seen(cloud, group)
    assert (body.security_group_name, body.description) == ("made", "of tests")
    assert (body.inner_access_policy, body.permissions.permission) == ("Accept", [])
    request = ecs.DescribeSecurityGroupsRequest(
        region_id=REGION, tag=[ecs.DescribeSecurityGroupsRequestTag(key="team")]
    )
    (listed,) = cloud.ecs().describe_security_groups(request).body.security_groups.security_group
    assert (listed.security_group_id, listed.security_group_type) == (group, "normal")
    eni = cloud.create(security_group_id=group).network_interface_id
    in_use = Refusal("DependencyViolation", 403)
    assert refusal(lambda: remove(cloud, group)) == in_use
    join(cloud, eni, OTHER)
    authorize(cloud, {"ip_protocol": "all", "source_group_id": group})
    assert refusal(lambda: remove(cloud, group)) == in_use
    revoke(cloud, {"ip_protocol": "all", "source_group_id": group})
    remove(cloud, group)
    assert refusal(lambda: remove(cloud, group)) == Refusal("InvalidSecurityGroupId.NotFound", 404)
    assert group not in {g.group_id for g in cloud.state.fabric_view().groups}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"vpc_id": "vpc-none"}, Refusal("InvalidVpcId.NotFound", 404)),
        ({"vpc_id": None}, Refusal("MissingParameter", 400)),
        ({"security_group_type": "advanced"}, Refusal("InvalidParams.GroupType", 400)),
        ({"security_group_name": "1st"}, Refusal("InvalidSecurityGroupName.Malformed", 400)),
        ({"description": "x"}, Refusal("InvalidSecurityGroupDiscription.Malformed", 400)),
        ({"resource_group_id": "rg-1"}, Refusal("UnsupportedParameter", 400)),
    ],
)
def test_create_refuses(cloud: Bench, fields: dict[str, Any], expected: Refusal) -> None:
    assert refusal(lambda: make(cloud, **fields)) == expected


def test_an_account_has_so_many_groups(cloud: Bench) -> None:
    cloud.state.quotas.groups = 3
    make(cloud)
    assert refusal(lambda: make(cloud)) == Refusal("QuotaExceed.SecurityGroup", 403)


def test_inner_access(cloud: Bench) -> None:
    set_policy(cloud, OTHER, "drop")
    assert seen(cloud).inner_access_policy == "Drop"
    assert not in_fabric(cloud).inner_accept
    set_policy(cloud, OTHER, "Accept")
    assert in_fabric(cloud).inner_accept
    assert refusal(lambda: set_policy(cloud, OTHER, "maybe")) == INVALID


def test_enterprise_groups(cloud: Bench) -> None:
    strict = make(cloud, security_group_type="enterprise")
    assert seen(cloud, strict).inner_access_policy == "Drop"
    assert refusal(lambda: set_policy(cloud, strict, "Accept")) == OF_ENTERPRISE
    named = {"ip_protocol": "all", "source_group_id": OTHER}
    assert refusal(lambda: authorize(cloud, named, group=strict)) == OF_ENTERPRISE
    assert refusal(lambda: authorize(cloud, {**HTTP, "policy": "drop"}, group=strict)) == OF_ENTERPRISE
    authorize(cloud, HTTP, group=strict)
    denied = Refusal("InvalidGroupAuthParameter.OperationDenied", 400)
    assert refusal(lambda: authorize(cloud, {**named, "source_group_id": strict})) == denied
    both: dict[str, Any] = {"security_group_id": None, "security_group_ids": [OTHER, strict]}
    assert refusal(lambda: cloud.create(**both)) == INVALID
    eni = cloud.create(security_group_id=strict).network_interface_id
    assert refusal(lambda: join(cloud, eni, strict, OTHER)) == INVALID
    join(cloud, eni, OTHER)


def test_an_enterprise_group_counts_enis(cloud: Bench) -> None:
    strict = make(cloud, security_group_type="enterprise")
    cloud.state.quotas.enis_per_enterprise_group = 1
    eni = cloud.create(security_group_id=strict, secondary_private_ip_address_count=9).network_interface_id
    cloud.assign(eni, 5)
    full = Refusal("SecurityGroupInstanceLimitExceed", 403)
    assert refusal(lambda: cloud.create(security_group_id=strict)) == full


def test_the_fabric_follows_after_its_delay(cloud: Bench) -> None:
    cloud.state.set_delays(fabric=5.0)
    group = make(cloud)
    eni = cloud.create(security_group_id=group).network_interface_id
    cloud.attach(eni)
    (port,) = [p for p in cloud.state.fabric_view().ports if p.port_id == eni]
    assert (port.groups, port.addresses) == (frozenset(), frozenset())
    cloud.clock.advance(6.0)
    authorize(cloud, HTTP, group=group)
    join(cloud, eni, group, OTHER)
    (port,) = [p for p in cloud.state.fabric_view().ports if p.port_id == eni]
    assert (port.groups, in_fabric(cloud, group).rules) == (frozenset({group}), ())
    cloud.clock.advance(6.0)
    (port,) = [p for p in cloud.state.fabric_view().ports if p.port_id == eni]
    assert (port.groups, len(in_fabric(cloud, group).rules)) == (frozenset({group, OTHER}), 1)


def test_the_operators_words_and_the_apis_are_one(cloud: Bench) -> None:
    rule = RuleSpec("ingress", protocol="TCP", ports=(80, 80), peer="10.0.0.0/8")
    cloud.state.edit_group(OTHER, add=(rule,))
    authorize(cloud, HTTP)
    (only,) = rules(cloud)
    revoke(cloud, ids=[only.security_group_rule_id])
    assert rules(cloud) == []


def test_tokens_faults_and_denials(cloud: Bench) -> None:
    group = make(cloud, client_token="group-1")
    assert make(cloud, client_token="group-1") == group
    cloud.state.faults.add(Fault(action="AuthorizeSecurityGroup", code="InternalError", status=500, count=1))
    assert refusal(lambda: authorize(cloud, HTTP)) == Refusal("InternalError", 500)
    assert rules(cloud) == []
    cloud.state.credentials.deny("RevokeSecurityGroup")
    assert refusal(lambda: revoke(cloud, HTTP)) == Refusal("Forbidden.RAM", 403)

"""DescribeSecurityGroups and DescribeSecurityGroupAttribute."""

from __future__ import annotations

from lab.cloud import errors
from lab.cloud.actions import paging
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.spec import RuleSpec, SecurityGroupSpec

_MOST_RESULTS = 100


def describe_groups(call: ActionCall) -> Answer:
    p = call.parameters
    ids, one = p.json_list("SecurityGroupIds"), p.text("SecurityGroupId")
    found = [
        group
        for group in call.state.described.groups()
        if (ids is None or group.group_id in ids)
        and one in ("", group.group_id)
        and p.text("VpcId") in ("", call.state.spec.vpc_id)
    ]
    page, which = paging.either(found, p, key=lambda g: g.group_id, most=_MOST_RESULTS)
    return {
        **which,
        "RegionId": call.state.spec.region,
        "SecurityGroups": {"SecurityGroup": [_group(call, group) for group in page]},
    }


def describe_group(call: ActionCall) -> Answer:
    group_id = call.parameters.required("SecurityGroupId")
    direction = call.parameters.text("Direction", "all")
    for group in call.state.described.groups():
        if group.group_id == group_id:
            rules = [r for r in group.rules if direction in ("all", r.direction)]
            return _group(call, group) | {
                "RegionId": call.state.spec.region,
                "InnerAccessPolicy": "Accept" if group.inner_accept else "Drop",
                "Permissions": {"Permission": [_rule(rule) for rule in rules]},
            }
    raise errors.group_not_found(group_id)


def _group(call: ActionCall, group: SecurityGroupSpec) -> Answer:
    return {
        "SecurityGroupId": group.group_id,
        "SecurityGroupName": group.group_id,
        "SecurityGroupType": "normal",
        "VpcId": call.state.spec.vpc_id,
        "Tags": {"Tag": []},
    }


def _rule(rule: RuleSpec) -> Answer:
    """The peer's field depends on the direction and on whether it is a group, an IPv4 or an IPv6 CIDR."""
    side = "Source" if rule.direction == "ingress" else "Dest"
    if "/" not in rule.peer:
        peer = {f"{side}GroupId": rule.peer}
    elif ":" in rule.peer:
        peer = {f"Ipv6{side}CidrIp": rule.peer}
    else:
        peer = {f"{side}CidrIp": rule.peer}
    return {
        "Direction": rule.direction,
        "Policy": rule.policy,
        "IpProtocol": rule.protocol,
        "PortRange": f"{rule.ports[0]}/{rule.ports[1]}",
        "Priority": str(rule.priority),
        **peer,
    }


ACTIONS = (
    Action(
        "DescribeSecurityGroups",
        describe_groups,
        takes=frozenset({"SecurityGroupIds", "SecurityGroupId", "VpcId"})
        | paging.BY_TOKEN
        | paging.BY_NUMBER,
    ),
    Action(
        "DescribeSecurityGroupAttribute", describe_group, takes=frozenset({"SecurityGroupId", "Direction"})
    ),
)

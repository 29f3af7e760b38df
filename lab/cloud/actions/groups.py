"""DescribeSecurityGroups and DescribeSecurityGroupAttribute, on the lagging view."""

from __future__ import annotations

from lab.cloud import errors
from lab.cloud.actions import paging, rule_parameters, tags
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.eni_answers import timestamp
from lab.spec import RuleSpec, SecurityGroupSpec

_MOST_RESULTS = 100
_MOST_RULES = 1000


def describe_groups(call: ActionCall) -> Answer:
    p = call.parameters
    ids, one, asked = p.json_list("SecurityGroupIds"), p.text("SecurityGroupId"), tags.wanted(p)
    found = [
        group
        for group in call.state.described.groups()
        if (ids is None or group.group_id in ids)
        and one in ("", group.group_id)
        and p.text("VpcId") in ("", call.state.spec.vpc_id)
        and p.text("SecurityGroupName") in ("", _name(group))
        and p.text("SecurityGroupType") in ("", group.kind)
        and tags.match(group.tags, asked)
    ]
    page, which = paging.either(found, p, key=lambda g: g.group_id, most=_MOST_RESULTS)
    return {
        **which,
        "RegionId": call.state.spec.region,
        "SecurityGroups": {"SecurityGroup": [_group(call, group) for group in page]},
    }


def describe_group(call: ActionCall) -> Answer:
    """All rules, or a page of them for a call that asks for one. NicType is intranet, whatever it says."""
    p = call.parameters
    group_id, direction = p.required("SecurityGroupId"), p.text("Direction", "all")
    for group in call.state.described.groups():
        if group.group_id == group_id:
            rules = [r for r in group.rules if direction in ("all", r.direction)]
            page, token = paging.by_token(
                rules, p, key=lambda r: r.rule_id, most=_MOST_RULES, usual=_MOST_RULES
            )
            return _group(call, group) | {
                "RegionId": call.state.spec.region,
                "InnerAccessPolicy": "Accept" if group.inner_accept else "Drop",
                "Permissions": {"Permission": [_rule(rule) for rule in page]},
                "NextToken": token,
            }
    raise errors.group_not_found(group_id)


def _group(call: ActionCall, group: SecurityGroupSpec) -> Answer:
    return {
        "SecurityGroupId": group.group_id,
        "SecurityGroupName": _name(group),
        "Description": group.description,
        "SecurityGroupType": group.kind,
        "VpcId": call.state.spec.vpc_id,
        "RuleCount": len(group.rules),
        "Tags": tags.answer(group.tags),
    }


def _name(group: SecurityGroupSpec) -> str:
    return group.name or group.group_id


def _rule(rule: RuleSpec) -> Answer:
    return {
        "SecurityGroupRuleId": rule.rule_id,
        "Direction": rule.direction,
        "NicType": "intranet",
        "CreateTime": timestamp(rule.created),
        **rule_parameters.words(rule),
    }


ACTIONS = (
    Action(
        "DescribeSecurityGroups",
        describe_groups,
        takes=frozenset(
            {"SecurityGroupIds", "SecurityGroupId", "VpcId", "SecurityGroupName", "SecurityGroupType", "Tag"}
        )
        | paging.BY_TOKEN
        | paging.BY_NUMBER,
    ),
    Action(
        "DescribeSecurityGroupAttribute",
        describe_group,
        takes=frozenset({"SecurityGroupId", "Direction", "NicType"}) | paging.BY_TOKEN,
    ),
)

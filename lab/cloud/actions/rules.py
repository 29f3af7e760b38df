"""AuthorizeSecurityGroup, RevokeSecurityGroup and ModifySecurityGroupRule, and the same for egress."""

from __future__ import annotations

from functools import partial

from lab.cloud import errors
from lab.cloud.actions import rule_parameters
from lab.cloud.actions.action import Action, ActionCall, Answer

_MOST_IDS = 100


def authorize(call: ActionCall, *, direction: str) -> Answer:
    p = call.parameters
    group_id, rules = p.required("SecurityGroupId"), rule_parameters.rules(p, direction)
    if not rules:
        raise errors.missing_parameter("Permissions")
    call.state.groups.authorize(group_id, rules)
    return {}


def revoke(call: ActionCall, *, direction: str) -> Answer:
    """By id or by what the rules say. One that is not there is no error; an id that is not there is one."""
    p, groups = call.parameters, call.state.groups
    group_id, ids = p.required("SecurityGroupId"), p.listing("SecurityGroupRuleId")
    if len(ids) > _MOST_IDS:
        raise errors.invalid_parameter("SecurityGroupRuleId", f"at most {_MOST_IDS} in one call")
    rules = rule_parameters.rules(p, direction)
    if not rules and not ids:
        raise errors.missing_parameter("Permissions")
    named = [groups.rule(group_id, rule_id, direction) for rule_id in ids]
    groups.revoke(group_id, (*rules, *named))
    return {}


def modify(call: ActionCall, *, direction: str) -> Answer:
    """The rule of that id says what the call says, and what it said before where the call is silent.

    A call that names its rule by anything but its id is refused, though ECS still takes one.
    """
    p, groups = call.parameters, call.state.groups
    group_id, rule_id = p.required("SecurityGroupId"), p.required("SecurityGroupRuleId")
    old = groups.rule(group_id, rule_id, direction)
    said = {name: p.text(name) for name in rule_parameters.fields_of(direction) if p.text(name)}
    kept = rule_parameters.words(old)
    if said.keys() & _peer_fields(direction):
        kept = {name: value for name, value in kept.items() if name not in _peer_fields(direction)}
    if "IpProtocol" in said and "PortRange" not in said:
        kept.pop("PortRange")
    groups.modify(group_id, old, rule_parameters.rule(kept | said, direction))
    return {}


def _peer_fields(direction: str) -> frozenset[str]:
    names = rule_parameters.fields_of(direction)
    return frozenset(name for name in names if name.endswith(("CidrIp", "GroupId")))


def _actions(direction: str, word: str, rule: str) -> tuple[Action, ...]:
    flat = rule_parameters.fields_of(direction) | {"SecurityGroupId"}
    return (
        Action(
            f"AuthorizeSecurityGroup{word}",
            partial(authorize, direction=direction),
            writes=True,
            takes=flat | {"Permissions"},
        ),
        Action(
            f"RevokeSecurityGroup{word}",
            partial(revoke, direction=direction),
            writes=True,
            takes=flat | {"Permissions", "SecurityGroupRuleId"},
        ),
        Action(
            f"ModifySecurityGroup{rule}",
            partial(modify, direction=direction),
            writes=True,
            takes=flat | {"SecurityGroupRuleId"},
        ),
    )


ACTIONS = (*_actions("ingress", "", "Rule"), *_actions("egress", "Egress", "EgressRule"))

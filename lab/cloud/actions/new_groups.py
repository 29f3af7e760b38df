"""CreateSecurityGroup, DeleteSecurityGroup, ModifySecurityGroupAttribute and ModifySecurityGroupPolicy."""

from __future__ import annotations

from dataclasses import replace

from lab.cloud import errors, group_errors, route_errors
from lab.cloud.actions import tags
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.spec import SecurityGroupSpec

_KINDS = ("normal", "enterprise")
_LONGEST_NAME = 128
_LONGEST_DESCRIPTION = 256


def create(call: ActionCall) -> Answer:
    """Empty, and of the VPC: classic groups are no more, so VpcId has to be there."""
    p = call.parameters
    if p.required("VpcId") != call.state.spec.vpc_id:
        raise route_errors.vpc_not_found(p.text("VpcId"))
    kind = p.text("SecurityGroupType", "normal")
    if kind not in _KINDS:
        raise group_errors.kind_unknown(kind)
    group = call.state.groups.create(
        SecurityGroupSpec(
            group_id="",
            inner_accept=kind == "normal",
            kind=kind,
            name=_name(p.text("SecurityGroupName")),
            description=_description(p.text("Description")),
            tags=tags.of_a_new_resource(p),
        )
    )
    return {"SecurityGroupId": group.group_id}


def delete(call: ActionCall) -> Answer:
    call.state.groups.delete(call.parameters.required("SecurityGroupId"))
    return {}


def modify(call: ActionCall) -> Answer:
    p = call.parameters
    group = call.state.resources.group(p.required("SecurityGroupId"))
    call.state.groups.put(
        replace(
            group,
            name=_name(p.text("SecurityGroupName")) or group.name,
            description=_description(p.text("Description")) or group.description,
        )
    )
    return {}


def set_policy(call: ActionCall) -> Answer:
    p = call.parameters
    group_id, policy = p.required("SecurityGroupId"), p.required("InnerAccessPolicy")
    if policy.capitalize() not in ("Accept", "Drop"):
        raise errors.invalid_parameter("InnerAccessPolicy", f"{policy!r} is neither Accept nor Drop")
    call.state.groups.set_inner_access(group_id, accept=policy.capitalize() == "Accept")
    return {}


def _name(text: str) -> str:
    """2 to 128 characters that begin with a letter and no URL, or none."""
    if text and (
        not 2 <= len(text) <= _LONGEST_NAME
        or not text[0].isalpha()
        or text.startswith(("http://", "https://"))
    ):
        raise group_errors.name_malformed(text)
    return text


def _description(text: str) -> str:
    if text and (not 2 <= len(text) <= _LONGEST_DESCRIPTION or text.startswith(("http://", "https://"))):
        raise group_errors.description_malformed()
    return text


_ID = frozenset({"SecurityGroupId"})
_WORDS = frozenset({"SecurityGroupName", "Description"})

ACTIONS = (
    Action(
        "CreateSecurityGroup",
        create,
        writes=True,
        takes=_WORDS | {"VpcId", "SecurityGroupType", "Tag"},
    ),
    Action("DeleteSecurityGroup", delete, writes=True, takes=_ID),
    Action("ModifySecurityGroupAttribute", modify, writes=True, takes=_ID | _WORDS),
    Action("ModifySecurityGroupPolicy", set_policy, writes=True, takes=_ID | {"InnerAccessPolicy"}),
)

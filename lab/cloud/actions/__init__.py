"""The actions of both APIs, one file per group. A new group is a new file and one line here."""

from __future__ import annotations

from lab.cloud.actions import (
    assign,
    describe_enis,
    describe_routes,
    enis,
    groups,
    instance_types,
    instances,
    new_groups,
    route_entries,
    rules,
    tags,
    vpcs,
    vswitches,
)
from lab.cloud.actions.action import Action, Api

ACTIONS: dict[tuple[Api, str], Action] = {
    (action.api, action.name): action
    for action in (
        *assign.ACTIONS,
        *describe_enis.ACTIONS,
        *describe_routes.ACTIONS,
        *enis.ACTIONS,
        *groups.ACTIONS,
        *instance_types.ACTIONS,
        *instances.ACTIONS,
        *new_groups.ACTIONS,
        *route_entries.ACTIONS,
        *rules.ACTIONS,
        *tags.ACTIONS,
        *vpcs.ACTIONS,
        *vswitches.ACTIONS,
    )
}

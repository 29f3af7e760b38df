"""DescribeVSwitches, of the VPC API."""

from __future__ import annotations

from lab.cloud.actions import paging
from lab.cloud.actions.action import Action, ActionCall, Answer, Api
from lab.cloud.route_entry import table_id
from lab.cloud.views import Snapshot
from lab.spec import LabSpec, VSwitchSpec

_MOST_RESULTS = 50


def describe_vswitches(call: ActionCall) -> Answer:
    """An unknown VSwitchId finds nothing, which is no error here."""
    p, spec = call.parameters, call.state.spec
    ids = p.text("VSwitchId").split(",") if p.text("VSwitchId") else []
    found = [
        vswitch
        for vswitch in spec.vswitches
        if (not ids or vswitch.vswitch_id in ids)
        and p.text("ZoneId") in ("", vswitch.zone)
        and p.text("VpcId") in ("", spec.vpc_id)
    ]
    page, number, size = paging.by_number(found, p, most=_MOST_RESULTS)
    return {
        "TotalCount": len(found),
        "PageNumber": number,
        "PageSize": size,
        "VSwitches": {"VSwitch": [_vswitch(v, spec, call.state.described) for v in page]},
    }


def _vswitch(vswitch: VSwitchSpec, spec: LabSpec, seen: Snapshot) -> Answer:
    return {
        "VSwitchId": vswitch.vswitch_id,
        "VSwitchName": vswitch.vswitch_id,
        "VpcId": spec.vpc_id,
        "ZoneId": vswitch.zone,
        "Status": "Available",
        "CidrBlock": str(vswitch.cidr),
        "Ipv6CidrBlock": "" if vswitch.cidr_v6 is None else str(vswitch.cidr_v6),
        "EnabledIpv6": vswitch.cidr_v6 is not None,
        "AvailableIpAddressCount": seen.available(vswitch.vswitch_id),
        "IsDefault": False,
        "RouteTable": {"RouteTableId": table_id(spec), "RouteTableType": "System"},
        "Tags": {"Tag": []},
    }


ACTIONS = (
    Action(
        "DescribeVSwitches",
        describe_vswitches,
        api=Api.VPC,
        takes=frozenset({"VSwitchId", "ZoneId", "VpcId"}) | paging.BY_NUMBER,
    ),
)

"""DescribeVpcs, DescribeVpcAttribute and DescribeRouteTableList, of the VPC API: one VPC with one table."""

from __future__ import annotations

from lab.cloud import route_errors
from lab.cloud.actions import paging
from lab.cloud.actions.action import Action, ActionCall, Answer, Api
from lab.cloud.actions.eni_answers import OWNER_ID, timestamp
from lab.cloud.route_entry import router_id, table_id

_MOST_RESULTS = 50


def describe_vpcs(call: ActionCall) -> Answer:
    """An unknown VpcId finds nothing, which is no error here."""
    p, spec = call.parameters, call.state.spec
    ids = p.text("VpcId").split(",") if p.text("VpcId") else [spec.vpc_id]
    mine = (
        spec.vpc_id in ids
        and p.text("VpcName") in ("", spec.vpc_id)
        and p.text("VpcOwnerId") in ("", OWNER_ID)
        and p.boolean("IsDefault") is not True
        and p.boolean("EnableIpv6") is not False
    )
    found = [_vpc(call)] if mine else []
    page, number, size = paging.by_number(found, p, most=_MOST_RESULTS)
    return {
        "TotalCount": len(found),
        "PageNumber": number,
        "PageSize": size,
        "Vpcs": {"Vpc": list(page)},
    }


def describe_vpc(call: ActionCall) -> Answer:
    vpc_id = call.parameters.required("VpcId")
    if vpc_id != call.state.spec.vpc_id:
        raise route_errors.vpc_not_found(vpc_id)
    return _vpc(call)


def describe_tables(call: ActionCall) -> Answer:
    p, spec = call.parameters, call.state.spec
    mine = (
        p.text("VpcId") in ("", spec.vpc_id)
        and p.text("RouteTableId") in ("", table_id(spec))
        and p.text("RouteTableName") in ("", "system")
        and p.text("RouteTableType") in ("", "System")
        and p.text("RouterId") in ("", router_id(spec))
        and p.text("RouterType") in ("", "VRouter")
    )
    found = [_table(call)] if mine else []
    page, number, size = paging.by_number(found, p, most=_MOST_RESULTS)
    return {
        "TotalCount": len(found),
        "PageNumber": number,
        "PageSize": size,
        "RouterTableList": {"RouterTableListType": list(page)},
    }


def _vpc(call: ActionCall) -> Answer:
    spec = call.state.spec
    return {
        "VpcId": spec.vpc_id,
        "VpcName": spec.vpc_id,
        "Description": "",
        "RegionId": spec.region,
        "Status": "Available",
        "IsDefault": False,
        "OwnerId": int(OWNER_ID),
        "CreationTime": timestamp(call.state.resources.born),
        "CidrBlock": str(spec.cidr),
        "Ipv6CidrBlock": str(spec.cidr_v6),
        "EnabledIpv6": True,
        "VRouterId": router_id(spec),
        "RouterTableIds": {"RouterTableIds": [table_id(spec)]},
        "VSwitchIds": {"VSwitchId": _vswitches(call)},
        "SecondaryCidrBlocks": {"SecondaryCidrBlock": []},
        "Ipv6CidrBlocks": {"Ipv6CidrBlock": []},
        "UserCidrs": {"UserCidr": []},
        "NatGatewayIds": {"NatGatewayIds": []},
        "Tags": {"Tag": []},
    }


def _table(call: ActionCall) -> Answer:
    spec = call.state.spec
    return {
        "RouteTableId": table_id(spec),
        "RouteTableName": "system",
        "RouteTableType": "System",
        "RouterId": router_id(spec),
        "RouterType": "VRouter",
        "AssociateType": "VSwitch",
        "VpcId": spec.vpc_id,
        "VSwitchIds": {"VSwitchId": _vswitches(call)},
        "Status": "Available",
        "OwnerId": int(OWNER_ID),
        "CreationTime": timestamp(call.state.resources.born),
        "Description": "",
        "RoutePropagationEnable": True,
        "GatewayIds": {"GatewayIds": []},
        "Tags": {"Tag": []},
    }


def _vswitches(call: ActionCall) -> list[str]:
    return [vswitch.vswitch_id for vswitch in call.state.spec.vswitches]


ACTIONS = (
    Action(
        "DescribeVpcs",
        describe_vpcs,
        api=Api.VPC,
        takes=paging.BY_NUMBER | {"VpcId", "VpcName", "VpcOwnerId", "IsDefault", "EnableIpv6"},
    ),
    Action("DescribeVpcAttribute", describe_vpc, api=Api.VPC, takes=frozenset({"VpcId"})),
    Action(
        "DescribeRouteTableList",
        describe_tables,
        api=Api.VPC,
        takes=paging.BY_NUMBER
        | {"VpcId", "RouteTableId", "RouteTableName", "RouteTableType", "RouterId", "RouterType"},
    ),
)

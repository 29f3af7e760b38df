"""Errors of the VPC API's route actions: codes, statuses and words of the tables of CreateRouteEntry and
DeleteRouteEntry."""

from __future__ import annotations

from lab.cloud.errors import ApiError


def table_not_found(table: str) -> ApiError:
    return ApiError(
        "InvalidRouteTableId.NotFound", f"Specified route table {table!r} does not exist.", status=404
    )


def vpc_not_found(vpc_id: str) -> ApiError:
    return ApiError(
        "InvalidVpcId.NotFound",
        f"Specified value of VpcId {vpc_id!r} is not found in our record.",
        status=404,
    )


def malformed(cidr: str) -> ApiError:
    return ApiError("InvalidCidrBlock.Malformed", f"Specified CIDR block {cidr!r} is not valid.")


def not_allowed(cidr: str, why: str) -> ApiError:
    return ApiError("InvalidCidrBlock", f"Specified CIDR block {cidr} is not valid: {why}.")


def overlaps_v6(cidr: str, vswitch_id: str) -> ApiError:
    return ApiError(
        "OperationUnsupported.DestinationCidrBlockOverlapWithVSwitch",
        f"The destination IPv6 network segment {cidr} specified in the route entry overlaps with the vSwitch "
        f"{vswitch_id}.",
    )


def duplicate(cidr: str) -> ApiError:
    return ApiError("InvalidCIDRBlock.Duplicate", f"Specified CIDR block {cidr} is already exists.")


def quota(limit: int) -> ApiError:
    return ApiError("QuotaExceeded", f"Route entry quota exceeded in this route table: {limit}.")


def unstable(entry_id: str) -> ApiError:
    return ApiError(
        "IncorrectRouteEntryStatus", f"Some route entry status blocked this operation: {entry_id} is Pending."
    )


def busy() -> ApiError:
    return ApiError("TaskConflict", "The operation is too frequent, please wait a moment and try again.")


def hop_not_found(hop_id: str) -> ApiError:
    return ApiError("InvalidNextHop.NotFound", f"Specified next hop {hop_id!r} does not exist.")


def hop_missing() -> ApiError:
    return ApiError("InvalidNextHop", "Specified nexthop and nexthop list cannot both null.")


def hop_without_v6(hop_id: str) -> ApiError:
    return ApiError(
        "OperationFailed.NotSupportIPV6", f"The specified next hop {hop_id} does not support IPv6."
    )


def hop_with_several_v6(hop_id: str) -> ApiError:
    """The code is spelled so."""
    return ApiError(
        "OperationUnsupported.MutipleIpv6Address",
        f"You cannot specify a next hop that has bound multiple IPv6 addresses: {hop_id}.",
    )


def hop_is_primary(hop_id: str) -> ApiError:
    return ApiError(
        "OperationUnsupported.Ipv6EntryOnPrimaryNetworkInterface",
        f"You cannot create IPv6 route entries on a primary network interface: {hop_id}.",
    )


def name_malformed(name: str) -> ApiError:
    return ApiError("InvalidRouteEntryName.Malformed", f"Specified RouteEntry name {name!r} is not valid.")


def entry_not_found(what: str) -> ApiError:
    return ApiError("InvalidRouteEntry.NotFound", f"Route entry not exists: {what}.")


def entry_id_not_found(entry_id: str) -> ApiError:
    return ApiError("InvalidRouteEntryId.NotFound", f"Specified RouteEntryId {entry_id!r} does not exist.")


def system_entry(cidr: str) -> ApiError:
    return ApiError(
        "OperationDenied", f"Specified operation is denied as route entry type is system: {cidr}."
    )


def id_and_destination() -> ApiError:
    return ApiError(
        "ParamExclusive.RouteEntryIdAndRouteTableIdOrDestCidrBlock",
        "RouteEntryId excludes RouteTableId and DestinationCidrBlock.",
    )


def dry_run() -> ApiError:
    return ApiError("DryRunOperation", "Request validation has been passed with DryRun flag set.")

"""CreateRouteEntry, CreateRouteEntries, DeleteRouteEntry and DeleteRouteEntries.

All of the VPC API (2016-04-28); ECS's own actions of these names are withdrawn and not here.
The plural ones do each entry by itself and answer which failed, by what code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab.cloud import errors, route_errors
from lab.cloud.actions.action import Action, ActionCall, Answer, Api
from lab.cloud.actions.parameters import Parameters
from lab.cloud.errors import ApiError
from lab.cloud.route_entry import NextHopType
from lab.cloud.route_table import NewEntry

_MOST_ENTRIES = 50
"""Documented, as the words of each parameter of the plural actions."""


_OLD = frozenset({"RouteTableId", "RouteEntryId", "DstCidrBlock", "NextHop"})
_NEW = frozenset(
    {"RouteTableId", "DstCidrBlock", "NextHop", "NextHopType", "IpVersion", "Name", "Description"}
)
"""Fields of RouteEntries.N."""


def create(call: ActionCall) -> Answer:
    p, table = call.parameters, call.state.route_table
    entry = table.checked(
        NewEntry(
            table=p.required("RouteTableId"),
            destination=p.required("DestinationCidrBlock"),
            hop_id=p.required("NextHopId"),
            hop_type=p.text("NextHopType", NextHopType.INSTANCE),
            name=p.text("RouteEntryName"),
            description=p.text("Description"),
        )
    )
    _end_dry_run(p)
    return {"RouteEntryId": table.put(entry).entry_id}


def create_several(call: ActionCall) -> Answer:
    table, made = call.state.route_table, list[str]()

    def one(fields: Mapping[str, str]) -> None:
        new = NewEntry(
            table=_field(fields, "RouteTableId"),
            destination=_field(fields, "DstCidrBlock"),
            hop_id=_field(fields, "NextHop"),
            hop_type=_field(fields, "NextHopType"),
            name=fields.get("Name", ""),
            description=fields.get("Description", ""),
            version=fields.get("IpVersion", ""),
        )
        entry = table.checked(new, together=frozenset(made))
        if not call.parameters.boolean("DryRun"):
            made.append(table.put(entry).entry_id)

    answer = _several(call, one, takes=_NEW)
    return answer | {"RouteEntryIds": made}


def delete(call: ActionCall) -> Answer:
    p, table = call.parameters, call.state.route_table
    if p.text("RouteEntryId"):
        if p.text("DestinationCidrBlock") or p.text("RouteTableId"):
            raise route_errors.id_and_destination()
        entry = table.find_id(p.text("RouteEntryId"))
    else:
        named, destination = p.required("RouteTableId"), p.required("DestinationCidrBlock")
        if not p.text("NextHopId"):
            raise route_errors.hop_missing()
        entry = table.find(named, destination, p.text("NextHopId"))
    table.check_deletable(entry)
    _end_dry_run(p)
    table.delete(entry)
    return {}


def delete_several(call: ActionCall) -> Answer:
    table, gone = call.state.route_table, set[str]()

    def one(fields: Mapping[str, str]) -> None:
        named = _field(fields, "RouteTableId")
        if "RouteEntryId" in fields:
            table.require(named)
            entry = table.find_id(fields["RouteEntryId"])
        else:
            entry = table.find(named, _field(fields, "DstCidrBlock"), _field(fields, "NextHop"))
        table.check_deletable(entry, together=frozenset(gone))
        if not call.parameters.boolean("DryRun"):
            gone.add(entry.entry_id)
            table.delete(entry)

    return _several(call, one, takes=_OLD)


def _several(call: ActionCall, one: Callable[[Mapping[str, str]], None], *, takes: frozenset[str]) -> Answer:
    entries = call.parameters.structs("RouteEntries")
    for name in sorted({name for fields in entries for name in fields} - takes):
        raise errors.unsupported_parameter(f"RouteEntries.N.{name}", "this action")
    if not entries:
        raise errors.missing_parameter("RouteEntries")
    if len(entries) > _MOST_ENTRIES:
        raise errors.invalid_parameter("RouteEntries", f"at most {_MOST_ENTRIES} in one call")
    failed: list[Answer] = []
    for fields in entries:
        try:
            one(fields)
        except ApiError as error:
            failed.append(_failed(fields, error))
    if not failed:
        _end_dry_run(call.parameters)
    return {
        "SuccessCount": len(entries) - len(failed),
        "FailedCount": len(failed),
        "FailedRouteEntries": failed,
    }


def _failed(fields: Mapping[str, str], error: ApiError) -> Answer:
    named = {k: fields[k] for k in ("RouteEntryId", "DstCidrBlock", "NextHop") if k in fields}
    return {**named, "FailedCode": error.code, "FailedMessage": error.message}


def _field(fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise errors.missing_parameter(f"RouteEntries.N.{name}")
    return fields[name]


def _end_dry_run(p: Parameters) -> None:
    """Everything was checked and nothing was written: the API says so by an error."""
    if p.boolean("DryRun"):
        raise route_errors.dry_run()


_ONE = frozenset({"RouteTableId", "DestinationCidrBlock", "NextHopId", "DryRun"})
_SEVERAL = frozenset({"RouteEntries", "DryRun"})
_EACH = "RouteEntries.1.RouteTableId"

ACTIONS = (
    Action(
        "CreateRouteEntry",
        create,
        writes=True,
        api=Api.VPC,
        takes=_ONE | {"NextHopType", "RouteEntryName", "Description"},
        one_at_a_time="RouteTableId",
    ),
    Action(
        "CreateRouteEntries",
        create_several,
        writes=True,
        api=Api.VPC,
        takes=_SEVERAL,
        one_at_a_time=_EACH,
    ),
    Action(
        "DeleteRouteEntry",
        delete,
        writes=True,
        api=Api.VPC,
        takes=_ONE | {"RouteEntryId"},
        one_at_a_time="RouteTableId",
    ),
    Action(
        "DeleteRouteEntries",
        delete_several,
        writes=True,
        api=Api.VPC,
        takes=_SEVERAL,
        one_at_a_time=_EACH,
    ),
)

"""DescribeRouteEntryList, of the VPC API: system and custom entries of the table, on the lagging view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.cloud.actions import paging
from lab.cloud.actions.action import Action, ActionCall, Answer, Api
from lab.cloud.actions.eni_answers import timestamp
from lab.cloud.actions.parameters import Parameters
from lab.cloud.model import Network
from lab.cloud.route_entry import RouteEntry, RouteStatus

_MOST_RESULTS = 100


def describe(call: ActionCall) -> Answer:
    """The system entries too, which no view lags behind."""
    p, state = call.parameters, call.state
    table = p.required("RouteTableId")
    state.route_table.require(table)
    system = [_system(cidr, state.resources.born) for cidr in state.route_table.system_destinations()]
    custom = [_custom(entry) for entry in state.described.route_entries()]
    found = [shown for shown in (*system, *custom) if _wanted(p, shown)]
    page, token = paging.by_token(
        found, p, key=lambda s: s.entry_id, most=_MOST_RESULTS, usual=10, size_name="MaxResult"
    )
    return {
        "TotalCount": len(found),
        "NextToken": token,
        "RouteEntrys": {"RouteEntry": [_answer(shown, table) for shown in page]},
    }


@dataclass(frozen=True, slots=True)
class _Shown:
    """An entry of either kind."""

    entry_id: str
    destination: Network
    kind: str
    hop_type: str
    hop_id: str
    modified: float
    status: str = RouteStatus.AVAILABLE
    name: str = ""
    description: str = ""


def _system(cidr: Network, born: float) -> _Shown:
    mark = f"{int(cidr.network_address):x}-{cidr.prefixlen}"
    return _Shown(f"rte-system-{mark}", cidr, "System", "local", "", born)


def _custom(entry: RouteEntry) -> _Shown:
    return _Shown(
        entry.entry_id,
        entry.destination,
        "Custom",
        entry.hop_type,
        entry.hop_id,
        entry.modified,
        entry.status,
        entry.name,
        entry.description,
    )


_FILTERS: dict[str, Callable[[_Shown], str]] = {
    "RouteEntryId": lambda s: s.entry_id,
    "DestinationCidrBlock": lambda s: str(s.destination),
    "RouteEntryName": lambda s: s.name,
    "RouteEntryType": lambda s: s.kind,
    "IpVersion": lambda s: f"ipv{s.destination.version}",
    "NextHopId": lambda s: s.hop_id,
    "NextHopType": lambda s: s.hop_type,
}


def _wanted(p: Parameters, shown: _Shown) -> bool:
    several = p.listing("DestCidrBlockList")
    return (not several or str(shown.destination) in several) and all(
        p.text(name).lower() in ("", read(shown).lower()) for name, read in _FILTERS.items()
    )


def _answer(shown: _Shown, table: str) -> Answer:
    hop: Answer = {"NextHopType": shown.hop_type, "NextHopId": shown.hop_id, "Enabled": 1, "Weight": 0}
    return {
        "RouteEntryId": shown.entry_id,
        "RouteEntryName": shown.name,
        "Description": shown.description,
        "RouteTableId": table,
        "DestinationCidrBlock": str(shown.destination),
        "IpVersion": f"IPv{shown.destination.version}",
        "Type": shown.kind,
        "Status": shown.status,
        "Origin": "RouteTable",
        "GmtModified": timestamp(shown.modified),
        "NextHops": {"NextHop": [hop]},
    }


ACTIONS = (
    Action(
        "DescribeRouteEntryList",
        describe,
        api=Api.VPC,
        takes=frozenset(_FILTERS) | {"RouteTableId", "DestCidrBlockList", "MaxResult", "NextToken"},
    ),
)

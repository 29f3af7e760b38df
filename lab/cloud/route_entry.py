"""A custom route entry at one moment, and the ids of the VPC's router and its table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lab.cloud.model import Network
from lab.spec import LabSpec


class RouteStatus(StrEnum):
    """Words of DescribeRouteEntryList. An entry that is being deleted is Pending too (inferred)."""

    PENDING = "Pending"
    AVAILABLE = "Available"


class NextHopType(StrEnum):
    """Those of the API that this cloud has."""

    INSTANCE = "Instance"
    """Its primary ENI."""
    NETWORK_INTERFACE = "NetworkInterface"


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """``forwards`` from Available until it is gone. ``modified`` is a time of the lab's clock."""

    entry_id: str
    destination: Network
    hop_type: NextHopType
    hop_id: str
    status: RouteStatus
    modified: float
    forwards: bool = False
    name: str = ""
    description: str = ""


def table_id(spec: LabSpec) -> str:
    """The system route table, which every vSwitch is bound to: this VPC has no custom ones."""
    return f"vtb-{_suffix(spec)}"


def router_id(spec: LabSpec) -> str:
    return f"vrt-{_suffix(spec)}"


def _suffix(spec: LabSpec) -> str:
    return spec.vpc_id.removeprefix("vpc-")

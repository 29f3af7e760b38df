"""The VPC's route table: what a write of an entry checks, and when it becomes true.

Documented (CreateRouteEntry, CreateRouteEntries, DeleteRouteEntry): an address without a mask is a host; no
destination equal to a vSwitch or inside one, though one around it; none equal to 100.64.0.0/10 or inside it
(a newer page allows inside, the parameter's own words do not); each destination once; 200 custom entries a
table; no write while an entry is Pending or Modifying; the next hop is of this VPC and several entries may
have one; an IPv6 entry has a next hop with exactly one IPv6 address, and no primary ENI by its own id.
Inferred: bits behind the mask are malformed; an IPv6 entry for an instance is one for its primary ENI and
allowed; an entry stays when its next hop goes, and drops; a stopped ENI is no reason to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_network

from lab.cloud import errors, route_errors
from lab.cloud.errors import ApiError
from lab.cloud.model import Eni, EniType, Network
from lab.cloud.quotas import Quotas
from lab.cloud.resources import Resources
from lab.cloud.route_entry import NextHopType, RouteEntry, RouteStatus, table_id
from lab.fabric.blocks import MAPPED, holds

CLOUD_SERVICES = IPv4Network("100.64.0.0/10")
_LONGEST_NAME = 128
_LONGEST_DESCRIPTION = 256


@dataclass(frozen=True, slots=True)
class NewEntry:
    """One entry that is asked for, in the caller's words."""

    table: str
    destination: str
    hop_id: str
    hop_type: str = NextHopType.INSTANCE
    name: str = ""
    description: str = ""
    version: str = ""
    """"" or ``4`` or ``6``."""


def parse(text: str) -> Network:
    """Raises InvalidCidrBlock.Malformed, also for a zone (``%eth0``) and for IPv4 in the words of IPv6."""
    try:
        found = ip_network(text)
    except ValueError:
        raise route_errors.malformed(text) from None
    if "%" in text or holds(MAPPED, found):
        raise route_errors.malformed(text)
    return found


class RouteTable:
    """Writes on ``resources``, at its ``now``. Every refusal is an ApiError and changes nothing."""

    def __init__(self, resources: Resources, quotas: Quotas) -> None:
        self._resources = resources
        self._quotas = quotas

    def checked(self, new: NewEntry, *, together: frozenset[str] = frozenset()) -> RouteEntry:
        """The entry that ``put`` will write. ``together`` are ids of entries that the same call made."""
        self.require(new.table)
        destination = parse(new.destination)
        self._check_destination(destination)
        if new.version not in ("", str(destination.version)):
            raise errors.invalid_parameter("IpVersion", f"{destination} is of version {destination.version}")
        entries = list(self.entries())
        if any(entry.destination == destination for entry in entries):
            raise route_errors.duplicate(str(destination))
        if len(entries) >= self._quotas.route_entries:
            raise route_errors.quota(self._quotas.route_entries)
        hop_type = self._check_hop(new, destination)
        _check_words(new)
        self._require_stable(together)
        return RouteEntry(
            entry_id="",
            destination=destination,
            hop_type=hop_type,
            hop_id=new.hop_id,
            status=RouteStatus.PENDING,
            modified=self._resources.now,
            name=new.name,
            description=new.description,
        )

    def put(self, entry: RouteEntry) -> RouteEntry:
        """Pending now, and Available after ``Delays.route``."""
        resources = self._resources
        entry = replace(entry, entry_id=f"rte-lab{resources.serial():08d}")
        resources.put_route(entry)
        ready = replace(entry, status=RouteStatus.AVAILABLE, forwards=True)
        resources.put_route(ready, since=resources.now + resources.delays.route)
        return entry

    def find(self, table: str, destination: str, hop_id: str) -> RouteEntry:
        """By the words of DeleteRouteEntry. Raises what a delete of it is refused with."""
        self.require(table)
        cidr = parse(destination)
        if cidr in self.system_destinations():
            raise route_errors.system_entry(str(cidr))
        for entry in self.entries():
            if entry.destination == cidr and entry.hop_id == hop_id:
                return entry
        raise route_errors.entry_not_found(f"{cidr} by {hop_id} in {table}")

    def find_id(self, entry_id: str) -> RouteEntry:
        for entry in self.entries():
            if entry.entry_id == entry_id:
                return entry
        raise route_errors.entry_id_not_found(entry_id)

    def check_deletable(self, entry: RouteEntry, *, together: frozenset[str] = frozenset()) -> None:
        self._require_stable(together)
        if entry.status != RouteStatus.AVAILABLE:
            raise route_errors.unstable(entry.entry_id)

    def delete(self, entry: RouteEntry) -> None:
        """Pending now, and gone after ``Delays.route``; it forwards until then."""
        resources = self._resources
        resources.put_route(replace(entry, status=RouteStatus.PENDING, modified=resources.now))
        resources.end_route(entry.entry_id, since=resources.now + resources.delays.route)

    def entries(self) -> Iterator[RouteEntry]:
        """The custom ones."""
        for history in self._resources.routes.values():
            if (entry := history.at(self._resources.now)) is not None:
                yield entry

    def system_destinations(self) -> list[Network]:
        """One per vSwitch and family, and the cloud's own services."""
        vswitches = self._resources.vswitches.values()
        found: list[Network] = [v.cidr for v in vswitches]
        found += [v.cidr_v6 for v in vswitches if v.cidr_v6 is not None]
        return [*found, CLOUD_SERVICES]

    def require(self, table: str) -> None:
        if table != table_id(self._resources.spec):
            raise route_errors.table_not_found(table)

    def _check_destination(self, cidr: Network) -> None:
        if holds(CLOUD_SERVICES, cidr):
            raise route_errors.not_allowed(str(cidr), "100.64.0.0/10 is of the cloud's services")
        for vswitch in self._resources.vswitches.values():
            if holds(vswitch.cidr, cidr):
                raise route_errors.not_allowed(str(cidr), f"it lies in the vSwitch {vswitch.vswitch_id}")
            own = vswitch.cidr_v6
            if own is not None and (holds(own, cidr) or (cidr.prefixlen and holds(cidr, own))):
                raise route_errors.overlaps_v6(str(cidr), vswitch.vswitch_id)

    def _check_hop(self, new: NewEntry, destination: Network) -> NextHopType:
        if new.hop_type not in list(NextHopType):
            raise errors.invalid_parameter("NextHopType", f"this cloud has {', '.join(NextHopType)}")
        hop_type = NextHopType(new.hop_type)
        try:
            eni = self._hop(hop_type, new.hop_id)
        except ApiError:
            raise route_errors.hop_not_found(new.hop_id) from None
        if destination.version == 6:
            if hop_type is NextHopType.NETWORK_INTERFACE and eni.eni_type == EniType.PRIMARY:
                raise route_errors.hop_is_primary(new.hop_id)
            if not eni.ipv6:
                raise route_errors.hop_without_v6(new.hop_id)
            if len(eni.ipv6) > 1:
                raise route_errors.hop_with_several_v6(new.hop_id)
        return hop_type

    def _hop(self, hop_type: NextHopType, hop_id: str) -> Eni:
        resources = self._resources
        if hop_type is NextHopType.INSTANCE:
            return resources.eni(resources.instance(hop_id).primary_eni)
        return resources.eni(hop_id)

    def _require_stable(self, together: frozenset[str]) -> None:
        for entry in self.entries():
            if entry.status == RouteStatus.PENDING and entry.entry_id not in together:
                raise route_errors.unstable(entry.entry_id)


def _check_words(new: NewEntry) -> None:
    if len(new.name) > _LONGEST_NAME or new.name.startswith(("http://", "https://")):
        raise route_errors.name_malformed(new.name)
    if len(new.description) > _LONGEST_DESCRIPTION or new.description.startswith(("http://", "https://")):
        raise errors.invalid_parameter("Description", "1 to 256 characters that are no URL")

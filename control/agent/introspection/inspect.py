"""What the daemon shows of itself, as plain JSON values: the words are upstream's and the seed's.

Sources: ``terway-cli`` of upstream releases 1.2 to 1.6 for ``resource_pool`` and ``factory``, of later ones
for ``network_service`` and ``mapping``. A config is a list of [key, value] pairs; "/" in a key makes levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from control.agent.allocation.pool import Pool
from control.agent.cni.attach import Attachments
from control.agent.dataplane.holds import Holds, describe, without_link
from control.agent.introspection import past
from control.agent.reconcile.repair_reports import RepairReports
from control.agent.state.journal import Journal
from control.ipam.rejections import Rejections, of_eni, of_uplink, of_vswitch
from control.model.cloud import Cloud, NodeIdentity
from control.model.errors import RequestError
from control.model.pod import Kubernetes
from control.model.records import AddressState, AttachmentRecord, EniRecord
from datapath.difference import ObjectKind
from datapath.endpoint import Carrier

Pairs = list[list[str]]

FACTORY, POOL, SERVICE = "factory", "resource_pool", "network_service"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What does not change while the daemon runs, and ``mode``, which says what is in force now."""

    config_path: str
    kubeconfig: str
    identity: NodeIdentity
    per_eni: int
    max_enis: int
    min_idle: int
    max_idle: int
    vswitches: tuple[str, ...]
    vswitch_policy: str
    mode: Callable[[], Mapping[str, Any]]
    warnings: tuple[str, ...] = field(default=())


def stamp(seconds: float) -> str:
    """Local time in upstream's layout, 2006-01-02 15:04:05."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


class Inspector:
    """Reads book and pool; must be called on the event loop's thread."""

    def __init__(
        self,
        *,
        journal: Journal,
        cloud: Cloud,
        pool: Pool,
        rejections: Rejections,
        attachments: Attachments,
        holds: Holds,
        kubernetes: Kubernetes,
        reports: RepairReports,
        facts: NodeFacts,
    ) -> None:
        self._kubernetes = kubernetes
        self._reports = reports
        self._holds = holds
        self._journal = journal
        self._cloud = cloud
        self._pool = pool
        self._rejections = rejections
        self._attachments = attachments
        self._facts = facts
        self._shows: dict[tuple[str, str], Callable[[], Pairs]] = {
            (SERVICE, "default"): self._network_service,
            (POOL, "eniip"): self._resource_pool,
            (FACTORY, "eniip"): self._factory_eniip,
            (FACTORY, "eni"): self._factory_eni,
        }

    def types(self) -> list[str]:
        return sorted({kind for kind, _ in self._shows})

    def names(self, kind: str) -> list[str]:
        names = [name for k, name in self._shows if k == kind]
        if not names:
            raise RequestError(f"no resource type {kind!r}", remedy=f"there are: {', '.join(self.types())}")
        return names

    def show(self, kind: str, name: str | None) -> dict[str, Any]:
        names = self.names(kind)
        chosen = name or names[0]
        if chosen not in names:
            raise RequestError(
                f"no resource {chosen!r} in the specified type {kind}",
                remedy=f"there are: {', '.join(names)}",
            )
        return {"type": kind, "name": chosen, "config": self._shows[kind, chosen]()}

    def _network_service(self) -> Pairs:
        pairs = [
            ["name", "default"],
            ["daemon_mode", "ENIMultiIP"],
            ["config_file_path", self._facts.config_path],
            ["kubeconfig", self._facts.kubeconfig],
            ["pending_pods_count", str(self._attachments.pending)],
        ]
        for record in self._sorted_attachments():
            pairs.append([f"pods/{record.pod}/resources", self._resource(record)])
        return pairs

    def _resource(self, record: AttachmentRecord) -> str:
        eni = self._journal.book.enis.get(record.eni_id)
        mac = eni.mac if eni else record.eni_id
        return " ".join(f"(eniIp){mac}.{a}" for a in record.addresses())

    def _sorted_attachments(self) -> list[AttachmentRecord]:
        return sorted(self._journal.book.attachments.values(), key=lambda a: (a.pod, a.key))

    def _resource_pool(self) -> Pairs:
        book, stats = self._journal.book, self._pool.stats()
        free = [
            r
            for r in book.addresses.values()
            if r.state is AddressState.FREE and r.address.version == 4 and r.eni_id in book.enis
        ]
        used = [
            r for r in book.addresses.values() if r.state is AddressState.ASSIGNED and r.address.version == 4
        ]
        return [
            ["name", "eniip"],
            ["max_idle", str(self._facts.max_idle)],
            ["min_idle", str(self._facts.min_idle)],
            ["capacity", str(stats.capacity)],
            ["idle", ", ".join(sorted(f"{book.enis[r.eni_id].mac}.{r.address}" for r in free))],
            [
                "inuse",
                ", ".join(
                    sorted(f"{book.enis[r.eni_id].mac}.{r.address}" for r in used if r.eni_id in book.enis)
                ),
            ],
            ["cooling", str(stats.cooling)],
            ["frozen", str(stats.frozen)],
            ["waiting", str(stats.waiting)],
            ["held", ", ".join(sorted(map(str, book.held)))],
        ]

    def _factory_eniip(self) -> Pairs:
        book = self._journal.book
        pairs = [
            ["name", "eniip"],
            ["eni_max_ip", str(self._facts.per_eni)],
            ["eni_max", str(self._facts.max_enis)],
            ["eni_count", str(len(book.enis))],
            ["secondary_ip_count", str(sum(1 for a in book.addresses if a.version == 4))],
        ]
        held_off = self._rejections.all(self._journal.now())
        for eni in sorted(book.enis.values(), key=lambda e: e.mac):
            pending = sum(o.ipv4_count for o in book.operations.values() if o.eni_id == eni.eni_id)
            pairs += [
                [f"eni/{eni.mac}/id", eni.eni_id],
                [f"eni/{eni.mac}/primary_ip", str(eni.primary_ip)],
                [f"eni/{eni.mac}/status", _status(eni)],
                [f"eni/{eni.mac}/pending", str(pending)],
                [f"eni/{eni.mac}/secondary_ips", _join(a.address for a in book.of_eni(eni.eni_id))],
            ]
            scopes = (of_eni(eni.eni_id), of_vswitch(eni.vswitch_id), of_uplink(eni.eni_id))
            rejection = next((held_off[scope] for scope in scopes if scope in held_off), None)
            if rejection is not None:
                pairs.append([f"eni/{eni.mac}/ip_alloc_inhibit_expire_at", stamp(rejection.until)])
                pairs.append([f"eni/{eni.mac}/ip_alloc_inhibit_reason", str(rejection.error)])
        return pairs

    def _factory_eni(self) -> Pairs:
        pairs = [
            ["name", "eni"],
            ["vswitches", ", ".join(self._facts.vswitches)],
            ["vswitch_selection_policy", self._facts.vswitch_policy],
        ]
        for scope, rejection in self._rejections.all(self._journal.now()).items():
            pairs.append([f"blocked/{scope}/until", stamp(rejection.until)])
            pairs.append([f"blocked/{scope}/reason", str(rejection.error)])
        for scope, rejection in self._rejections.batch_limits(self._journal.now()).items():
            pairs.append([f"limited/{scope}/addresses_per_call", str(rejection.batch_limit)])
            pairs.append([f"limited/{scope}/until", stamp(rejection.limited_until)])
        return pairs

    def mapping(self) -> dict[str, Any]:
        """Per ENI its addresses and holders, then every attachment: upstream's GetResourceMapping."""
        book, now = self._journal.book, self._journal.now()
        cooling = {r.address for r in book.cooling(now)}
        enis = []
        for eni in sorted(book.enis.values(), key=lambda e: e.mac):
            rows = []
            for record in sorted(book.of_eni(eni.eni_id), key=lambda r: str(r.address), reverse=True):
                owner = book.attachments.get(record.owner) if record.owner else None
                status = "cooling" if record.address in cooling else record.state.value
                status = "held" if record.address in book.held else status
                rows.append(
                    {"ip": str(record.address), "pod": str(owner.pod) if owner else "", "status": status}
                )
            enis.append(
                {
                    "id": eni.eni_id,
                    "mac": eni.mac,
                    "type": "Secondary",
                    "status": _status(eni),
                    "vswitch": eni.vswitch_id,
                    "addresses": rows,
                }
            )
        return {
            "enis": enis,
            "attachments": [_attachment(a) for a in self._sorted_attachments()],
            "unrecorded": [_unrecorded(c) for c in sorted(self._holds.unrecorded, key=lambda c: c.link)],
        }

    def resources_of_pods(self) -> list[dict[str, Any]]:
        """``execute network_service default resdb``: every record, as JSON."""
        return [_attachment(a) for a in self._sorted_attachments()]

    def history(self, text: str) -> list[past.Row]:
        """Of an address, a pod or an ENI. Raises RequestError or LedgerError."""
        return past.history(self._journal, past.subject(text))

    async def audit(self) -> list[str]:
        """The cloud's ENIs against the ledger, in upstream's words."""
        enis = await self._cloud.enis_of_instance(self._facts.identity.instance_id)
        remote = [e for e in enis if e.mac != self._facts.identity.mac]
        book = self._journal.book
        lines = [f"{len(remote)} enis fetched"]
        if len(remote) != len(book.enis):
            lines.append(
                f"remote eni count not equal to local: remote {len(remote)}, local: {len(book.enis)}"
            )
        for eni in remote:
            lines.append(f"checking eni {eni.eni_id}({eni.mac})")
            if eni.eni_id not in book.enis:
                lines.append(f"remote eni {eni.eni_id}({eni.mac}) not found on local machine")
                continue
            lines += [
                f"ip {a} attached to eni {eni.eni_id}({eni.mac}) not found on local machine"
                for a in eni.ipv4
                if a not in book.addresses
            ]
        return lines

    def mode(self) -> dict[str, Any]:
        unrecorded = [describe(self._holds.unrecorded)] if self._holds.unrecorded else []
        cut_off = map(without_link, self._holds.cut_off)
        return {**self._facts.mode(), "warnings": [*self._facts.warnings, *unrecorded, *cut_off]}

    def repairs(self) -> dict[str, Any]:
        """What was put back since the start, by kind; the last ones; and what others have that is left."""
        last = [f"{stamp(r.when)} {r.one.kind} {r.one.what}: {r.one.found}" for r in self._reports.recent]
        return {
            "counts": {kind.value: self._reports.counts[kind] for kind in ObjectKind},
            "last": last,
            "left": [f"{one.kind} {one.what}: {one.found}" for one in self._reports.foreign],
        }

    def state(self) -> dict[str, Any]:
        """The ledger and the pool's counts, for tests and for the curious."""
        stats = self._pool.stats()
        book = self._journal.book
        return {
            "pool": {name: getattr(stats, name) for name in stats.__slots__},
            "settled": self._pool.settled,
            "pods_listed": self._kubernetes.synced(),
            **self.mapping(),
            "operations": [
                {"token": o.token, "kind": o.kind.value, "eni": o.eni_id, "since": o.since}
                for o in book.operations.values()
            ],
            "rejections": {
                str(scope): {"until": r.until, "reason": str(r.error)}
                for scope, r in self._rejections.all(self._journal.now()).items()
            },
        }


def _status(eni: EniRecord) -> str:
    return f"{eni.state.value} ({eni.reason})" if eni.reason else eni.state.value


def _join(items: Any) -> str:
    return ", ".join(sorted(str(i) for i in items))


def _unrecorded(carrier: Carrier) -> dict[str, Any]:
    """A running pod of which the kernel alone knows."""
    return {
        "mode": str(carrier.mode),
        "host_link": carrier.link,
        "container_id": carrier.container_id,
        "addresses": sorted(map(str, carrier.addresses)),
    }


def _attachment(record: AttachmentRecord) -> dict[str, Any]:
    return {
        "pod_namespace": record.pod.namespace,
        "pod_name": record.pod.name,
        "pod_uid": record.uid,
        "container_id": record.key.container_id,
        "interface": record.key.ifname,
        "eni": record.eni_id,
        "ipv4": str(record.ipv4) if record.ipv4 else "",
        "ipv6": str(record.ipv6) if record.ipv6 else "",
        "mode": record.mode.value,
        "uplink": record.uplink.kind.value,
        "host_link": record.host_link,
        "state": record.state.value,
        "since": record.since,
    }

"""One ENI held against its witnesses: what the ledger says, what cloud, metadata and kernel show."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from control.agent.allocation.operations import CloudWork
from control.agent.dataplane.holds import Holds
from control.agent.dataplane.ports import NodeKernel, shared_eni
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.ipam.witness import Verdict, differs, judge
from control.model.cloud import Cloud, Eni, EniType, Metadata, MetadataEni
from control.model.errors import Cause, KernelError, MetadataError, TerwayError
from control.model.ids import Address, EniId, InstanceId, Mac
from control.model.modes import UPLINK_OF, EniKind, NetworkMode, UplinkKind
from control.model.pod import EventType, Kubernetes
from control.model.records import AddressRecord, Changes, EniRecord, EniState

log = logging.getLogger(__name__)

DEVICE_TIMEOUT = 5.0
"""Seconds for the device of an ENI that the others show: a node that has booted plugs in one by one."""
CLOUD_PATIENCE = 1.0
"""Seconds until ENIs that the ledger has lost are taken from metadata and kernel alone: an answer takes well
under that, and the first ADD waits for twice as long."""


class Reconciler:
    """``mtu`` in bytes. ``tags`` mark the ENIs that are ours: ownership is by tag, never by being there."""

    def __init__(
        self,
        *,
        journal: Journal,
        cloud: Cloud,
        metadata: Metadata,
        kernel: NodeKernel,
        holds: Holds,
        kubernetes: Kubernetes,
        work: CloudWork,
        instance_id: InstanceId,
        tags: tuple[tuple[str, str], ...],
        mtu: int,
        dual: bool,
    ) -> None:
        self._journal = journal
        self._cloud = cloud
        self._metadata = metadata
        self._kernel = kernel
        self._holds = holds
        self._kubernetes = kubernetes
        self._work = work
        self._instance_id = instance_id
        self._tags = frozenset(tags)
        self._mtu = mtu
        self._dual = dual
        self._orphans: dict[EniId, frozenset[Address]] = {}
        self.complete = False
        """Every ENI that metadata showed last is in the ledger, or the cloud has said what it is."""

    async def all(self, *, ask_cloud: bool) -> None:
        """Every ENI of the ledger, and ENIs of ours that the ledger does not know.

        ``ask_cloud`` False asks the cloud only if metadata differs from the ledger. One cloud call at most.
        """
        journal = self._journal
        before, enis, idle = frozenset(journal.book.addresses), dict(journal.book.enis), self._idle_enis()
        macs = await self._metadata.macs()
        shown = await self._shown(enis.values(), macs)
        idle = [e for e in idle if e.eni_id in shown]
        suspicious = [e for e in idle if self._differs(e, shown[e.eni_id])]
        known = {e.mac for e in enis.values()}
        strangers = len(macs - known) > 1  # the primary ENI is always one
        self.complete = self.complete or not strangers
        if not (suspicious or (ask_cloud and (strangers or enis))):
            self._orphans.clear()
            return
        in_cloud = {e.eni_id: e for e in await self._in_cloud(macs - known)}
        self._learn_groups(in_cloud)
        for eni in idle:
            if not self._unmoved(eni):
                continue
            try:
                await self._one(eni, in_cloud.get(eni.eni_id), shown[eni.eni_id], before)
            except KernelError as exc:  # of one ENI, and the others are looked at
                log.warning("ENI %s is looked at the next time: %s", eni.eni_id, exc)
        for eni in enis.values():
            seen, here = shown.get(eni.eni_id), in_cloud.get(eni.eni_id)
            if eni not in idle and here is not None and seen is not None:
                self._freeze_lost(eni.eni_id, here.addresses() | seen.ipv4 | seen.ipv6, before)
        await self._adopt(e for i, e in in_cloud.items() if i not in enis and i not in journal.book.enis)
        self.complete = self.unseen() is None

    async def _in_cloud(self, strangers: frozenset[Mac]) -> tuple[Eni, ...]:
        """While the cloud takes its time, ENIs that running pods lean on are ours by the kernel's word."""
        asked = asyncio.ensure_future(self._cloud.enis_of_instance(self._instance_id))
        try:
            await asyncio.wait({asked}, timeout=CLOUD_PATIENCE if strangers else None)
            if not asked.done() or asked.exception() is not None:
                await self._adopt_leaned_on(strangers)
            return await asked
        finally:
            asked.cancel()

    def _learn_groups(self, in_cloud: Mapping[EniId, Eni]) -> None:
        """Of an ENI that metadata alone has named."""
        known = ((eni, in_cloud.get(eni.eni_id)) for eni in self._journal.book.enis.values())
        changed = tuple(
            replace(eni, security_groups=here.security_groups)
            for eni, here in known
            if here is not None and here.security_groups and not eni.security_groups
        )
        if changed:
            self._journal.record(Changes(enis=changed))

    def unseen(self) -> MetadataError | None:
        """Why not all is known of an ENI of the ledger: metadata has not shown its addresses yet."""
        attaching = [e for e in self._idle_enis() if e.state is EniState.ATTACHING]
        if not attaching:
            return None
        return MetadataError(
            f"metadata does not show the addresses of ENI {attaching[0].eni_id} ({attaching[0].mac}), which "
            "the cloud says is this node's",
            cause=Cause.METADATA,
            remedy="it is asked again by itself; no other ENI is made meanwhile",
        )

    async def look_at(self, eni_id: EniId) -> None:
        """One ENI of the ledger by itself, by one call to the cloud. Raises TerwayError."""
        before, eni = frozenset(self._journal.book.addresses), self._journal.book.enis.get(eni_id)
        if eni is None or eni not in self._idle_enis():
            return
        macs = await self._metadata.macs()
        shown = await self._shown((eni,), macs)
        described = await self._cloud.enis([eni_id])
        here = next((e for e in described if e.instance_id == self._instance_id), None)
        if self._unmoved(eni):
            await self._one(eni, here, shown[eni_id], before)

    async def _shown(
        self, enis: Iterable[EniRecord], macs: frozenset[Mac]
    ) -> dict[EniId, MetadataEni | None]:
        """What metadata has of each. One that it fails to answer for is left out, and is not judged.

        Raises MetadataError if that is all of them.
        """
        shown: dict[EniId, MetadataEni | None] = {}
        failure: MetadataError | None = None
        for eni in enis:
            try:
                shown[eni.eni_id] = (
                    await self._metadata.eni(eni.mac, ipv6=self._dual) if eni.mac in macs else None
                )
            except MetadataError as exc:
                log.warning("ENI %s is looked at the next time: %s", eni.eni_id, exc)
                failure = exc
        if failure is not None and not shown:
            raise failure
        return shown

    def _idle_enis(self) -> list[EniRecord]:
        """Those that no operation is working on."""
        busy = {o.eni_id for o in self._journal.book.operations.values()}
        return [
            e
            for e in self._journal.book.enis.values()
            if e.eni_id not in busy and e.state is not EniState.RELEASING
        ]

    def _unmoved(self, eni: EniRecord) -> bool:
        """Still as it was when the witnesses were asked, so that their answers are about this state of it."""
        busy = any(o.eni_id == eni.eni_id for o in self._journal.book.operations.values())
        return not busy and self._journal.book.enis.get(eni.eni_id) is eni

    def _differs(self, eni: EniRecord, seen: MetadataEni | None) -> bool:
        if seen is None or eni.state is not EniState.SERVING:
            return True
        if seen.gateway != eni.gateway or (seen.gateway_v6 or eni.gateway_v6) != eni.gateway_v6:
            return True
        return differs(list(self._journal.book.of_eni(eni.eni_id)), seen.ipv4 | seen.ipv6)

    async def _one(
        self, eni: EniRecord, cloud: Eni | None, seen: MetadataEni | None, before: frozenset[Address]
    ) -> None:
        """``before``: addresses that were known when the witnesses were asked; newer ones are not judged."""
        if cloud is None and seen is None:
            self._gone(eni)
        elif cloud is None or seen is None:
            missing = "the cloud" if cloud is None else "metadata"
            self._freeze(eni, f"{missing} does not show it on this instance")
        elif not await self._kernel.link_appears(eni.mac, timeout=DEVICE_TIMEOUT):
            if self._unmoved(eni):
                self._freeze(eni, "the kernel has no device with its MAC")
        elif self._unmoved(eni):
            try:
                self._seen(eni, cloud, seen, before)
            except KernelError as exc:
                self._freeze(eni, str(exc))

    def _gone(self, eni: EniRecord) -> None:
        """Neither witness has it. Without pods on it it is forgotten; with pods it is kept and said."""
        book = self._journal.book
        recorded = any(a.eni_id == eni.eni_id for a in book.attachments.values())
        if recorded or self._holds.eni_in_use(eni.eni_id, ()):
            self._freeze(eni, "cloud and metadata no longer show it, but pods hold its addresses")
            return
        log.warning("ENI %s (%s) is gone from cloud and metadata: forgotten", eni.eni_id, eni.mac)
        self._kernel.forget_eni(eni.mac)
        addresses = tuple(r.address for r in book.of_eni(eni.eni_id))
        self._journal.record(Changes(gone_enis=(eni.eni_id,), gone_addresses=addresses))

    def _freeze(self, eni: EniRecord, reason: str) -> None:
        if eni.state is EniState.FROZEN and eni.reason == reason:
            return
        self._journal.record(transitions.freeze_eni(eni, reason, self._journal.now()))
        self._say(f"ENI {eni.eni_id} ({eni.mac}) is frozen: {reason}; its free addresses are not handed out")

    def _seen(self, eni: EniRecord, cloud: Eni, seen: MetadataEni, before: frozenset[Address]) -> None:
        served = transitions.eni_serves(self._journal.book, eni, seen, self._journal.now(), operation=None)
        self._kernel.prepare_uplink(shared_eni(served.enis[0], self._mtu))
        gateways = (served.enis[0].gateway, served.enis[0].gateway_v6)
        if eni.state is not EniState.SERVING or gateways != (eni.gateway, eni.gateway_v6):
            self._journal.record(Changes(enis=served.enis))
        cloud_shows: frozenset[Address] = frozenset(cloud.ipv4) | frozenset(cloud.ipv6)
        metadata_shows: frozenset[Address] = seen.ipv4 | seen.ipv6
        if not self._dual:
            cloud_shows = frozenset(cloud.ipv4)
            metadata_shows = frozenset(seen.ipv4)
        records = list(self._journal.book.of_eni(eni.eni_id))
        verdict = judge(records, cloud_shows, metadata_shows)
        self._carry_out(eni, replace(verdict, freeze=tuple(r for r in verdict.freeze if r.address in before)))

    def _freeze_lost(self, eni_id: EniId, shown: frozenset[Address], before: frozenset[Address]) -> None:
        """Of an ENI that an operation is about; all else is the operation's to say.

        A ledger that is older than the node has an operation that ended since, and addresses that went since.
        """
        eni = self._journal.book.enis.get(eni_id)
        if eni is None or eni.state is not EniState.SERVING:
            return
        records = [r for r in self._journal.book.of_eni(eni_id) if r.address in before]
        records = [r for r in records if self._dual or r.address.version == 4]
        lost = judge(records, shown, shown).freeze
        if lost:
            self._freeze_addresses(eni, lost)

    def _freeze_addresses(self, eni: EniRecord, records: tuple[AddressRecord, ...]) -> None:
        self._journal.record(transitions.freeze_addresses(records, self._journal.now()))
        told = ", ".join(str(r.address) for r in records)
        self._say(f"Mark as invalid, ip: {told}: neither cloud nor metadata shows it on {eni.eni_id}")

    def _carry_out(self, eni: EniRecord, verdict: Verdict) -> None:
        journal = self._journal
        if verdict.freeze:
            self._freeze_addresses(eni, verdict.freeze)
        if verdict.thaw:
            journal.record(transitions.thaw_addresses(verdict.thaw, journal.now()))
        adopt = frozenset(verdict.adopt)
        twice = adopt & self._orphans.get(eni.eni_id, frozenset())
        self._orphans[eni.eni_id] = adopt
        if twice:
            log.warning(
                "adopting %s on %s, seen by cloud and metadata twice", sorted(map(str, twice)), eni.eni_id
            )
            journal.record(transitions.adopt_addresses(journal.book, eni.eni_id, twice))

    async def _adopt_leaned_on(self, strangers: frozenset[Mac]) -> None:
        """As metadata shows them, without a word from the cloud.

        Of a pod whose rules lead to it metadata has to show an address on it: numbers of links, and with them
        of tables, are used again, and an old rule may lead to an ENI that is somebody else's.
        """
        carriers = self._holds.look()
        for mac in strangers.intersection(Mac(mac) for carrier in carriers for mac in carrier.enis):
            try:
                seen = await self._metadata.eni(mac, ipv6=self._dual)
                if seen is None or seen.eni_id in self._journal.book.enis:
                    continue
                on_it = [c for c in carriers if mac in c.enis and c.addresses & (seen.ipv4 | seen.ipv6)]
                if not on_it:
                    continue
                alone = any(UPLINK_OF[NetworkMode(c.mode)] is UplinkKind.OWN_ENI for c in on_it)
                kind = EniKind.EXCLUSIVE if alone else EniKind.SECONDARY
                eni = transitions.shown_eni(seen, kind, self._journal.now())
                self._kernel.prepare_uplink(shared_eni(eni, self._mtu))
                changes = transitions.eni_serves(self._journal.book, eni, seen, eni.since, operation=None)
                self._journal.record(changes)
                log.warning("ENI %s (%s) is in the ledger again: running pods lean on it", eni.eni_id, mac)
            except TerwayError as exc:  # of one ENI, and the others are looked at
                log.warning("ENI %s is not taken into the ledger yet: %s", mac, exc)

    async def _adopt(self, strangers: Iterable[Eni]) -> None:
        pending = {o.eni_id for o in self._journal.book.operations.values()}
        for eni in strangers:
            ours = self._tags <= set(eni.tags) and eni.eni_type is EniType.SECONDARY
            if not ours or eni.eni_id in pending:
                continue
            log.warning("ENI %s has our tags and the ledger does not know it: adopted", eni.eni_id)
            self._journal.record(transitions.adopt_eni(eni, self._journal.now()))
            record = self._journal.book.enis[eni.eni_id]
            try:
                await self._work.serve_adopted(record)
            except MetadataError as exc:  # its silence says nothing of the ENI: the next round looks again
                log.warning("ENI %s is served once metadata shows it: %s", eni.eni_id, exc)
            except TerwayError as exc:
                if self._unmoved(record):
                    self._freeze(record, str(exc))

    def _say(self, message: str) -> None:
        log.warning("%s", message)
        self._kubernetes.event(None, EventType.WARNING, "ResourceInvalid", message)

"""Who must have seen what the cloud has made before a pod is served from it: kernel, metadata and cloud.

Nothing here waits a fixed time. The kernel tells by netlink when a device appears; metadata is polled from
5 ms up; the status is asked for once the other two witnesses agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from control.agent.allocation.ownership import Ownership
from control.agent.dataplane.ports import NodeKernel
from control.model.cloud import EniStatus, Metadata, MetadataEni
from control.model.errors import Cause, CloudError, MetadataError
from control.model.ids import Address, Mac
from control.model.records import EniRecord, Operation

WITNESS_TIMEOUT = 60.0
"""Seconds an attached ENI may take to be seen by kernel, metadata and cloud before it is given up."""
ASSIGNED_TIMEOUT = 10.0
"""Seconds a newly assigned address may take to appear in metadata before it is frozen."""
SILENCE_TIMEOUT = 5.0
"""Seconds metadata may not answer at all before whoever waits is told. What the cloud has made stays an
intent in the ledger: nothing is given up or frozen because nobody could be asked."""


class _Silence:
    """How long metadata has not answered at a stretch."""

    def __init__(self) -> None:
        self._since: float | None = None

    def broken(self) -> None:
        self._since = None

    def goes_on(self, exc: MetadataError) -> None:
        """Raises ``exc`` once it has been too long."""
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        if now - self._since >= SILENCE_TIMEOUT:
            raise exc


async def delays(total: float, *, first: float, most: float) -> AsyncIterator[None]:
    """Yield at once and then after growing pauses, until ``total`` seconds have gone."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + total
    pause = first
    while True:
        yield
        left = deadline - loop.time()
        if left <= 0:
            return
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, most)


class Witnesses:
    def __init__(self, *, metadata: Metadata, kernel: NodeKernel, ownership: Ownership, dual: bool) -> None:
        self._metadata = metadata
        self._kernel = kernel
        self._ownership = ownership
        self._dual = dual

    async def metadata_answers(self) -> None:
        """Before anything new is asked of the cloud: without metadata nobody could use it.

        Raises MetadataError once it has been silent for ``SILENCE_TIMEOUT``: a moment of it is waited out.
        """
        silence = _Silence()
        async for _ in delays(WITNESS_TIMEOUT, first=0.05, most=0.5):
            try:
                await self._metadata.macs()
                return
            except MetadataError as exc:
                silence.goes_on(exc)

    async def of_eni(self, record: EniRecord, operation: Operation | None) -> MetadataEni:
        """Kernel, metadata and cloud, in this order of cost. Raises a TIMEOUT error naming who is missing."""
        in_kernel, seen = await asyncio.gather(
            self._kernel.link_appears(record.mac, timeout=WITNESS_TIMEOUT),
            self._in_metadata(record, operation),
        )
        if not in_kernel:
            raise self._not_seen(record, "the kernel has no device with its MAC")
        if seen is None:
            raise self._not_seen(record, "metadata does not list it with its addresses")
        async for _ in delays(WITNESS_TIMEOUT, first=0.05, most=2.0):
            if any(e.status is EniStatus.IN_USE for e in await self._ownership.described(record.eni_id)):
                return seen
        raise self._not_seen(record, "the cloud does not say InUse")

    def _not_seen(self, record: EniRecord, why: str) -> CloudError:
        return CloudError(
            f"ENI {record.eni_id} ({record.mac}) was attached but cannot serve: {why}",
            cause=Cause.TIMEOUT,
            action="AttachNetworkInterface",
            remedy="it is given back and a new one tried; if it repeats, look at the instance's ENIs in ECS",
        )

    async def _in_metadata(self, record: EniRecord, operation: Operation | None) -> MetadataEni | None:
        want_v4 = operation.ipv4_count if operation else 1
        want_v6 = operation.ipv6_count if operation else 0
        silence = _Silence()
        async for _ in delays(WITNESS_TIMEOUT, first=0.005, most=0.5):
            try:
                seen = await self._metadata.eni(record.mac, ipv6=self._dual)
            except MetadataError as exc:
                silence.goes_on(exc)
                continue
            silence.broken()
            if seen is not None and len(seen.ipv4) >= want_v4 and len(seen.ipv6) >= want_v6:
                return seen
        return None

    async def addresses_shown(self, mac: Mac, addresses: frozenset[Address]) -> bool:
        """Raises MetadataError if nobody could be asked: then nothing is known of them."""
        silence = _Silence()
        async for _ in delays(ASSIGNED_TIMEOUT, first=0.005, most=0.5):
            try:
                shown: frozenset[Address] = frozenset(await self._metadata.addresses(mac))
                if any(a.version == 6 for a in addresses):
                    shown |= frozenset(await self._metadata.addresses_v6(mac))
            except MetadataError as exc:
                silence.goes_on(exc)
                continue
            silence.broken()
            if addresses <= shown:
                return True
        return False

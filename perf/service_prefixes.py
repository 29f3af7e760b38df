"""What Services cost an agent that knows no range of theirs. ``./run perf service-prefixes``.

Each ClusterIP is a row of the fast path's map then. Told, changed by one and compared as the agent does it,
with a real map and a real ledger. ``hold`` is the longest time for which the event loop came to nothing else,
``own`` the processor time of this process in such a while, which a busy machine does not make longer; ``add``
is the longest that putting a pod's row took meanwhile. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from control.agent.dataplane.service_prefixes import ServicePrefixes
from control.agent.state.journal import Journal
from control.kube.fake import FakeKubernetes
from control.model.clock import SystemClock
from control.store.unread import open_ledger
from datapath.acceleration.companion import Companion, Prefixes
from datapath.acceleration.rows import Pod, UplinkName
from perf.machine import commit, cpu
from perf.paths import bpf_file_system, new_namespace

COUNTS = (5_000, 60_000)
POD = Pod(
    424242,
    UplinkName("02:00:00:00:00:03"),
    "02:00:00:00:00:01",
    "02:00:00:00:00:02",
    (IPv4Address("10.0.1.1"),),
)
_BEAT = 0.001


@dataclass(frozen=True, slots=True)
class Row:
    """Times in ms."""

    name: str
    services: int
    took: float
    hold: float
    own: float
    add: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run perf service-prefixes", description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--changes", type=int, default=20)
    told = parser.parse_args(argv)
    print(f"kernel {platform.release()}, {cpu()}, commit {commit()}")
    print(f"{'what':16}{'services':>9}{'took ms':>10}{'hold ms':>10}{'own ms':>9}{'add ms':>9}")
    for count in told.services:
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for row in asyncio.run(_measured(stack, scratch, count, told.changes)):
                print(
                    f"{row.name:16}{row.services:9}{row.took:10.1f}{row.hold:10.1f}{row.own:9.1f}{row.add:9.1f}"
                )
    return 0


async def _measured(stack: ExitStack, scratch: Path, count: int, changes: int) -> list[Row]:
    node = new_namespace(stack)
    bpffs = stack.enter_context(bpf_file_system(scratch / "bpf"))
    ledger = open_ledger(scratch / "terway.db")
    stack.callback(ledger.close)
    kubernetes = FakeKubernetes()
    kubernetes.on_services(lambda: None)
    services = ServicePrefixes(Journal(ledger, SystemClock(), cooldown=30.0), kubernetes)
    companion = Companion(node)
    companion.open(bpffs / "terway", Prefixes())
    stack.callback(companion.close)
    addresses = {IPv4Address("10.96.0.0") + 2 * number for number in range(count)}

    async def tell() -> None:
        await services.refresh()
        known = services.known()
        assert known is not None
        await asyncio.to_thread(companion.tell, Prefixes(known.ranges, (), known.addresses))

    async def change() -> None:
        for number in range(changes):
            addresses.add(IPv4Address("10.112.0.0") + number)
            kubernetes.put_services(addresses)
            await tell()

    gc.collect()
    gc.freeze()  # as the agent does after its start
    kubernetes.put_services(addresses)
    first = await _observed("first list", count, companion, tell)
    each = await _observed(f"{changes} changes", count, companion, change)
    compared = await _observed(
        "comparison", count, companion, lambda: asyncio.to_thread(companion.compare_prefixes)
    )
    await kubernetes.close()
    return [first, each, compared]


async def _observed(name: str, count: int, companion: Companion, work: Callable[[], Awaitable[None]]) -> Row:
    holds, owns, adds = [0.0], [0.0], [0.0]

    async def beat() -> None:
        while True:
            began, used = time.perf_counter(), time.process_time()
            await asyncio.sleep(_BEAT)
            holds.append(time.perf_counter() - began - _BEAT)
            owns.append(time.process_time() - used)
            began = time.perf_counter()
            companion.fast.put_endpoint(POD)
            companion.fast.drop_endpoint(POD.host_ifindex)
            adds.append((time.perf_counter() - began) / 2)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    await work()
    took = time.perf_counter() - began
    beating.cancel()
    return Row(name, count, took * 1e3, max(holds) * 1e3, max(owns) * 1e3, max(adds) * 1e3)


if __name__ == "__main__":
    raise SystemExit(main())

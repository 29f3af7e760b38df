"""What is known of the flows that the stack carries: whose they are, and for how long.

The programs note peers and record flows by themselves (``bpf/lib/flow_table.h``). Here is the rest: a slot
that goes to another pod, the clock that is conntrack's, and the turn of an epoch, which forgets what is over.

``flow_owners`` is mapped into memory: single fields of its rows are written beside the programs, which the
update of a whole row would undo.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from datapath import sysctl
from datapath.acceleration.load import Loaded
from datapath.ebpf import libbpf
from datapath.ebpf.table import Rows
from datapath.errors import KernelError

EPOCH = 45.0
"""Seconds that an epoch lasts at least."""
MARGIN = 60
"""Seconds that a record outlives what conntrack knows of its flow: the turn of an epoch takes a while."""
_SECOND = 1_000_000_000

_TIMEOUTS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "FLOW_TCP_BRIEF": (
        ("tcp_timeout_syn_sent", 120),
        ("tcp_timeout_syn_recv", 60),
        ("tcp_timeout_close", 10),
    ),
    "FLOW_TCP_OPEN": (
        ("tcp_timeout_established", 432_000),
        ("tcp_timeout_unacknowledged", 300),
        ("tcp_timeout_max_retrans", 300),
    ),
    "FLOW_TCP_CLOSING": (
        ("tcp_timeout_fin_wait", 120),
        ("tcp_timeout_close_wait", 60),
        ("tcp_timeout_last_ack", 30),
        ("tcp_timeout_time_wait", 120),
    ),
    "FLOW_UDP": (("udp_timeout", 30), ("udp_timeout_stream", 180)),
    "FLOW_SCTP": (
        ("sctp_timeout_established", 432_000),
        ("sctp_timeout_shutdown_ack_sent", 3),
        ("sctp_timeout_heartbeat_sent", 30),
    ),
    "FLOW_OTHER": (
        ("generic_timeout", 600),
        ("icmp_timeout", 30),
        ("icmpv6_timeout", 30),
        ("gre_timeout_stream", 180),
    ),
}
"""Names below net/netfilter without ``nf_conntrack_``, with the kernel's defaults for those it has not got.
The longest counts. Source: Documentation/networking/nf_conntrack-sysctl.rst."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """Packets whose flow got no record: as its pod had its share, or as the table was full."""

    share: int
    full: int


class Flows:
    """The maps of ``loaded`` that remember. One writer at a time, beside the programs."""

    def __init__(self, loaded: Loaded) -> None:
        self._names = loaded.names
        self._flows = loaded.table("flows")
        self._counts, self._kept = loaded.table("flow_counts"), loaded.table("flow_kept")
        self._no_counts, self._none_kept = (one.values(self._epochs) for one in (self._counts, self._kept))
        table = loaded.table("flow_owners")
        size = table.value.itemsize * table.shape.max_entries
        self._memory = mmap.mmap(table.fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        self._owners = np.frombuffer(self._memory, table.value, table.shape.max_entries)
        self.turned = time.monotonic()
        """When the present epoch began, as far as this process knows."""

    def close(self) -> None:
        del self._owners
        self._memory.close()

    # Owners

    def give(self, slot: int, *, earlier: bool) -> int:
        """The slot has another pod from now on; returns its generation.

        ``earlier``: the pod has sent before anything was noted, so that every peer has to be looked up.
        """
        row = self._owners[slot]
        row["generation"] += np.uint32(1)
        row["blind_until"] = self._blind_for("FLOW_UDP") if earlier else 0
        row["refused_share"] = row["refused_full"] = 0
        row["noted"] = int(earlier)
        keys = np.arange(slot * self._epochs, (slot + 1) * self._epochs, dtype=self._counts.key)
        self._counts.put(keys, self._no_counts)
        self._kept.put(keys, self._none_kept)
        return int(row["generation"])

    def generation(self, slot: int) -> int:
        return int(self._owners[slot]["generation"])

    def generations(self) -> bytes:
        """Of all slots."""
        return self._owners["generation"].tobytes()

    def restore(self, slot: int, generation: int) -> None:
        """The slot is the pod's that had it, and nothing is known of what it has sent or received."""
        self._owners[slot]["generation"] = generation
        self.blind([slot])

    def note(self, slot: int, peers: Rows) -> None:
        """Peers by hash."""
        self._owners["noted"][slot, peers] = 1

    def adopt(self, slots: list[int], rows: Rows) -> None:
        """What another layout knew of the pods that have these slots; what ours has noted since stays."""
        for slot, row in zip(slots, rows, strict=True):
            if not self._owners[slot]["generation"]:
                for name in ("generation", "refused_share", "refused_full"):
                    self._owners[slot][name] = row[name]
            if self._owners[slot]["blind_until"] < row["blind_until"]:
                self._owners[slot]["blind_until"] = row["blind_until"]
            if row["noted"].size != self._names.peers_noted:
                self._owners[slot]["noted"] = 1
            else:
                self.note(slot, np.flatnonzero(row["noted"]))

    def blind(self, slots: Iterable[int]) -> None:
        """Nothing is known any more of the flows that these pods have."""
        for slot in slots:
            self._owners[slot]["noted"] = 1
            self._owners[slot]["blind_until"] = self._blind_for("FLOW_TCP_OPEN")

    def refusals(self, slot: int) -> Refusals:
        row = self._owners[slot]
        return Refusals(int(row["refused_share"]), int(row["refused_full"]))

    def _blind_for(self, kind: str) -> np.uint64:
        seconds = self.timeouts()[self._names.flow_kinds[kind]]
        return np.uint64(time.clock_gettime_ns(time.CLOCK_MONOTONIC) + seconds * _SECOND)

    # Time

    def timeouts(self) -> tuple[int, ...]:
        """Seconds, by enum flow_kind: as long as conntrack of the calling thread's namespace remembers."""
        ordered = sorted(self._names.flow_kinds.items(), key=lambda item: item[1])
        return tuple(MARGIN + max(map(_timeout, *zip(*_TIMEOUTS[name], strict=True))) for name, _ in ordered)

    @property
    def due(self) -> bool:
        """Whether the present epoch has lasted long enough."""
        return time.monotonic() - self.turned >= EPOCH

    def finish(self, epoch: int, timeouts: tuple[int, ...]) -> bool:
        """Make an end of the epoch before ``epoch``, so that the next may begin. False if there is no room.

        What is alive of the one before goes into ``epoch``; then nothing but ``epoch`` is left.
        """
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if not self._any():
            return True
        keys, values = self._flows.dump()
        before = keys["epoch"] == (epoch - 1) % self._epochs
        alive = self._alive(values, now, timeouts)
        # First what is over: no program renews that, and it makes room.
        self._flows.remove(keys[(keys["epoch"] != epoch % self._epochs) & ~(before & alive)])
        if not self._carry(keys[before & alive], values[before & alive], epoch)[1]:
            return False
        self._flows.remove(keys[before & alive])
        return True

    def begin(self, epoch: int) -> None:
        """Make room for the counts of ``epoch``, which nobody has looked at yet."""
        slots = np.arange(self._counts.shape.max_entries // self._epochs)
        keys = (slots * self._epochs + epoch % self._epochs).astype(self._counts.key)
        self._counts.put(keys, self._counts.values(len(keys)))
        self._kept.put(keys, self._kept.values(len(keys)))
        self.turned = time.monotonic()

    def follow(self, epoch: int, timeouts: tuple[int, ...]) -> None:
        """After ``epoch`` has begun: what is alive of the one before, into it. What has no room stays."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if not self._any():
            return
        keys, values = self._flows.dump()
        chosen = (keys["epoch"] == (epoch - 1) % self._epochs) & self._alive(values, now, timeouts)
        carried, _ = self._carry(keys[chosen], values[chosen], epoch)
        found, numbers = np.unique(carried["charged"], return_counts=True)
        kept = self._kept.values(len(found))
        kept["kept"] = numbers
        self._kept.put((found * self._epochs + epoch % self._epochs).astype(self._kept.key), kept)

    def record(self, keys: Rows, values: Rows) -> None:
        """Flows that somebody else has known, in the words of the map; those that are there stay."""
        self._carry(keys, values, int(keys["epoch"][0]) if len(keys) else 0)

    @property
    def _epochs(self) -> int:
        return self._names.flow_epochs

    def _any(self) -> bool:
        """Whether there are records at all. Where conntrack is asked, there are hardly ever."""
        return (
            next(iter(libbpf.map_keys(self._flows.fd, self._flows.shape.key_size, most=1)), None) is not None
        )

    def _alive(self, values: Rows, now: int, timeouts: tuple[int, ...]) -> Rows:
        """``now`` is from before the rows were read, so that no program finds alive what is dead here."""
        limits = np.array([seconds * _SECOND for seconds in timeouts], np.int64)
        idle = np.int64(now) - values["seen"].astype(np.int64)
        alive = idle <= limits[np.minimum(values["flow_kind"], len(limits) - 1)]
        for end in ("low", "high"):
            slots, generations = values[end]["slot"], values[end]["generation"]
            current = self._owners["generation"][np.minimum(slots, len(self._owners) - 1)]
            alive &= (slots == 0) | (generations == current)
        return np.asarray(alive)

    def _carry(self, keys: Rows, values: Rows, epoch: int) -> tuple[Rows, bool]:
        """Which went into ``epoch``, or were there; and whether all did."""
        copies = keys.copy()
        copies["epoch"] = epoch % self._epochs
        for number in range(len(copies)):
            try:
                libbpf.map_insert(self._flows.fd, copies[number].tobytes(), values[number].tobytes())
            except KernelError:  # E2BIG, ENOMEM
                return values[:number], False
        return values, True


def _timeout(name: str, usual: int) -> int:
    try:
        return int(sysctl.read(f"net/netfilter/nf_conntrack_{name}"))
    except (KernelError, ValueError):
        return usual

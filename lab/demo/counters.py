"""What a node has carried, by its stack's counters and its pods' endpoint counters."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datapath import namespace
from lab import messages
from lab.messages import LabError

ENDPOINTS = "/bpf/endpoints"


@dataclass(frozen=True, slots=True)
class Fast:
    """Packets of one pod that took the fast path: sent, and received."""

    sent: int = 0
    received: int = 0

    def __sub__(self, other: Fast) -> Fast:
        return Fast(self.sent - other.sent, self.received - other.received)


_NONE = Fast()


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one node. ``forwarded``, ``delivered`` (to itself) and ``expired`` (hop limit) are of one family."""

    forwarded: int
    delivered: int
    expired: int
    fast: Mapping[str, Fast] = field(default_factory=dict)
    """By each address of the pod; both families of a pod count together."""

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.forwarded - other.forwarded,
            self.delivered - other.delivered,
            self.expired - other.expired,
            {address: now - other.of(address) for address, now in self.fast.items()},
        )

    def of(self, address: object) -> Fast:
        return self.fast.get(str(address), _NONE)


class NodeCounters:
    """Read again and again: the node's /proc/net/snmp and snmp6 from open files, endpoints by one connection.

    ``window`` is the socket of the node's terwayd. A daemon that has no endpoint counters is asked once.
    """

    def __init__(self, netns: int, window: Path) -> None:
        with namespace.entered(netns):
            self._v4 = os.open("/proc/thread-self/net/snmp", os.O_RDONLY | os.O_CLOEXEC)
            self._v6 = os.open("/proc/thread-self/net/snmp6", os.O_RDONLY | os.O_CLOEXEC)
        self._window: _Window | None = _Window(window)

    def read(self, family: int) -> Counts:
        fast = self._fast()
        if family == 4:
            table = _pairs_of_lines(os.pread(self._v4, 65536, 0).decode())
            return Counts(table["Ip.ForwDatagrams"], table["Ip.InDelivers"], table["Icmp.OutTimeExcds"], fast)
        words = os.pread(self._v6, 65536, 0).decode().split()
        table = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        return Counts(table["Ip6OutForwDatagrams"], table["Ip6InDelivers"], table["Icmp6OutTimeExcds"], fast)

    def close(self) -> None:
        os.close(self._v4)
        os.close(self._v6)
        if self._window is not None:
            self._window.close()

    def _fast(self) -> dict[str, Fast]:
        if self._window is None:
            return {}
        rows = self._window.endpoints()
        if rows is None:
            self._window.close()
            self._window = None
            return {}
        return fast_of(rows)


def fast_of(rows: list[dict[str, Any]]) -> dict[str, Fast]:
    """The answer to ``ENDPOINTS`` by address."""
    found = {}
    for row in rows:
        fast = Fast(int(row["fast_out_packets"]), int(row["fast_in_packets"]))
        found.update({str(address): fast for address in row["addresses"]})
    return found


def _pairs_of_lines(text: str) -> dict[str, int]:
    """/proc/net/snmp: for each protocol a line of names and one of values, both headed by its name."""
    table = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        head, *words = names.split()
        for word, value in zip(words, values.split()[1:], strict=True):
            table[f"{head[:-1]}.{word}"] = int(value)
    return table


class _Window(http.client.HTTPConnection):
    """One connection that is kept, so that a reading takes well under a millisecond."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30.0)
        self._path = path

    def connect(self) -> None:
        self.sock = messages.connect(self._path, timeout=30.0)

    def endpoints(self) -> list[dict[str, Any]] | None:
        """None if this daemon has none to tell of. Raises LabError if it does not answer."""
        try:
            self.request("GET", ENDPOINTS)
            response = self.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise LabError(f"terwayd does not answer GET {ENDPOINTS}: {exc}") from exc
        if response.status != 200:
            return None
        rows: list[dict[str, Any]] = json.loads(body)
        return rows

"""What a node's network stack has done, read from its own counters: the witness for ``path``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from datapath import namespace


@dataclass(frozen=True, slots=True)
class StackCounts:
    """Datagrams of one family that the node's stack forwarded, and delivered to itself."""

    forwarded: int
    delivered: int

    def __sub__(self, other: StackCounts) -> StackCounts:
        return StackCounts(self.forwarded - other.forwarded, self.delivered - other.delivered)


class NodeCounters:
    """/proc/net/snmp and snmp6 of one network namespace, read again and again from the same open files."""

    def __init__(self, netns: int) -> None:
        with namespace.entered(netns):
            self._v4 = os.open("/proc/thread-self/net/snmp", os.O_RDONLY | os.O_CLOEXEC)
            self._v6 = os.open("/proc/thread-self/net/snmp6", os.O_RDONLY | os.O_CLOEXEC)

    def read(self, family: int) -> StackCounts:
        if family == 4:
            names, values = os.pread(self._v4, 65536, 0).decode().splitlines()[:2]
            table = dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
            return StackCounts(table["ForwDatagrams"], table["InDelivers"])
        lines = os.pread(self._v6, 65536, 0).decode().split()
        table = dict(zip(lines[::2], map(int, lines[1::2]), strict=True))
        return StackCounts(table["Ip6OutForwDatagrams"], table["Ip6InDelivers"])

    def close(self) -> None:
        os.close(self._v4)
        os.close(self._v6)

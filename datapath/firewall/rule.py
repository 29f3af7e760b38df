"""Tables, chains and rules as values, whichever of the kernel's two packet filters they come from.

A rule is a list of steps in the kernel's order. Conditions among them narrow down which packets get to what
follows; a condition that is not understood is left out, so that the rule seems to mean more packets than it
does. What acts on packets is never left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from datapath.firewall.addresses import Addresses


class Source(StrEnum):
    """Which filter of the kernel a table is in."""

    NFT = "nft"
    LEGACY = "iptables-legacy"


class Family(StrEnum):
    """Those whose chains see packets that are routed."""

    IP = "ip"
    IP6 = "ip6"
    INET = "inet"
    NETDEV = "netdev"


VERSIONS = {Family.IP: (4,), Family.IP6: (6,), Family.INET: (4, 6), Family.NETDEV: (4, 6)}


class What(StrEnum):
    """What a rule does to a packet, in the words of an operator."""

    POLICY_DROP = "policy drop"
    DROP = "drop"
    REJECT = "reject"
    QUEUE = "queue"
    MASQUERADE = "masquerade"
    SNAT = "snat"
    DNAT = "dnat"
    REDIRECT = "redirect"
    TPROXY = "tproxy"
    SYNPROXY = "synproxy"
    COPY = "copy of the packet"
    MOVE = "move to another device"
    VERDICT_MAP = "a verdict map decides"
    OBJECT_MAP = "a map of objects decides"
    CHANGE = "change of the packet"
    UNKNOWN = "unknown action"


@dataclass(frozen=True, slots=True)
class Table:
    source: Source
    family: Family
    name: str

    def __str__(self) -> str:
        if self.source is Source.NFT:
            return f"nft table {self.family} {self.name}"
        return f"{self.source} table {self.name}"


@dataclass(frozen=True, slots=True)
class Chain:
    """The name of a chain, whole."""

    table: Table
    name: str

    def __str__(self) -> str:
        text = f"{self.table} chain {self.name}"
        if self.table.source is Source.NFT:
            return text
        return f"{text} (IPv{VERSIONS[self.table.family][0]})"

    @property
    def command(self) -> str:
        """What shows the chain to an operator, with the numbers that ``Rule`` has."""
        table = self.table
        if table.source is Source.NFT:
            return f"nft -a list chain {table.family} {table.name} {self.name}"
        program = "iptables-legacy" if table.family is Family.IP else "ip6tables-legacy"
        return f"{program} -t {table.name} -nvL {self.name} --line-numbers"


@dataclass(frozen=True, slots=True)
class Names:
    """Devices by name: one, or all that begin with ``text``."""

    text: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Base:
    """A chain that packets come to by themselves. ``devices`` None: not bound to devices."""

    chain: Chain
    drops: bool
    """Its policy."""
    devices: tuple[Names, ...] | None = None


@dataclass(frozen=True, slots=True)
class From:
    addresses: Addresses


@dataclass(frozen=True, slots=True)
class To:
    addresses: Addresses


@dataclass(frozen=True, slots=True)
class Version:
    """Packets of IP version ``number`` only."""

    number: int


@dataclass(frozen=True, slots=True)
class Through:
    """Packets by a device that matches, or by none that does if ``inverted``; in and out alike."""

    names: Names
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class StackOnly:
    """Packets that the fast path leaves to the stack in any case."""


@dataclass(frozen=True, slots=True)
class Act:
    what: What
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Jump:
    """Jump and goto alike: the packet may come back and may not."""

    name: str


Step = From | To | Version | Through | StackOnly | Act | Jump


@dataclass(frozen=True, slots=True)
class Rule:
    """``number``: the handle for nft, the place in the chain from 1 on for iptables-legacy."""

    number: int
    steps: tuple[Step, ...]

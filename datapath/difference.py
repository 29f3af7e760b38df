"""One object that is not as planned, and its kind: what repair, CHECK, metric and event speak of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ObjectKind(StrEnum):
    """What an object is. The values are a metric's label and an event's word: none is ever used anew."""

    ADDRESS = "address"
    LINK = "link"
    """A link's state, MTU, MAC, name or alias, and what it lets its pod do to the node."""
    NEIGHBOUR = "neighbour"
    ROUTE = "route"
    RULE = "rule"
    SYSCTL = "sysctl"
    """A setting, of one link or of all."""
    NFT = "nft"
    """The guard's table of nf_tables, its chains and rules."""
    PROGRAM = "program"
    """A program of eBPF at its hook."""
    ROW = "row"
    """A row of a map of eBPF."""
    PIN = "pin"
    """A name in the bpf file system."""
    MODE = "mode"
    """A pod's network mode, which this release does not know: told, and its objects left."""
    UPLINK = "uplink"
    """An ENI as a whole: whose it is."""
    ROUTING = "routing"
    """Where the kernel sends a packet, if it is not where the objects lead: told, and nobody's to mend."""
    ENFORCEMENT = "enforcement"
    """A forged source that nobody refuses: told by CHECK."""


@dataclass(frozen=True, slots=True)
class Difference:
    """``what`` names the object in words, ``found`` says what is there instead."""

    kind: ObjectKind
    what: str
    found: str

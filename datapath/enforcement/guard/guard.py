"""The guard's table in a network namespace: written whole, compared, mended, its counters read."""

from __future__ import annotations

import errno
import logging
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from socket import socket as RawSocket

from datapath.difference import Difference, ObjectKind
from datapath.enforcement.guard import batch
from datapath.enforcement.guard.comparison import same
from datapath.enforcement.guard.ruleset import (
    MEANINGS,
    PRIORITY,
    SETS,
    TABLE,
    Reason,
    Rule,
    Ruleset,
    ruleset,
)
from datapath.errors import KernelError
from datapath.firewall.connection import open_netfilter, open_raw
from datapath.firewall.nft import Nft
from datapath.netlink import event_filter, wire
from datapath.netlink.event_filter import Test
from datapath.netlink.socket import Socket, waiting
from datapath.netlink.wire import Message, Request

log = logging.getLogger(__name__)

_HEAD = 4
_NFNLGRP_NFTABLES = 7
_NAME_AT = 16 + _HEAD + 4
_NO_SUCH_TABLE = frozenset({errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class Drops:
    """Packets of one reason since the table was made."""

    reason: Reason
    packets: int

    @property
    def meaning(self) -> str:
        return MEANINGS[self.reason]


class Guard:
    """``netns`` as for ``Socket``. Safe from several threads.

    ``lacking`` says why the kernel does not take the table, "" while it is in force.
    """

    def __init__(self, netns: int | None = None) -> None:
        self._socket: Socket | None = None
        self.lacking = "the kernel has no nf_tables"
        self._busy = threading.Lock()
        self._good: tuple[bytes, Ruleset] | None = None
        """As of which generation of nf_tables the table was as wanted."""
        self._events: RawSocket | None = None
        try:
            self._socket = open_netfilter(netns)
            self._events = _events(netns)
        except OSError as exc:
            self.lacking = f"netfilter's netlink cannot be opened: {exc}"

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._events is not None:
            self._events.close()
            self._events = None

    def stand(self, enis: Iterable[str]) -> tuple[Difference, ...]:
        """The table is as it should be for ENIs of these names; says what was not.

        A kernel that refuses is no error: ``lacking`` tells.
        """
        if self._socket is None:
            return ()
        wanted = ruleset(enis)
        try:
            with self._busy:
                generation = _generation(self._socket)
                if generation and (generation, wanted) == self._good:
                    return ()
                found = _difference(self._socket, wanted)
                if found is not None:
                    _write(self._socket, wanted, found.strange)
                self._good = (generation, wanted) if found is None else None
        except (KernelError, OSError) as exc:
            lacking = f"nf_tables refused the table inet {TABLE}: {exc}"
            if lacking != self.lacking:
                log.warning("%s", lacking)
            self.lacking = lacking
            return ()
        self.lacking = ""
        return () if found is None else (found.difference,)

    def fileno(self) -> int:
        """Readable when somebody has changed the table; -1 if there is none, or the kernel does not tell."""
        return -1 if self._events is None else self._events.fileno()

    def changed(self) -> bool:
        """Whether somebody else has changed the table since the last time. Never waits."""
        if self._events is None or self._socket is None:
            return False
        ours = self._socket.port
        found = False
        for data in waiting(self._events):
            # The number of who changed it stands in each message; a transaction is one hand's.
            found = found or data is None or int.from_bytes(data[12:16], sys.byteorder) != ours
        return found

    def drops(self) -> list[Drops]:
        """One per reason; none while the table is not there. Raises KernelError."""
        if self._socket is None or self.lacking:
            return []
        body = batch.head() + wire.attribute_text(1, TABLE)
        request = _dump(Nft.GETOBJ, body, "list counters of")
        with self._busy:
            found = dict(map(_counter, self._socket.dump(request)))
        return [Drops(reason, found[reason]) for reason in Reason if reason in found]

    def remove(self) -> None:
        """Succeeds for the absent. Raises KernelError."""
        if self._socket is not None:
            with self._busy:
                self._socket.batch(*batch.framed(batch.new_table(), batch.delete_table()))


def _write(socket: Socket, wanted: Ruleset, strange: Iterable[Request]) -> None:
    """In one transaction. Counters stay, unless somebody has changed what cannot be written over.

    ``strange``: what takes away what nobody of ours has made.
    """
    objects = [
        *(batch.new_counter(reason) for reason in Reason),
        *(batch.new_set(one, number) for number, one in enumerate(SETS, start=1)),
        *map(batch.new_chain, wanted.chains),
    ]
    rules = [*map(batch.new_rule, wanted.rules)]
    try:
        socket.batch(*batch.framed(batch.new_table(), batch.flush_rules(), *strange, *objects, *rules))
    except KernelError:
        anew = (batch.new_table(), batch.delete_table(), batch.new_table())
        socket.batch(*batch.framed(*anew, *objects, *rules))


@dataclass(frozen=True, slots=True)
class _Found:
    """What is not as wanted, and what takes away what nobody of ours has made."""

    difference: Difference
    strange: tuple[Request, ...] = ()


def _difference(socket: Socket, wanted: Ruleset) -> _Found | None:
    """None if the table is as wanted: awake, its chains in their places with their rules, no more."""
    what = f"nft table inet {TABLE}"
    flags = _table_flags(socket)
    if flags is None:
        return _Found(Difference(ObjectKind.NFT, what, "absent"))
    chains = dict(_chains(socket))
    others = _strange(socket, chains, wanted)
    strange = tuple(others.values())
    if flags:
        return _Found(Difference(ObjectKind.NFT, what, "switched off"), strange)
    for chain in wanted.chains:
        if chain.name not in chains or chains[chain.name] != chain.hook:
            return _Found(
                Difference(ObjectKind.NFT, f"chain {chain.name} of {what}", "absent, or at another place"),
                strange,
            )
    listed = _rules(socket)
    for name in dict.fromkeys(chain.name for chain in wanted.chains):
        planned = [rule for rule in wanted.rules if rule.chain == name]
        there = [expressions for chain, expressions in listed if chain == name]
        if len(planned) != len(there) or not all(map(_is_rule, planned, there)):
            return _Found(Difference(ObjectKind.NFT, f"rules of chain {name} of {what}", "others"), strange)
    if others:
        words = f"{next(iter(others))} of {what}"
        return _Found(Difference(ObjectKind.NFT, words, "another hand's"), strange)
    return None


def _strange(socket: Socket, chains: Iterable[str], wanted: Ruleset) -> dict[str, Request]:
    """What nobody of ours has made, by words, with what takes it away, who leans on another first."""
    ours = {chain.name for chain in wanted.chains}
    sets = {one.name for one in SETS}
    others = (one for one, _ in _named(socket, Nft.GETSET) if one not in sets)
    found = {f"set {name}": batch.delete_set(name) for name in others}
    found |= {f"chain {name}": batch.delete_chain(name) for name in sorted(set(chains) - ours)}
    counters = {reason.value for reason in Reason}
    for name, kind in _named(socket, Nft.GETOBJ):
        if name not in counters or kind != batch.COUNTER_OBJECT:
            found[f"object {name}"] = batch.delete_object(name, kind)
    for name, _ in _named(socket, Nft.GETFLOWTABLE):
        found[f"flowtable {name}"] = batch.delete_flowtable(name)
    return found


def _named(socket: Socket, kind: Nft) -> list[tuple[str, int]]:
    """Of our table, with what is the type of an object. Sets that a rule has for itself go with the rule."""
    listed = []
    for message in socket.dump(_dump(kind, batch.head() + wire.attribute_text(1, TABLE), "list objects of")):
        found = wire.attributes(message.body, _HEAD)
        ours = message.body[0] == batch.INET and wire.text(found.get(1, b"")) == TABLE
        own = kind is Nft.GETSET and int.from_bytes(found.get(3, b""), "big") & batch.ANONYMOUS
        if ours and not own:
            listed.append((wire.text(found[2]), int.from_bytes(found.get(3, b""), "big")))
    return listed


def _is_rule(planned: Rule, there: bytes) -> bool:
    """By what it does: a comment can be copied."""
    return same(b"".join(planned.expressions), there)


def _generation(socket: Socket) -> bytes:
    """Another one after each transaction of anybody's; b"" if the kernel does not tell."""
    kind = batch.SUBSYSTEM << 8 | Nft.GETGEN
    answer = socket.one(Request(kind, 0, batch.head(), "ask for the generation of", "nf_tables"))
    return b"" if answer is None else wire.attributes(answer.body, _HEAD).get(1, b"")


def _events(netns: int | None) -> RawSocket | None:
    """Those of our table alone: what kube-proxy does all day wakes nobody."""
    events = open_raw(netns, groups=1 << (_NFNLGRP_NFTABLES - 1))
    if events is None:
        return None
    # Behind two heads the first attribute of each message is its table's name.
    name, program = TABLE.encode() + b"\0", []
    for offset in range(0, len(name) - 3, 4):
        program += _unless(Test.LOAD_WORD, offset, name[offset : offset + 4])
    program += _unless(Test.LOAD_WORD, len(name) - 4, name[-4:])
    event_filter.attach(events, [*program, event_filter.ACCEPT])
    events.setblocking(False)
    return events


def _unless(load: Test, offset: int, wanted: bytes) -> list[event_filter.Instruction]:
    equal = event_filter.instruction(Test.EQUAL, int.from_bytes(wanted, "big"), then=1)
    return [event_filter.instruction(load, _NAME_AT + offset), equal, event_filter.REJECT]


def _table_flags(socket: Socket) -> int | None:
    for message in socket.dump(_dump(Nft.GETTABLE, batch.head(), "list tables of")):
        found = wire.attributes(message.body, _HEAD)
        if wire.text(found[1]) == TABLE and message.body[0] == batch.INET:
            return int.from_bytes(found.get(2, b""), "big")
    return None


def _chains(socket: Socket) -> list[tuple[str, int | None]]:
    """Name, and the hook of a base chain; -1 if it has another priority than ours, or a policy that drops."""
    listed = []
    for message in socket.dump(_dump(Nft.GETCHAIN, batch.head(), "list chains of")):
        found = wire.attributes(message.body, _HEAD)
        if message.body[0] != batch.INET or wire.text(found[1]) != TABLE:
            continue
        place = None
        if 4 in found:
            hook = wire.attributes(found[4])
            ours = int.from_bytes(hook[2], "big", signed=True) == PRIORITY
            accepts = int.from_bytes(found.get(5, b"\1"), "big") == 1
            place = int.from_bytes(hook[1], "big") if ours and accepts else -1
        listed.append((wire.text(found[3]), place))
    return listed


def _rules(socket: Socket) -> list[tuple[str, bytes]]:
    """Chain and expressions, in order."""
    body = batch.head() + wire.attribute_text(1, TABLE)
    listed = []
    for message in socket.dump(_dump(Nft.GETRULE, body, "list rules of")):
        found = wire.attributes(message.body, _HEAD)
        # Before Linux 5.14 the list is of all tables.
        if message.body[0] == batch.INET and wire.text(found[1]) == TABLE:
            listed.append((wire.text(found[2]), found.get(4, b"")))
    return listed


def _counter(message: Message) -> tuple[str, int]:
    found = wire.attributes(message.body, _HEAD)
    values = wire.attributes(found.get(4, b""))
    ours = wire.text(found[1]) == TABLE
    return wire.text(found[2]) if ours else "", int.from_bytes(values.get(2, b""), "big")


def _dump(kind: Nft, body: bytes, verb: str) -> Request:
    return Request(batch.SUBSYSTEM << 8 | kind, wire.DUMP, body, verb, f"table {TABLE}", _NO_SUCH_TABLE)

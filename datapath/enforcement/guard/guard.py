"""The guard's table in a network namespace: written whole, compared, mended, its counters read."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from datapath.endpoint import Difference
from datapath.enforcement.guard import batch
from datapath.enforcement.guard.ruleset import MEANINGS, PRIORITY, SETS, TABLE, Reason, Ruleset, ruleset
from datapath.errors import KernelError
from datapath.firewall.connection import open_netfilter
from datapath.firewall.nft import Nft
from datapath.netlink import wire
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Message, Request

log = logging.getLogger(__name__)

_HEAD = 4
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
        try:
            self._socket = open_netfilter(netns)
        except OSError as exc:
            self.lacking = f"netfilter's netlink cannot be opened: {exc}"

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def stand(self, enis: Iterable[str]) -> tuple[Difference, ...]:
        """The table is as it should be for ENIs of these names; says what was not.

        A kernel that refuses is no error: ``lacking`` tells.
        """
        if self._socket is None:
            return ()
        wanted = ruleset(enis)
        try:
            with self._busy:
                found = _difference(self._socket, wanted)
                if found is not None:
                    _write(self._socket, wanted)
        except (KernelError, OSError) as exc:
            lacking = f"nf_tables refused the table inet {TABLE}: {exc}"
            if lacking != self.lacking:
                log.warning("%s", lacking)
            self.lacking = lacking
            return ()
        self.lacking = ""
        return () if found is None else (found,)

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


def _write(socket: Socket, wanted: Ruleset) -> None:
    """In one transaction. Counters stay, unless somebody has changed what cannot be written over."""
    objects = [
        *(batch.new_counter(reason) for reason in Reason),
        *(batch.new_set(one, number) for number, one in enumerate(SETS, start=1)),
        *map(batch.new_chain, wanted.chains),
    ]
    rules = [*map(batch.new_rule, wanted.rules)]
    try:
        socket.batch(*batch.framed(batch.new_table(), batch.flush_rules(), *objects, *rules))
    except KernelError:
        anew = (batch.new_table(), batch.delete_table(), batch.new_table())
        socket.batch(*batch.framed(*anew, *objects, *rules))


def _difference(socket: Socket, wanted: Ruleset) -> Difference | None:
    """None if the table is as wanted: awake, its chains where they belong, each with its rules in order."""
    what = f"nft table inet {TABLE}"
    flags = _table_flags(socket)
    if flags is None:
        return Difference(what, "absent")
    if flags:
        return Difference(what, "switched off")
    chains = dict(_chains(socket))
    for chain in wanted.chains:
        if chain.name not in chains or chains[chain.name] != chain.hook:
            return Difference(f"chain {chain.name} of {what}", "absent, or at another place")
    listed = _rules(socket)
    for name in {chain.name for chain in wanted.chains}:
        planned = [one.comment for one in wanted.rules if one.chain == name]
        if [comment for chain, comment in listed if chain == name] != planned:
            return Difference(f"rules of chain {name} of {what}", "others")
    return None


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


def _rules(socket: Socket) -> list[tuple[str, str]]:
    """Chain and comment, in order."""
    body = batch.head() + wire.attribute_text(1, TABLE)
    listed = []
    for message in socket.dump(_dump(Nft.GETRULE, body, "list rules of")):
        found = wire.attributes(message.body, _HEAD)
        # Before Linux 5.14 the list is of all tables.
        if wire.text(found[1]) == TABLE:
            listed.append((wire.text(found[2]), batch.comment_of(found.get(7, b""))))
    return listed


def _counter(message: Message) -> tuple[str, int]:
    found = wire.attributes(message.body, _HEAD)
    values = wire.attributes(found.get(4, b""))
    ours = wire.text(found[1]) == TABLE
    return wire.text(found[2]) if ours else "", int.from_bytes(values.get(2, b""), "big")


def _dump(kind: Nft, body: bytes, verb: str) -> Request:
    return Request(batch.SUBSYSTEM << 8 | kind, wire.DUMP, body, verb, f"table {TABLE}", _NO_SUCH_TABLE)

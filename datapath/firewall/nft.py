"""nf_tables as it is in a network namespace: read over nfnetlink, chain by chain and only where asked.

Base chains are listed at once, the rules of a chain when somebody wants them: a node with ten thousand
services has a hundred thousand rules that nobody here has to see.
Source: linux/netfilter/nfnetlink.h, nf_tables.h. A message is a struct nfgenmsg and attributes.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum

from datapath.firewall import expression, listing
from datapath.firewall.connection import open_netfilter
from datapath.firewall.listing import Attributes, number
from datapath.firewall.rule import Base, Chain, Family, Names, Rule, Source, Table
from datapath.netlink import wire
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Message, Request

_SUBSYSTEM = 10 << 8
_HEAD = struct.Struct("=BBH")

_TABLE_NAME, _TABLE_FLAGS = 1, 2
_DORMANT = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY = 1, 3, 4, 5
_HOOK_NUMBER, _HOOK_DEVICE, _HOOK_DEVICES = 1, 3, 4
_DEVICE_NAME, _DEVICE_PREFIX = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 1, 2, 3, 4
_GENERATION = 1
_POLICY_DROP = 0

_FAMILIES = {1: Family.INET, 2: Family.IP, 5: Family.NETDEV, 10: Family.IP6}
_NUMBERS = {family: value for value, family in _FAMILIES.items()}

# NF_INET_PRE_ROUTING, FORWARD, POST_ROUTING and, for inet alone, INGRESS; of netdev, ingress and egress.
_HOOKS = {
    Family.IP: frozenset({0, 2, 4}),
    Family.IP6: frozenset({0, 2, 4}),
    Family.INET: frozenset({0, 2, 4, 5}),
    Family.NETDEV: frozenset({0, 1}),
}


class Nft(IntEnum):
    """nlmsg_type of nf_tables, without the number of the subsystem."""

    NEWTABLE = 0
    GETTABLE = 1
    DELTABLE = 2
    NEWCHAIN = 3
    GETCHAIN = 4
    DELCHAIN = 5
    NEWRULE = 6
    GETRULE = 7
    DELRULE = 8
    NEWSET = 9
    GETSET = 10
    DELSET = 11
    GETGEN = 16
    NEWOBJ = 18
    GETOBJ = 19
    DELOBJ = 20
    GETFLOWTABLE = 23
    DELFLOWTABLE = 24


class NftReader:
    """``netns`` as for ``Socket``. A kernel without nf_tables has nothing to read."""

    def __init__(self, netns: int | None = None) -> None:
        self._socket = open_netfilter(netns)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def generation(self) -> int | None:
        """A number that every change of the rules raises; None without nf_tables. Raises KernelError."""
        if self._socket is None:
            return None
        absent = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
        answer = self._socket.one(
            _request(Nft.GETGEN, "ask for the generation of", "nf_tables", done_if=absent)
        )
        if answer is None:
            return None
        return number(wire.attributes(answer.body, _HEAD.size)[_GENERATION])

    def bases(self) -> list[Base]:
        """The chains that forwarded packets come to by themselves. Raises KernelError."""
        if self._socket is None:
            return []
        dormant = self._dormant(self._socket)
        found = []
        for message in self._socket.dump(_request(Nft.GETCHAIN, "list chains of", "nf_tables")):
            base = _base(message)
            if base is not None and base.chain.table not in dormant:
                found.append(base)
        return found

    def rules(self, chain: Chain) -> list[Rule]:
        """In order; none if the chain is gone. Raises KernelError."""
        if self._socket is None:
            return []
        family = chain.table.family
        names = wire.attribute_text(_RULE_TABLE, chain.table.name)
        names += wire.attribute_text(_RULE_CHAIN, chain.name)
        gone = frozenset({errno.ENOENT})
        request = _request(Nft.GETRULE, "list rules of", chain, body=_head(family) + names, done_if=gone)
        return [_rule(message, family) for message in self._socket.dump(request)]

    def _dormant(self, netlink: Socket) -> frozenset[Table]:
        """Tables that are switched off."""
        found = set()
        for message in netlink.dump(_request(Nft.GETTABLE, "list tables of", "nf_tables")):
            family = _FAMILIES.get(message.body[0])
            attributes = wire.attributes(message.body, _HEAD.size)
            if family is not None and number(attributes.get(_TABLE_FLAGS, b"")) & _DORMANT:
                found.add(Table(Source.NFT, family, wire.text(attributes[_TABLE_NAME])))
        return frozenset(found)


def kind_of(message: Message) -> int | None:
    """The ``Nft`` of a message, None if it is another subsystem's."""
    return message.kind & 0xFF if message.kind & 0xFF00 == _SUBSYSTEM else None


def names_in(message: Message) -> tuple[str, str]:
    """Table and chain that a message about a table, chain or rule is about; "" for none."""
    found = wire.attributes(message.body, _HEAD.size)
    chain = {Nft.NEWCHAIN: _CHAIN_NAME, Nft.DELCHAIN: _CHAIN_NAME}.get(Nft(message.kind & 0xFF), _RULE_CHAIN)
    is_table = kind_of(message) in (Nft.NEWTABLE, Nft.DELTABLE)
    return wire.text(found.get(_TABLE_NAME, b"")), "" if is_table else wire.text(found.get(chain, b""))


def _head(family: Family) -> bytes:
    return _HEAD.pack(_NUMBERS[family], 0, 0)


def _request(
    kind: Nft,
    verb: str,
    subject: object,
    *,
    body: bytes = bytes(_HEAD.size),
    done_if: frozenset[int] = frozenset(),
) -> Request:
    flags = 0 if kind is Nft.GETGEN else wire.DUMP
    # wire.Kind lists the messages of links and routes; on the wire a kind is but a number.
    return Request(_SUBSYSTEM | kind, flags, body, verb, subject, done_if)


def _base(message: Message) -> Base | None:
    family = _FAMILIES.get(message.body[0])
    if family is None:
        return None
    found = wire.attributes(message.body, _HEAD.size)
    if _CHAIN_HOOK not in found:
        return None
    hook = wire.attributes(found[_CHAIN_HOOK])
    if number(hook[_HOOK_NUMBER]) not in _HOOKS[family]:
        return None
    table = Table(Source.NFT, family, wire.text(found[_CHAIN_TABLE]))
    # A chain of another type than filter has no policy but accept, and does not name it.
    drops = _CHAIN_POLICY in found and number(found[_CHAIN_POLICY]) == _POLICY_DROP
    return Base(Chain(table, wire.text(found[_CHAIN_NAME])), drops, _devices(hook, family))


def _devices(hook: Attributes, family: Family) -> tuple[Names, ...] | None:
    # Linux 6.16: a prefix has an attribute of its own, or is a name without a zero at its end.
    found = [
        Names(wire.text(value), prefix=kind == _DEVICE_PREFIX or b"\0" not in value)
        for kind, value in listing.pairs(hook.get(_HOOK_DEVICES, b""))
        if kind in (_DEVICE_NAME, _DEVICE_PREFIX)
    ]
    if not found and _HOOK_DEVICE in hook:
        found = [Names(wire.text(hook[_HOOK_DEVICE]))]
    return tuple(found) if found or family is Family.NETDEV else None


def _rule(message: Message, family: Family) -> Rule:
    found = wire.attributes(message.body, _HEAD.size)
    steps = expression.steps(found.get(_RULE_EXPRESSIONS, b""), family)
    return Rule(number(found[_RULE_HANDLE]), steps)

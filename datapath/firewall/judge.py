"""Which rules act upon packets that the fast path would carry past them. Pure.

A rule counts if a packet can be thought of that gets to it and that the fast path would have taken: from a
pod or to a pod, by devices of pods and ENIs only, to an address that is not left to the stack, and on no
connection that the stack has translated. What is not proved to be harmless counts.

Two things that look like obstacles are none. A rule for packets that conntrack finds invalid: it meets no
packet of the fast path, and conntrack sees both directions of a flow that the stack carries, as both have the
same carrier; ``extension`` says what remains. And a masquerade for sources that are no pod's, to nearly
anywhere: the way out of a network behind this node (docker's, libvirt's), whose packets come by a device of
its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_network

from datapath.firewall import benign
from datapath.firewall.addresses import Addresses
from datapath.firewall.rule import (
    VERSIONS,
    Act,
    Base,
    Chain,
    From,
    Jump,
    Names,
    Rule,
    StackOnly,
    Step,
    Through,
    To,
    Version,
    What,
)
from datapath.netlink.wire import Address, Network
from datapath.pod.names import HOST_LINK_PREFIX

Rules = Callable[[Chain], Sequence[Rule]]
"""Those of a chain, in order; asked for only where packets of pods may come to."""

# What address_stays_on_link of bpf/lib/address.h leaves to the stack.
_ON_LINK = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/127",
        "fe80::/10",
        "ff00::/8",
    )
)

_CONTEXTS = 8
"""A chain that is jumped to under more conditions than that is read once more, under none."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something of netfilter's that the fast path would slip past."""

    where: str
    """The chain, with its table."""
    what: What
    rule: int = 0
    """Of the first rule that does it: its handle, or its number in iptables-legacy; 0 for a policy."""
    more: int = 0
    """How many rules more do the same in chains that are come to from the same hook."""
    detail: str = ""
    command: str = ""
    """What an operator types to see it."""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        about = [part for part in (self._number(), self.detail) if part]
        if about:
            text += f" ({', '.join(about)})"
        return f"{text}; see: {self.command}" if self.command else text

    def _number(self) -> str:
        if not self.rule:
            return ""
        return f"rule {self.rule}" + (f" and {self.more} more" if self.more else "")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is known of the node. ``pods`` empty: any address may be a pod's.

    Where ``pods`` has networks of one IP version only, there are no pods of the other. ``stack``:
    destinations that the fast path leaves to the stack, such as service_cidr. ``devices``: ENIs; those of
    pods are known by their prefix.
    """

    pods: tuple[Network, ...] = ()
    stack: tuple[Network, ...] = ()
    devices: frozenset[str] = frozenset()
    hosts: frozenset[Address] = frozenset()
    """Single addresses that are left to the stack as well: tens of thousands perhaps."""

    def pods_of(self, version: int) -> Addresses:
        return _of(version, self.pods) if self.pods else Addresses.everything(version)

    def fast_destinations(self, version: int) -> Addresses:
        return ~Addresses.of(version, (*self.stack, *_ON_LINK), self.hosts)

    def has(self, names: Names) -> bool:
        """Whether a device of a pod or an ENI may be so called."""
        if names.prefix and HOST_LINK_PREFIX.startswith(names.text):
            return True
        if names.text.startswith(HOST_LINK_PREFIX):
            return True
        return any(_is_called(device, names) for device in self.devices)

    def has_other_than(self, names: Names) -> bool:
        pods = names.prefix and HOST_LINK_PREFIX.startswith(names.text)
        return not pods or not all(_is_called(device, names) for device in self.devices)


@dataclass(frozen=True, slots=True)
class _Flow:
    """Packets of one IP version that may come to a rule."""

    source: Addresses
    destination: Addresses


_Flows = tuple[_Flow, ...]


def judge(bases: Iterable[Base], rules: Rules, scope: Scope) -> tuple[Obstacle, ...]:
    """What of the chains ``bases``, and of those that they jump to, the fast path would slip past.

    One obstacle per base chain and kind of act, so that ten thousand rules of one engine are one line.
    """
    found: list[Obstacle] = []
    for base in bases:
        found.extend(_Walk(base, rules, scope).obstacles())
    return tuple(found)


@dataclass(slots=True)
class _Walk:
    """One base chain and what it leads to."""

    base: Base
    rules: Rules
    scope: Scope
    _first: dict[What, Obstacle] = field(default_factory=dict)
    _counted: set[tuple[Chain, int, What]] = field(default_factory=set)
    _seen: set[tuple[Chain, _Flows]] = field(default_factory=set)
    _contexts: Counter[Chain] = field(default_factory=Counter)

    def obstacles(self) -> list[Obstacle]:
        chain = self.base.chain
        everything = self._everything()
        on_other_devices = self.base.devices is not None and not any(map(self.scope.has, self.base.devices))
        if not everything or on_other_devices or benign.is_table(chain.table.name):
            return []
        policy = Obstacle(str(chain), What.POLICY_DROP, command=chain.command)
        self._chain(chain, everything)
        counts = Counter(what for _, _, what in self._counted)
        acts = [replace(one, more=counts[what] - 1) for what, one in self._first.items()]
        return [policy, *acts] if self.base.drops else acts

    def _everything(self) -> _Flows:
        """Any packet of the fast path's that this table may see."""
        flows = (
            _Flow(Addresses.everything(version), self.scope.fast_destinations(version))
            for version in VERSIONS[self.base.chain.table.family]
        )
        return tuple(filter(self._concerns_pods, flows))

    def _chain(self, chain: Chain, flows: _Flows) -> None:
        self._contexts[chain] += 1
        if self._contexts[chain] > _CONTEXTS:
            flows = self._everything()
        if (chain, flows) in self._seen:
            return
        self._seen.add((chain, flows))
        for rule in self.rules(chain):
            self._rule(chain, rule, flows)

    def _rule(self, chain: Chain, rule: Rule, flows: _Flows) -> None:
        for step in rule.steps:
            if isinstance(step, Act):
                if self._matters(step.what, flows):
                    self._found(chain, rule, step)
            elif isinstance(step, Jump):
                if not benign.is_chain(step.name):
                    self._chain(Chain(chain.table, step.name), flows)
            else:
                flows = self._narrowed(flows, step)
                if not flows:
                    return

    def _found(self, chain: Chain, rule: Rule, act: Act) -> None:
        self._counted.add((chain, rule.number, act.what))
        if act.what not in self._first:
            self._first[act.what] = Obstacle(
                str(chain), act.what, rule.number, detail=act.detail, command=chain.command
            )

    def _narrowed(self, flows: _Flows, step: Step) -> _Flows:
        """Those of the packets that meet a condition; none if the fast path takes none of them."""
        if isinstance(step, StackOnly):
            return ()
        if isinstance(step, Through):
            possible = self.scope.has_other_than if step.inverted else self.scope.has
            return flows if possible(step.names) else ()
        return tuple(one for flow in flows if (one := self._one(flow, step)) and self._concerns_pods(one))

    def _one(self, flow: _Flow, step: Step) -> _Flow | None:
        version = flow.source.version
        if isinstance(step, Version):
            return flow if version == step.number else None
        if isinstance(step, From) and step.addresses.version == version:
            return replace(flow, source=flow.source & step.addresses)
        if isinstance(step, To) and step.addresses.version == version:
            return replace(flow, destination=flow.destination & step.addresses)
        return None

    def _concerns_pods(self, flow: _Flow) -> bool:
        pods = self.scope.pods_of(flow.source.version)
        if not flow.source or not flow.destination:
            return False
        return bool(flow.source & pods) or bool(flow.destination & pods)

    def _matters(self, what: What, flows: _Flows) -> bool:
        if what not in (What.MASQUERADE, What.SNAT):
            return True
        return any(not self._is_way_out(flow) for flow in flows)

    def _is_way_out(self, flow: _Flow) -> bool:
        """From no pod, to at least half of all addresses that the fast path sends to."""
        version = flow.source.version
        all_there_are = self.scope.fast_destinations(version).count
        from_pods = flow.source & self.scope.pods_of(version)
        return not from_pods and flow.destination.count * 2 >= all_there_are


@lru_cache(maxsize=16)
def _of(version: int, networks: tuple[Network, ...]) -> Addresses:
    return Addresses.of(version, networks)


def _is_called(device: str, names: Names) -> bool:
    return device.startswith(names.text) if names.prefix else device == names.text

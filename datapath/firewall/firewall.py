"""What of this node's netfilter the fast path would slip past, asked for at start and on change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from datapath.errors import KernelError
from datapath.firewall.judge import Obstacle, Scope, judge
from datapath.firewall.nft import NftReader
from datapath.firewall.watch import Watch
from datapath.firewall.xtables import XtablesReader
from datapath.netlink.wire import Address, Network

Obstacles = tuple[Obstacle, ...]

_TRIES = 3


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found under ``scope``, when nf_tables had this ``generation``."""

    scope: Scope
    generation: int | None
    nft: Obstacles
    legacy: Obstacles


@contextmanager
def _reading() -> Iterator[None]:
    """A system call that fails is a refusal of the kernel's too."""
    try:
        yield
    except OSError as exc:
        raise KernelError(
            "read the packet filters", errno=exc.errno or 0, detail="is CAP_NET_ADMIN held?"
        ) from exc


class Firewall:
    """Of one network namespace; None: the caller's own. For one thread at a time.

    With asyncio: ``loop.add_reader(firewall, ...)``, and ``drain`` in the callback tells whether to ask for
    ``obstacles`` anew. Tables of iptables-legacy make no events: ask ``changed`` now and then.
    """

    def __init__(self, netns: int | None = None) -> None:
        # First of all: what changes while the rules are read makes an event.
        self._watch = Watch(netns)
        self._nft = NftReader(netns)
        self._legacy = XtablesReader(netns)
        self._stale = True
        self._seen: _Seen | None = None

    def __enter__(self) -> Firewall:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._watch.close()
        self._nft.close()
        self._legacy.close()

    def obstacles(
        self,
        *,
        pods: tuple[Network, ...] = (),
        stack: tuple[Network, ...] = (),
        devices: frozenset[str] = frozenset(),
        hosts: frozenset[Address] = frozenset(),
    ) -> Obstacles:
        """Everything that acts upon forwarded packets of pods; empty if the fast path bypasses nothing.

        ``pods``: networks that pods of this node live in; () for any. ``stack``: destinations that the fast
        path leaves to the stack: service_cidr, host_stack_cidrs, the node's own addresses. ``devices``: names
        of the ENIs. ``hosts``: more of ``stack``, single addresses, however many. Wider ``pods`` and narrower
        ``stack`` find more, never less.
        Raises KernelError. Nothing is read again that has not changed.
        """
        scope = Scope(pods, stack, devices, hosts)
        with _reading():
            self.drain()
            generation, found = self._of_nft(scope)
            self._seen = _Seen(scope, generation, found, self._of_legacy(scope))
        self._stale = False
        return self._seen.nft + self._seen.legacy

    def changed(self) -> bool:
        """Whether ``obstacles`` may answer otherwise than it did. Raises KernelError."""
        with _reading():
            if not self.drain() and self._seen is not None:
                self._stale = self._of_legacy(self._seen.scope) != self._seen.legacy
        return self._stale

    def drain(self) -> bool:
        """Take the events of nf_tables; True if the rules changed since they were read."""
        self._stale = self._watch.read() or self._stale
        return self._stale

    def fileno(self) -> int:
        """Readable when there are events for ``drain``; -1 on a kernel that has none."""
        return self._watch.fileno()

    def _of_nft(self, scope: Scope) -> tuple[int | None, Obstacles]:
        """Together with the generation before reading: a change meanwhile makes an event as well."""
        generation = self._nft.generation()
        for _ in range(_TRIES):
            seen = self._seen
            if seen is not None and (seen.scope, seen.generation) == (scope, generation):
                return generation, seen.nft
            found = judge(self._nft.bases(), self._nft.rules, scope) if generation is not None else ()
            before, generation = generation, self._nft.generation()
            if before == generation:
                break
        return before, found

    def _of_legacy(self, scope: Scope) -> Obstacles:
        found: list[Obstacle] = []
        for table in self._legacy.tables():
            found.extend(judge(table.bases(), table.rules, scope))
        return tuple(found)

"""Whether this node's packets take the fast path, and why not.

=========== ===========================================================================================
why not     until
=========== ===========================================================================================
unavailable the next start: eBPF is switched off (``-bpf off``), missing, or refused by the kernel
asked       ``terway-cli fastpath on``; the word outlives the daemon
unknown     the API server has told which addresses are Services': they are the stack's
filtered    nothing on the node filters or translates forwarded pod packets any more: the fast path would
            slip past it. Looked for at start, when nf_tables change, and every minute
=========== ===========================================================================================

A pod's annotation takes that pod off it alone (``pod_paths``). No way of switching loses a packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from control.agent.dataplane.filters import Filters, Terms
from control.agent.dataplane.flow_shares import FlowShares
from control.agent.dataplane.foreign_objects import ForeignObjects
from control.agent.dataplane.pod_paths import PodPaths
from control.agent.dataplane.service_prefixes import Destinations, ServicePrefixes
from control.agent.dataplane.shaping import Shaping
from control.agent.state.journal import Journal
from control.config.settings import Settings
from control.model import errors
from control.model.errors import Cause, RequestError, TerwayError
from control.model.pod import EventType, Kubernetes
from datapath.acceleration import Unavailable, remove_fast_path
from datapath.acceleration.companion import Companion, Prefixes
from datapath.acceleration.feature_sets import SetState
from datapath.acceleration.path import FastPath
from datapath.endpoint import Network
from datapath.errors import KernelError
from datapath.netlink.wire import host_network

log = logging.getLogger(__name__)

ASKED = "fastpath"
"""Fact in the ledger: the operator's word, "on" or "off"."""
SOON = 1.0
"""Seconds in which the kernel finds a neighbour, or not."""
PERIOD = 60.0
"""Seconds between two looks at what tells nobody when it changes, such as legacy iptables."""
UNTOLD = "which addresses are Services' is not known yet: the API server has not listed them"
PATIENCE = 3.0
"""Seconds that the first start on a node waits for the Services."""
CALM = 0.5
"""Seconds from a change to the look at it, so that a hundred changes are one look."""

COMPARE_PERIOD = 10.0
"""Seconds from one comparison of all prefixes to the next, at least."""
LINKS_CALM = 0.05
"""Seconds from the event of a link that goes down to the look at it, so that many are one look."""


class State(StrEnum):
    ON = "on"
    OFF = "off"
    UNAVAILABLE = "unavailable"


class Why(StrEnum):
    """Why it is not on: the table above."""

    UNAVAILABLE = "unavailable"
    ASKED = "asked"
    UNKNOWN = "unknown"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class Status:
    """``why`` and ``because``, the same in sentences, are empty if it is on."""

    state: State
    asked: bool
    why: tuple[Why, ...] = ()
    because: tuple[str, ...] = ()

    unasked: str = ""
    """Why conntrack is not asked whose a flow is, "" if it is, or if there is no fast path."""
    sets: tuple[SetState, ...] = ()
    foreign: tuple[str, ...] = ()
    """Programs and qdiscs of others at our devices."""
    refused: tuple[str, ...] = ()
    """What could not be put right at the last repair."""

    def as_json(self) -> dict[str, Any]:
        told = {
            "state": self.state.value,
            "asked": "on" if self.asked else "off",
            "why": [one.value for one in self.why],
            "because": list(self.because),
        }
        if self.state is State.UNAVAILABLE:
            return told
        found = {"foreign": list(self.foreign), "not_mended": list(self.refused)}
        sets = {one.name: str(one) for one in self.sets}
        return {
            **told,
            "sets": sets,
            "conntrack": self.unasked or "asked",
            **{k: v for k, v in found.items() if v},
        }


class FastPathSwitch:
    """``open`` first, then ``run`` for as long as the daemon lives."""

    def __init__(
        self,
        *,
        companion: Companion,
        journal: Journal,
        kubernetes: Kubernetes,
        settings: Settings,
        host_stack_cidrs: tuple[Network, ...],
        shaping: Shaping,
    ) -> None:
        self._companion = companion
        self._journal = journal
        self._kubernetes = kubernetes
        self._settings = settings
        self._host_cidrs = host_stack_cidrs
        self._services = ServicePrefixes(journal, kubernetes)
        self._pods = PodPaths(journal, kubernetes, shaping)
        self._shares = FlowShares(journal, kubernetes)
        self.foreign = ForeignObjects(kubernetes)
        self._filters: Filters | None = None
        self._unavailable = "it has not been opened yet"
        self._untold = ""
        self._compare_at = 0.0
        self._said: tuple[Why, ...] = ()
        self._wake = asyncio.Event()

    def open(self) -> None:
        """Programs and maps, or the reason why there are none. Twice is once."""
        if self._filters is not None:
            return
        if not self._settings.bpf:
            self._unavailable = "eBPF is switched off by -bpf off"
            self._take_away()
            return
        try:
            self._companion.open(
                self._settings.bpf_pins, self._prefixes(), objects=self._settings.bpf_objects
            )
        except Unavailable as exc:
            self._unavailable = exc.reason
            self._say(EventType.WARNING, f"{exc}; pods are routed")
            self._take_away()
            return
        self._unavailable = ""
        self._filters = Filters()
        loop = asyncio.get_running_loop()

        def changed() -> None:
            loop.call_soon_threadsafe(self._wake.set)

        self._kubernetes.on_pods(changed)
        self._kubernetes.on_services(changed)

    def _take_away(self) -> None:
        """What an earlier terwayd left: nobody would tell its programs of pods that come and go."""
        try:
            if remove_fast_path(self._settings.bpf_pins):
                log.info("eBPF of an earlier terwayd is taken away: pods are routed")
        except Unavailable as exc:
            self._say(
                EventType.WARNING,
                f"{exc}: its programs carry packets by rows that nobody follows, and lose those for an "
                "address that another pod has by now; a restart of terwayd tries again",
            )

    async def settle(self) -> None:
        """Look at everything, and switch. Waits a little for Services that this node has never heard of."""
        if self._filters is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._services.refresh()
                while self._services.known() is None:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._services.refresh()
        await self._tell_services()
        self._filters.look(self._terms())
        try:
            self._apply()
        except KernelError as exc:  # it may fail without any pod's harm, and the rounds try again
            log.warning("the fast path is as it was: %s", exc)

    async def run(self) -> None:
        """Follow what changes: the node's filters, pods' annotations, an operator's word."""
        filters = self._filters
        if filters is None:
            return
        with self._following_links():
            while True:
                try:
                    await self._round(filters)
                except (TerwayError, KernelError) as exc:
                    log.warning("the fast path is as it was: %s", exc)
                    await asyncio.sleep(SOON)
                except Exception:  # the last resort: a fault of ours in one round must not end all rounds
                    log.exception("looking after the fast path failed in a way nobody foresaw")
                    await asyncio.sleep(SOON)

    @contextlib.contextmanager
    def _following_links(self) -> Iterator[None]:
        """Within the block it is noted which pods' links go down and up."""
        loop, fd = asyncio.get_running_loop(), self._companion.links_fd()
        if fd < 0:
            yield
            return
        later: asyncio.TimerHandle | None = None

        def readable() -> None:
            nonlocal later
            loop.remove_reader(fd)
            if later is not None:
                later.cancel()
            later = loop.call_later(LINKS_CALM, look)

        def look() -> None:
            nonlocal later
            loop.add_reader(fd, readable)
            later = loop.call_later(SOON, look) if self._companion.links_changed() else None

        look()
        try:
            yield
        finally:
            loop.remove_reader(fd)
            if later is not None:
                later.cancel()

    def close(self) -> None:
        if self._filters is not None:
            self._filters.close()

    def ask(self, on: bool) -> Status:
        """The operator's word, remembered. Raises RequestError if there is no fast path to switch."""
        self.fast()
        self._journal.remember(ASKED, "on" if on else "off")
        try:
            self._apply()
        except KernelError as exc:
            raise errors.KernelError(str(exc)) from exc
        return self.status()

    def fast(self) -> FastPath:
        """Raises RequestError saying why there is none."""
        try:
            return self._companion.fast
        except Unavailable as exc:
            raise RequestError(
                f"this node has no eBPF fast path: {self._unavailable or exc.reason}",
                cause=Cause.REQUEST,
                remedy="pods are routed; terway-cli mode shows what is in force",
            ) from exc

    def tell_foreign(self) -> None:
        """What the last round of repair has found of others: what goes before the next one was told, too."""
        self.foreign.tell(self._companion.last)

    def status(self) -> Status:
        asked = self._journal.facts.get(ASKED, "on") == "on"
        if self._unavailable:
            told = f"no eBPF fast path: {self._unavailable}"
            return Status(State.UNAVAILABLE, asked, (Why.UNAVAILABLE,), (told,))
        found = () if self._filters is None else self._filters.found
        reasons = () if asked else ((Why.ASKED, "the fast path was switched off by terway-cli fastpath off"),)
        if self._services.known() is None or self._untold:
            reasons = (*reasons, (Why.UNKNOWN, self._untold or UNTOLD))
        reasons = (*reasons, *((Why.FILTERED, one) for one in found))
        why, because = dict.fromkeys(w for w, _ in reasons), tuple(text for _, text in reasons)
        fast = self.fast()
        state = State.OFF if because else State.ON
        foreign, refused = tuple(sorted(self.foreign.there)), tuple(sorted(self.foreign.refused))
        return Status(state, asked, tuple(why), because, fast.unasked, fast.sets(), foreign, refused)

    # Steps

    async def _round(self, filters: Filters) -> None:
        fast = self._companion.fast
        self._pods.follow(fast)
        await asyncio.to_thread(fast.turn_flows)
        self._shares.tell(fast)
        with filters.listening(self._wake.set):
            await self._woken()
        await self._services.refresh()
        await self._tell_services()
        await self._compare_prefixes()
        await filters.follow(self._terms())
        self._apply()

    async def _woken(self) -> None:
        """After a change, after a while, or soon if a gateway of an ENI is still to be learned."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PERIOD if self._companion.learn() else SOON):
                await self._wake.wait()
            await asyncio.sleep(CALM)
        self._wake.clear()

    def _terms(self) -> Terms:
        enis = self._journal.book.enis.values()
        cidrs = {one for eni in enis for one in (eni.cidr, eni.cidr_v6) if one is not None}
        own = map(host_network, self._companion.own_addresses)
        told = self._prefixes()
        stack = (*told.service, *self._host_cidrs, *sorted(own, key=str))
        return Terms(frozenset(cidrs), stack, self._companion.devices(), told.addresses)

    def _prefixes(self) -> Prefixes:
        found = self._services.known() or Destinations()
        return Prefixes(found.ranges, self._host_cidrs, found.addresses)

    async def _compare_prefixes(self) -> None:
        """In a thread, as all rows are read; few are compared with every repair."""
        now = asyncio.get_running_loop().time()
        if now >= self._compare_at:
            self._compare_at = now + COMPARE_PERIOD
            await asyncio.to_thread(self._companion.compare_prefixes)

    async def _tell_services(self) -> None:
        """In a thread, as tens of thousands may be new; what has not changed costs nothing."""
        try:
            await asyncio.to_thread(self._companion.tell, self._prefixes())
            self._untold = ""
        except KernelError as exc:
            self._untold = f"the addresses of Services do not all fit into the fast path's map: {exc}"

    def _apply(self) -> None:
        status = self.status()
        fast = self.fast()
        if fast.is_on() != (status.state is State.ON):
            fast.switch(status.state is State.ON)
        if status.why == self._said:
            return  # a policy engine's rules change all the time, and their text with them
        self._said = status.why
        if status.because:
            self._say(EventType.WARNING, f"the fast path is off: {'; '.join(status.because)}")
        else:
            self._say(EventType.NORMAL, "the fast path is on again")

    def _say(self, kind: EventType, message: str) -> None:
        log.log(logging.WARNING if kind is EventType.WARNING else logging.INFO, "%s", message)
        self._kubernetes.event(
            None, kind, "FastPathOff" if kind is EventType.WARNING else "FastPathOn", message
        )

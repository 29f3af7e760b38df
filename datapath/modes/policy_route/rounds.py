"""A round of repair: look, compare with everything that was ever written, put right, say what that was.

Each object is put right by itself, and a refusal is told and stops nothing else. The round pauses every few
milliseconds, so pods come and go in it: a step looks under the lock of those who take away whether it is
still about somebody. What reads byte for byte as it did when a round last found nothing to do needs no
comparison, which is what makes a round every few seconds cheap.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from socket import AF_INET6

from datapath import sysctl
from datapath.acceleration.shortcut import Present
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import AppliedVeth, Carrier, Endpoint
from datapath.errors import KernelError
from datapath.modes.policy_route import foreign, host_side, layout, node, repair, settings, standing
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.hold import EniDevice, NodeHold
from datapath.modes.policy_route.node import EniState, PreparedEni
from datapath.modes.policy_route.observed import Observed
from datapath.modes.policy_route.patience import Patience
from datapath.modes.policy_route.plan import Place, plan
from datapath.modes.policy_route.repair import Step
from datapath.modes.port import NodeFacts
from datapath.netlink import link
from datapath.netlink.link import Link
from datapath.netlink.route import Route
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address
from datapath.pausing import Pausing, at_once
from datapath.pod.names import host_mac

log = logging.getLogger(__name__)

_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL})
"""What is to be taken away has gone by itself, with its link mostly."""


@dataclass(frozen=True, slots=True)
class Good:
    """What a round that had nothing to do was about."""

    observed: Observed
    endpoints: Sequence[Endpoint]
    enis: tuple[PreparedEni, ...]
    facts: NodeFacts
    own_gateway: bool


@dataclass(frozen=True, slots=True)
class _Owned:
    """Pods whose link an observation has, and the links among them that have another MAC than ours."""

    observed: Observed
    endpoints: Sequence[Endpoint]
    links: Mapping[Endpoint, Link]
    strange: tuple[Link, ...]


class Rounds:
    """One round at a time."""

    def __init__(self, hold: NodeHold) -> None:
        self._hold = hold
        self._memory = hold.context.memory
        self._end: Observed | None = None
        """What the last round saw, if nothing was to be put right."""
        self._good: Good | None = None
        self.patience = Patience()
        self._carriers: tuple[Observed, Mapping[int, frozenset[Address]], tuple[Carrier, ...]] | None = None
        self._last_owned: _Owned | None = None
        self._last_present: tuple[Observed, Sequence[Endpoint], tuple[PreparedEni, ...], Present] | None = (
            None
        )
        self._untold: list[Difference] = []
        """What was put right by the way since the last round, or by one that failed at something else."""
        self._beside: tuple[Difference, ...] = ()
        self._not_ours: tuple[Difference, ...] = ()
        self._in_main: tuple[Difference, ...] = ()
        self._astray: tuple[Difference, ...] = ()

    @property
    def left(self) -> tuple[Difference, ...]:
        """What others have done that a round leaves as it is: told, with what helps."""
        return (*self._not_ours, *self._beside, *self._in_main, *self._astray)

    def round(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        """``endpoints``: all that should exist, as of now."""
        done, self._untold = self._untold, []
        try:
            yield from self._round(endpoints, done)
        except BaseException:
            self._untold = list(dict.fromkeys((*done, *self._untold)))
            raise
        return tuple(map(self.patience.done, done))

    def _round(self, endpoints: Sequence[Endpoint], done: list[Difference]) -> Pausing[None]:
        hold = self._hold
        hold.joined.clear()
        hold.retired.clear()
        self._end = None
        with hold.context.sockets.borrowed() as socket:
            done += self.mend_node_settings()
            yield
            going = hold.context.reaper.is_due()  # asked first: who dooms a link waits for the end of a step
            observed = yield from self._observe(socket)
            followed = self._follow_enis(socket, observed)
            named = list(repair.back_in_place(observed, endpoints))
            done += followed + self.carry_out(socket, named)
            if followed or named:
                observed = yield from self._observe(socket)
            observed = self._with_peers(socket, observed, endpoints)
            left = () if going else tuple(o for o in observed.doomed if o.index not in hold.retired)
            if left != observed.doomed:
                observed = replace(observed, doomed=left)
            good = Good(observed, endpoints, hold.prepared(), hold.facts, hold.own_gateway)
            if not self._is_good(good):
                compared, complete = yield from self._compare(socket, observed, endpoints)
                done += compared
                self._good = good if complete and not compared else None
            elif any(0 < one.priority < layout.PRIORITY_FROM_POD for one in observed.other_rules):
                # Where it leads stands in a table that nobody looks at.
                yield from self._prove(socket, observed, endpoints)
            yield
            done += yield from self._mend_beside(observed, endpoints)
        self._end = observed if not done else None
        if observed.doomed:
            hold.context.reaper.wake()

    def look(self) -> Observed:
        """What there is at this moment, without ENIs' tables."""
        with self._hold.context.sockets.borrowed() as socket:
            return at_once(seen.observing(socket, self._memory))

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        """As ``observed.carriers`` has them, and made anew only if something has changed.

        ``lately`` as for ``ModePort.carriers``.
        """
        hold = self._hold
        end = self._end if lately and not hold.joined and not hold.retired else None
        now, rows = end or self.look(), hold.context.shortcut.carried()
        known = self._carriers
        if known is not None and rows == known[1] and now.is_as(known[0]):
            return known[2]
        found = seen.carriers(now, rows)
        self._carriers = now, rows, found
        return found

    def _observe(self, socket: Socket) -> Pausing[Observed]:
        tables = [layout.eni_table(one.ifindex) for one in self._hold.prepared()]
        return seen.observing(socket, self._memory, tables)

    def _is_good(self, now: Good) -> bool:
        good = self._good
        return (
            good is not None
            and now.facts == good.facts
            and now.own_gateway == good.own_gateway
            and now.enis == good.enis
            and now.observed.is_as(good.observed)
            and now.observed.peers == good.observed.peers
            and list(now.endpoints) == list(good.endpoints)
        )

    def _compare(
        self, socket: Socket, observed: Observed, endpoints: Sequence[Endpoint]
    ) -> Pausing[tuple[list[Difference], bool]]:
        """What was put right, and whether that is all there was: no step failed, or has to wait."""
        hold = self._hold
        done: list[Difference] = []
        tried = 0
        kept: list[Route] = []
        for step in self._steps(observed, endpoints):
            if step is None:
                yield
                continue
            if step.harmless is not None and self.patience.has_done(step.difference.what):
                kept.append(step.harmless)
                continue
            tried += 1
            done += self.carry_out(socket, [step])
            yield
        self._in_main = tuple(foreign.in_main(kept))
        yield from self._prove(socket, observed, endpoints)
        for mac, device in tuple(hold.devices.items()):
            there = next((one for one in observed.others if one.index == device.ifindex), None)
            if there is not None and there.name != device.name:
                hold.devices[mac] = device._replace(name=there.name)
        return done, tried == len(done)

    def _prove(self, socket: Socket, observed: Observed, endpoints: Sequence[Endpoint]) -> Pausing[None]:
        """Ask the kernel where pods' packets go, now that all is as planned: others' rules may come first.

        Of ENIs that carry packets; what a link loses that has no carrier is no rule's fault.
        """
        hold = self._hold
        running = {(one.index, one.mac) for one in observed.others if one.running}
        wrong: list[Difference] = []
        for endpoint, host in repair.owned(observed, endpoints).items():
            eni = hold.devices.get(endpoint.eni.mac.lower())
            if eni is None or (eni.ifindex, eni.eni.mac.lower()) not in running:
                continue
            if not host.running or host.index in hold.retired:
                continue
            place = Place(host.index, host.lower, eni.ifindex, host.mac, "", hold.own_gateway)
            try:
                found = host_side.misrouted(socket, endpoint, place)[:1]
                # Asked after it: what went since the look took its routes along, and that is no rule's fault.
                wrong += found if found and _are_running(socket, host.index, eni.ifindex) else []
            except KernelError as exc:  # of this pod, and the others are asked about
                log.warning("where packets of %s go is asked again by the next repair: %s", endpoint, exc)
            yield
        self._astray = ()
        if wrong:
            more = f" and of {len(wrong) - 1} more" if len(wrong) > 1 else ""
            self._astray = (
                Difference(
                    ObjectKind.ROUTING,
                    f"{wrong[0].what}{more}",
                    f"{wrong[0].found}, although all of terwayd's rules and routes stand: a rule of another "
                    "hand is asked before them. `ip rule` and `ip -6 rule` list it, above priority 512, 1024 "
                    "or 2048; `ip rule del priority NUMBER` removes it",
                ),
            )

    def _steps(self, observed: Observed, endpoints: Sequence[Endpoint]) -> Iterator[Step | None]:
        hold = self._hold
        enis = {mac: device.ifindex for mac, device in hold.devices.items()}
        states = self._states(observed)
        # Of one that came after the look a part of what it has was seen, or nothing.
        later = [one.name for one in hold.prepared() if layout.eni_table(one.ifindex) not in observed.tables]
        yield from repair.node_steps(observed, hold.facts.families, [*self._eni_names(observed), *later])
        yield from self._home_steps(observed)
        for prepared, state in states:
            for step in repair.eni_steps(prepared, state):
                yield replace(step, eni=prepared)
            yield None
        rows = hold.context.shortcut.carried()
        yield None
        yield from repair.pausing_steps(observed, endpoints, enis, rows, own_gateway=hold.own_gateway)
        yield None
        yield from self._foreign_steps(observed, endpoints, states)

    def _eni_names(self, observed: Observed) -> list[str]:
        """What rules and the guard are about: also an ENI whose link went, while no other link has its name.

        One that is given back has no link for some seconds before the cloud says that it is done, and then it
        is forgotten.
        """
        links = {one.index: one.name for one in observed.others}
        taken = {*links.values(), *(one.name for one in observed.links)}
        found = [(one, links.get(one.ifindex, "")) for one in self._hold.prepared()]
        return [name or one.name for one, name in found if name or one.name not in taken]

    def _states(self, observed: Observed) -> list[tuple[PreparedEni, EniState]]:
        """Of the ENIs that were looked at."""
        tables = {one: layout.eni_table(one.ifindex) for one in self._hold.prepared()}
        return [
            (one, repair.eni_state(observed, one, table))
            for one, table in tables.items()
            if table in observed.tables
        ]

    def _foreign_steps(
        self,
        observed: Observed,
        endpoints: Sequence[Endpoint],
        states: Sequence[tuple[PreparedEni, EniState]],
    ) -> Iterator[Step | None]:
        hosts = {}
        for endpoint, host in repair.owned(observed, endpoints).items():
            mac = repair.pod_mac(observed, endpoint, host)
            wanted = plan(endpoint, Place(host.index, host.lower, 0, host.mac, mac, self._hold.own_gateway))
            hosts[host.index] = wanted if mac else replace(wanted, host_neighbours=())
            yield None
        yield None
        ours = foreign.Ours(
            frozenset(a for endpoint in endpoints for a in endpoint.addresses()),
            hosts,
            frozenset(one.name for one in observed.links)
            | {state.link.name for _, state in states if state.link is not None},
        )
        yield from foreign.steps(observed, ours, states)
        yield None
        self._beside = tuple(foreign.left(ours, states))

    def _home_steps(self, observed: Observed) -> Iterator[Step]:
        """Settings of the node's own ENI. Its addresses and routes are the system's."""
        home = next((one for one in observed.others if one.index == self._hold.facts.home), None)
        if home is None:
            return
        ipv6 = AF_INET6 in self._hold.facts.families
        yield from repair.setting_steps(home, settings.NODE, ipv6=ipv6)
        if ipv6 and settings.hears_no_router(home):
            name = settings.accept_ra(home)
            yield Step(repair.set_otherwise(name), (), {name: "2"})

    def mend_node_settings(self, *, urgent: bool = False) -> list[Difference]:
        """What counts for every link, and for the next one. ``urgent``: whoever quarrels about it."""
        hold = self._hold
        done: list[Difference] = []
        try:
            with hold.context.inside():
                hold.own_gateway = node.answers_by_link()
                for name in settings.FOR_EVERY_LINK:
                    ipv6 = AF_INET6 in hold.facts.families
                    for one, value in node.named(name, settings.NODE, ipv6=ipv6).items():
                        words = repair.set_otherwise(one)
                        if urgent or self.patience.allows(words.what):
                            done += [words] * len(sysctl.ensure({one: value}, absent_is_fine=True))
        except KernelError as exc:
            log.warning("settings of the node could not be mended; the next repair tries again: %s", exc)
        return done

    def mend_for_an_add(self) -> bool:
        """A node that does not forward looks like an ENI that is broken. Whether it was so; a round tells.

        Its event comes a moment after an ADD may have failed for it.
        """
        found = self.mend_node_settings(urgent=True)
        self._untold += found
        return bool(found)

    def name_back_for_an_add(self, socket: Socket, host: Link, name: str) -> None:
        """What a round would do first with a pod's link that somebody has renamed; a round tells it."""
        standing.rename(socket, host.index, name)
        self._untold.append(Difference(ObjectKind.LINK, f"link {name}", f"named {host.name}"))

    # Steps

    def carry_out(self, socket: Socket, steps: Sequence[Step]) -> list[Difference]:
        """Each by itself: a link that vanished meanwhile must not keep the others from being mended."""
        done = []
        for step in steps:
            try:
                if self._carried_out(socket, step):
                    done.append(step.difference)
            except KernelError as exc:
                if not step.takes_away or exc.errno not in _GONE:
                    what = step.difference.what
                    log.warning("repair of %s failed; the next one tries again: %s", what, exc)
        return done

    def _carried_out(self, socket: Socket, step: Step) -> bool:
        hold = self._hold
        if not self.patience.allows(step.difference.what):
            return False
        with hold.removing:
            if step.host in hold.retired or (step.about is not None and hold.is_new(step.about)):
                return False
            if step.eni is not None and hold.enis.get(step.eni.eni.mac.lower()) != step.eni:
                return False
            if step.sysctls:
                with hold.context.inside():
                    for name, value in step.sysctls.items():
                        sysctl.write(name, value)
            socket.transact(*step.requests)
        return True

    def _follow_enis(self, socket: Socket, observed: Observed) -> list[Difference]:
        """An ENI that was plugged anew has another link; one whose MAC somebody changed has its own still.

        Each is found by its MAC anew: what was found at the start is true until somebody unplugs.
        """
        done: list[Difference] = []
        self._not_ours = ()
        by_index = {one.index: one for one in observed.others}
        apart = self._hold.context.apart
        for mac, prepared in tuple(self._hold.enis.items()):
            there = by_index.get(prepared.ifindex)
            if there is not None and there.mac == mac:
                continue
            try:
                if any(one.mac == mac and node.may_be_eni(one, apart) for one in observed.others):
                    moved = self.prepare_anew(socket, prepared)
                    words = f"number {prepared.ifindex}: it was plugged anew"
                    done.append(
                        Difference(
                            ObjectKind.LINK,
                            f"link of ENI {mac}, now {moved.name} (number {moved.ifindex})",
                            words,
                        )
                    )
                elif there is not None:
                    found = _given_mac_back(prepared, there, observed)
                    if isinstance(found, Step):
                        done += self.carry_out(socket, [found])
                    else:
                        self._not_ours += (found,)
            except KernelError as exc:
                log.warning("ENI %s could not be made ready again; the next repair tries again: %s", mac, exc)
        return done

    def prepare_anew(self, socket: Socket, prepared: PreparedEni) -> PreparedEni:
        """The ENI by its MAC, whatever its link is now; what led to the link before goes."""
        hold = self._hold
        with hold.context.inside():
            moved = node.prepare_eni(
                socket,
                prepared.eni,
                prepared.host_addresses,
                closed=prepared.closed,
                apart=hold.context.apart,
            )
        if prepared.ifindex not in (0, moved.ifindex):
            # What is unreachable does not go with a link, as the other routes did.
            with hold.removing:
                hold.context.shortcut.eni_leaves(prepared.ifindex)
                node.forget_eni(
                    socket, prepared.ifindex, prepared.name if prepared.name != moved.name else ""
                )
        hold.devices[prepared.eni.mac.lower()] = EniDevice(moved.eni, moved.ifindex, moved.name)
        hold.context.guard.stand(hold.eni_names())
        hold.context.shortcut.eni_ready(moved.eni, moved.ifindex)
        return moved

    def _owned(self, observed: Observed, endpoints: Sequence[Endpoint]) -> _Owned:
        known = self._last_owned
        if known is None or known.observed is not observed or list(known.endpoints) != list(endpoints):
            links = repair.owned(observed, endpoints)
            strange = tuple(host for one, host in links.items() if not seen.is_made_for(one, host))
            self._last_owned = known = _Owned(observed, endpoints, links, strange)
        return known

    def _with_peers(self, socket: Socket, observed: Observed, endpoints: Sequence[Endpoint]) -> Observed:
        """With the pods' ends of links that have another MAC than ours: upstream's, or set by somebody."""
        strange = self._owned(observed, endpoints).strange
        if not strange:
            return observed
        return replace(observed, peers={one.index: link.peer_mac(socket, one) for one in strange})

    def _mend_beside(self, observed: Observed, endpoints: Sequence[Endpoint]) -> Pausing[list[Difference]]:
        """The guard's table and the fast path."""
        hold = self._hold
        done = list(hold.context.guard.stand(self._eni_names(observed)))
        yield
        with hold.removing:
            present = self._present(observed, endpoints)
        yield
        done += yield from hold.context.shortcut.mending(present, hold)
        return done

    def _present(self, observed: Observed, endpoints: Sequence[Endpoint]) -> Present:
        """What a shortcut may know of; the very same as the last time while nothing is new."""
        hold = self._hold
        prepared, known = hold.prepared(), self._last_present
        quiet = not hold.joined and not hold.retired
        if quiet and known is not None:
            before, then, enis, present = known
            if before is observed and enis == prepared and list(then) == list(endpoints):
                return present
        present = self._present_now(observed, endpoints)
        self._last_present = (observed, endpoints, prepared, present) if quiet else None
        return present

    def _present_now(self, observed: Observed, endpoints: Sequence[Endpoint]) -> Present:
        """A pod of upstream's, whose MAC is not known, is not among it."""
        hold = self._hold
        pods = {}
        known = dict(hold.joined)
        for endpoint, host in self._owned(observed, endpoints).links.items():
            eni, mac = hold.devices.get(endpoint.eni.mac.lower()), repair.pod_mac(observed, endpoint, host)
            if host.index in hold.retired:
                continue
            known[host.index] = endpoint
            if eni is not None and mac:
                # Not the MAC that was seen: a hand's is put back in this very round.
                planned = host_mac(endpoint.container_id, endpoint.ifname)
                pods[host.index] = endpoint, AppliedVeth(host.index, planned, mac, eni.ifindex)
        hold.pods = known
        enis = {one.ifindex: one.eni for one in hold.devices.values()}
        links = frozenset(one.index for one in observed.links) - hold.retired | hold.joined.keys()
        carriers = {one.index: one.carrier for one in (*observed.links, *observed.others)}
        return Present(pods, enis, links, carriers)


def _are_running(socket: Socket, *indices: int) -> bool:
    found = [link.find(socket, index) for index in indices]
    return all(one is not None and one.running for one in found)


def _given_mac_back(prepared: PreparedEni, there: Link, observed: Observed) -> Step | Difference:
    """A step only if it is our ENI beyond doubt: what we wrote goes with a link, and a card knows its MAC."""
    mac = prepared.eni.mac.lower()
    table = observed.tables.get(layout.eni_table(prepared.ifindex), ())
    ours = there.name == prepared.name and any(one.oif == there.index for one in table)
    if ours and there.permanent_mac in ("", mac):
        words = Difference(ObjectKind.LINK, f"link {there.name} of ENI {mac} MAC {mac}", f"MAC {there.mac}")
        return Step(words, (link.change(there.index, mac=mac),))
    return Difference(
        ObjectKind.LINK,
        f"link {there.name} (number {there.index}) that had the MAC of ENI {mac}",
        f"it has {there.mac} now and is not known to be that ENI any more, so it is left, and the ENI's pods "
        f"are cut off. If it is, `ip link set {there.name} address {mac}` puts it back",
    )

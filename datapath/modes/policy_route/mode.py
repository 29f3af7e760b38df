"""PolicyRoute: a veth pair per pod, a rule per pod to its ENI's table, a table of routes to all pods.

What is made is said by ``plan``; here it is written in as few system calls as the kernel allows (one
``sendmsg`` to make the pair, one in the pod, one on the host), proved by asking the kernel to route packets,
and taken back on any failure. Numbers: ``python -m perf.kernel_add``.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from datapath import objects
from datapath.acceleration.shortcut import UNHOOKED
from datapath.difference import Difference
from datapath.endpoint import (
    AppliedVeth,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    SharedEni,
    Sighting,
    Uplink,
)
from datapath.enforcement import locks
from datapath.enforcement.locks import Lock, Locks
from datapath.errors import AddressTaken, KernelError, NameTaken, Unenforced, UplinkUnusable
from datapath.modes.policy_route import host_side, inspection, node, renamed, standing
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.hold import EniDevice, NodeHold
from datapath.modes.policy_route.node import PreparedEni
from datapath.modes.policy_route.observed import Observed
from datapath.modes.policy_route.pair import Pair, PairMaker
from datapath.modes.policy_route.plan import Place, plan
from datapath.modes.policy_route.presence import sightings
from datapath.modes.policy_route.rounds import Rounds
from datapath.modes.policy_route.watch import NodeWatch
from datapath.modes.port import ModeContext, ModePort, Reaction
from datapath.netlink import link
from datapath.netlink.address import Assigned
from datapath.netlink.link import Link
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address
from datapath.pausing import Pausing, at_once
from datapath.pod import inside as pod_side
from datapath.pod.names import host_mac, pod_mac
from datapath.pod.reaper import doom

log = logging.getLogger(__name__)


class PolicyRoute(ModePort):
    """A pod shares its ENI with others.

    Safe from several threads, though not for two verbs on one endpoint at once. Raises KernelError on any
    refusal. ``close`` gives back what is the mode's own, and nothing of ``context``.
    """

    uplinks: ClassVar[frozenset[type[Uplink]]] = frozenset({SharedEni})
    locks: ClassVar[tuple[Lock, ...]] = (Lock.EBPF, Lock.NFTABLES, Lock.RP_FILTER)

    def __init__(self, context: ModeContext) -> None:
        self._context = context
        self._inside = context.inside
        self._shortcut, self._sockets = context.shortcut, context.sockets
        self._guard, self._reaper = context.guard, context.reaper
        self._pairs = PairMaker(self._reaper)
        self._hold = NodeHold(context)
        self._rounds = Rounds(self._hold)
        self._watch = NodeWatch(self._hold, self._rounds)

    def close(self) -> None:
        self._watch.close()

    # Node and ENIs

    def prepare_node(self) -> None:
        """Sysctls, the rule to ``TABLE_PODS``, and an end to links that a crash left doomed."""
        hold, facts = self._hold, self._context.facts
        with self._sockets.borrowed() as socket, self._inside():
            own = link.find(socket, facts.home) if facts.home else None
            node.prepare(socket, facts.families, home="" if own is None else own.name)
            hold.own_gateway = node.answers_by_link()
        self._guard.stand(hold.eni_names())
        self._reaper.wake()

    def prepare_uplink(self, uplink: Uplink) -> int:
        """Make the ENI's link and table ready; its index. KernelError with ENODEV: no link has the MAC."""
        hold, facts, eni = self._hold, self._context.facts, uplink.eni
        with self._sockets.borrowed() as socket:
            if eni.gateway_v6 is not None and not self._context.has_ipv6():
                eni = replace(eni, gateway_v6=None)
            before = hold.devices.get(eni.mac.lower())
            ifindex, name = (0, "") if before is None else (before.ifindex, before.name)
            asked = PreparedEni(eni, ifindex, name, facts.addresses, facts.closed)
            return self._rounds.prepare_anew(socket, asked).ifindex

    def shares(self, mac: str) -> bool:
        """See ``ModePort.shares``."""
        return mac.lower() in self._hold.devices

    def forget_uplink(self, mac: str) -> None:
        """Remove the table's routes and the rules to it; succeeds for an ENI that is gone or unknown."""
        prepared = self._hold.devices.pop(mac.lower(), None)
        with self._sockets.borrowed() as socket, self._hold.removing:
            ifindex = self._ifindex_of(socket, mac) if prepared is None else prepared.ifindex
            if ifindex is not None:
                self._shortcut.eni_leaves(ifindex)
                node.forget_eni(socket, ifindex, self._name_of(socket, mac, prepared))
        self._guard.stand(self._hold.eni_names())

    def events_filenos(self) -> tuple[int, ...]:
        """See ``ModePort.events_filenos``."""
        return (self._watch.fileno(),)

    def react(self) -> Reaction:
        """Put right at once what can be by what the kernel has told; says whether a repair is due."""
        return self._watch.react()

    # Endpoints

    def setup(self, endpoint: Endpoint, netns: int) -> AppliedVeth:
        """See ``ModePort.setup``. The ENI must have been prepared."""
        early = self.locks_on(endpoint)
        locks.require(endpoint, early)
        with self._sockets.borrowed() as socket, self._hold.to_join(endpoint):
            eni = self._ifindex_of(socket, endpoint.eni.mac)
            if eni is None:
                raise _no_eni(endpoint)
            try:
                place, fresh = self._set_up(socket, endpoint, netns, eni)
            except UplinkUnusable:
                now = self._plugged_anew(socket, endpoint.eni.mac, eni)
                if now is None and not self._rounds.mend_for_an_add():
                    raise
                place, fresh = self._set_up(socket, endpoint, netns, now or eni)
            except (NameTaken, AddressTaken):
                host = renamed.in_the_way(socket, endpoint, netns, tuple(self._hold.pods.items()))
                if host is None:
                    raise
                self._rounds.name_back_for_an_add(socket, host, endpoint.host_link)
                place, fresh = self._set_up(socket, endpoint, netns, eni)
            self._hold.joined[place.host] = self._hold.pods[place.host] = endpoint
        applied = AppliedVeth(place.host, place.host_mac, place.pod_mac, place.eni)
        unhooked = self._shortcut.pod_joined(endpoint, applied)
        if unhooked and Lock.EBPF not in early.off:
            self._require_without(endpoint, unhooked, fresh=fresh)
        return applied

    def _require_without(self, endpoint: Endpoint, unhooked: str, *, fresh: bool) -> None:
        """The program that was counted on is not at the pod's link after all."""
        try:
            locks.require(endpoint, self.locks_on(endpoint, unhooked))
        except Unenforced:
            if fresh:
                self.teardown(endpoint, None)
            raise

    def locks_on(self, endpoint: Endpoint, unhooked: str = "") -> Locks:
        """Which hold for the endpoint. ``unhooked``: why no program is at its link, if that is known."""
        unhooked = unhooked or self._shortcut.lacking() or ("" if endpoint.hooked else UNHOOKED)
        off = {Lock.EBPF: unhooked, Lock.NFTABLES: self._guard.lacking}
        return Locks(self.locks, {lock: why for lock, why in off.items() if why})

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        """See ``ModePort.check``."""
        endpoint = next(iter(self._of_families_here([endpoint])), endpoint)
        with self._sockets.borrowed() as socket:
            eni = self._ifindex_of(socket, endpoint.eni.mac)
            found = inspection.check(socket, endpoint, netns, eni, own_gateway=self._hold.own_gateway)
            unheld = locks.differences(endpoint, self.locks_on(endpoint))
            return (*found, *unheld, *self._check_shortcut(socket, endpoint, eni))

    def _check_shortcut(self, socket: Socket, endpoint: Endpoint, eni: int | None) -> tuple[Difference, ...]:
        """Nothing of a pod of upstream's, whose MAC is not known, nor of one that has lost its link."""
        host = link.find(socket, endpoint.host_link)
        if host is None or eni is None or not seen.owns(endpoint, host):
            return ()
        if not seen.is_made_for(endpoint, host):
            return ()
        mac = pod_mac(endpoint.container_id, endpoint.ifname)
        return self._shortcut.check(endpoint, AppliedVeth(host.index, host.mac, mac, eni))

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        """See ``ModePort.teardown``. ``netns`` is not needed: a pair is removed from the node's end.

        The link is out of use and out of the way on return; the reaper deletes it soon after.
        """
        del netns
        with self._sockets.borrowed() as socket, self._hold.removing:
            host = link.find(socket, endpoint.host_link)
            if host is None:
                known = [index for index, one in self._hold.pods.items() if one.key == endpoint.key]
                carrying = host_side.carrying(socket, endpoint.addresses())
                host = renamed.of_endpoint(socket, endpoint, [*known, *carrying.values()])
            if host is None:
                # Its link went with the namespace: a repair that goes on has it still.
                for index in known:
                    self._hold.retire(index)
                    self._shortcut.pod_leaves(index)
                self._forget_addresses(socket, endpoint, carrying)
            elif seen.owns(endpoint, host):
                eni = self._ifindex_of(socket, endpoint.eni.mac)
                self._retire(socket, host, endpoint.addresses(), eni)

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        """Remove a link by what the kernel says of it alone, MAC or name and alias; says what it carried.

        For a pod that nobody has a record of any more. Nothing happens if the link is another container's.
        """
        del netns
        container_id, mac = who.key.container_id, host_mac(*who.key)
        with self._sockets.borrowed() as socket, self._hold.removing:
            observed = seen.observe(socket)
            found = [
                one
                for one in (*observed.links, *observed.others)
                if one.mac == mac or (one.name, one.alias) == (who.host_link, container_id)
            ]
            if not found:
                return ()
            carried = {one.link: one.addresses for one in seen.carriers(observed, self._shortcut.carried())}
            addresses = tuple(carried.get(found[0].name, ()))
            self._retire(socket, found[0], addresses, None)
            return addresses

    # Recovery

    def observe(self) -> Observed:
        return self._rounds.look()

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """By the host links: see ``presence``."""
        return sightings(self._sockets, asked)

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        """Every live link that a pod may be behind, with the addresses it carries."""
        return self._rounds.carriers(lately=lately)

    def repair(self, endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]:
        """Bring the host's side of ``endpoints``, all that should exist, back in order; says what was done.

        A host link that no endpoint owns stays, with all that leads to it: ``take_down`` is for those. One
        that is missing is not made here: compare ``observe().links`` and call ``setup``.
        """
        return at_once(self.repairing(endpoints))

    def repairing(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        """``repair`` in steps of some milliseconds, between which pods may come and go. One at a time."""
        return self._rounds.round(self._of_families_here(endpoints))

    @property
    def foreign(self) -> tuple[Difference, ...]:
        """What others have put where our objects are, as of the last repair, and no repair removes."""
        return self._rounds.left

    # Steps

    def _of_families_here(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Without IPv6 if the kernel has none: the ledger may know of it from an earlier boot."""
        if self._context.has_ipv6():
            return list(endpoints)
        return [replace(one, ipv6=None) for one in endpoints if one.ipv4 is not None]

    def _ifindex_of(self, socket: Socket, mac: str) -> int | None:
        prepared = self._hold.devices.get(mac.lower())
        if prepared is not None:
            return prepared.ifindex
        found = node.look_for(socket, mac, self._context.apart)
        return None if found is None else found.index

    def _name_of(self, socket: Socket, mac: str, prepared: EniDevice | None) -> str:
        """Of an ENI's link now, or what it was when it was made ready; "" if nobody knows."""
        found = node.look_for(socket, mac, self._context.apart)
        if found is not None:
            return found.name
        return "" if prepared is None else prepared.name

    def _set_up(self, socket: Socket, endpoint: Endpoint, netns: int, eni: int) -> tuple[Place, bool]:
        """Where it is, and whether the pair was made now."""
        pair = self._pairs.make(socket, endpoint, netns)
        host = pair.host
        place = Place(host.index, host.lower, eni, host.mac, pair.pod_mac, self._hold.own_gateway)
        try:
            self._write(socket, endpoint, netns, place, fresh=pair.fresh)
        except BaseException:
            self._unwind(socket, endpoint, place, pair)
            raise
        if pair.before is not None:
            self._replace(socket, endpoint, place, pair)
        return place, pair.fresh

    def _plugged_anew(self, socket: Socket, mac: str, before: int) -> int | None:
        """The number of an ENI's link, made ready, if it is another one than ``before``; None if it is not.

        Its event comes a moment after an ADD may have failed for it.
        """
        prepared, found = self._hold.enis.get(mac.lower()), node.look_for(socket, mac, self._context.apart)
        if prepared is None or found is None or found.index == before:
            return None
        return self._rounds.prepare_anew(socket, prepared).ifindex

    def _write(self, socket: Socket, endpoint: Endpoint, netns: int, place: Place, *, fresh: bool) -> None:
        """The pod's side, then the host's with its proof, then wait until the pod can send and receive."""
        wanted = plan(endpoint, place)
        with pod_side.enter(netns, endpoint) as inside:
            had = [] if fresh else pod_side.addresses(inside, place.pod)
            try:
                pod_side.write(inside, place.pod, wanted.inside)
                host_side.write(socket, endpoint, place, wanted)
                pod_side.await_ready(inside, wanted.inside)
                if not fresh:
                    pod_side.drop_other_addresses(inside, place.pod, wanted.inside)
            except BaseException:
                if not fresh:
                    pod_side.drop_addresses(inside, (o for o in wanted.pod_addresses if o not in had))
                raise

    def _unwind(self, socket: Socket, endpoint: Endpoint, place: Place, pair: Pair) -> None:
        """Take away what this ADD made, and nothing that stood before it."""
        try:
            with self._hold.removing:
                if pair.fresh:
                    self._shortcut.pod_leaves(place.host)
                    host_side.unwind(socket, endpoint, place)
                elif pair.before is not None:
                    host_side.take_back(socket, plan(endpoint, place), pair.before.objects)
                if pair.before is not None:
                    standing.put_back(socket, pair.before)
        except KernelError as exc:
            log.error("a failed ADD left traces of %s; the next repair removes them: %s", endpoint, exc)

    def _retire(self, socket: Socket, host: Link, addresses: Iterable[Address], eni: int | None) -> None:
        """Take a host link out of use, with the rules of its addresses."""
        self._hold.retire(host.index)
        self._shortcut.pod_leaves(host.index)
        socket.transact(*doom(host), *host_side.rule_removals(socket, addresses, eni))
        self._reaper.wake()

    def _replace(self, socket: Socket, endpoint: Endpoint, place: Place, pair: Pair) -> None:
        """The new sandbox is proven: what led to the earlier one goes, except what is the new one's too.

        The pod is served whatever becomes of this: a link that is left is one that ``carriers`` tells of.
        """
        old = pair.before
        assert old is not None
        wanted = plan(endpoint, place)
        kept = {*wanted.host_routes, *wanted.host_neighbours, *wanted.host_rules, *wanted.host_addresses}
        stale = [one for one in old.objects if one not in kept and not isinstance(one, Assigned)]
        try:
            with self._hold.removing:
                if pair.fresh:
                    self._hold.retire(old.host.index)
                    self._shortcut.pod_leaves(old.host.index)
                    stale = [one for one in stale if isinstance(one, Rule)]
                    socket.transact(*doom(old.host))
                    self._reaper.wake()
                socket.transact(*map(objects.delete, stale))
        except KernelError as exc:
            log.error("the earlier sandbox's link %s of %s stays: %s", old.host.name, endpoint.host_link, exc)

    def _forget_addresses(self, socket: Socket, endpoint: Endpoint, carrying: Mapping[Address, int]) -> None:
        """The link went with the pod's namespace, and the routes with the link: only rules can be left.

        An address that a link carries now belongs to another pod already, and its rule with it.
        """
        free = set(endpoint.addresses()) - carrying.keys()
        self._shortcut.addresses_free(free)
        socket.transact(*host_side.rule_removals(socket, free, None))


def _no_eni(endpoint: Endpoint) -> UplinkUnusable:
    return UplinkUnusable(
        "set up a pod",
        errno=errno.ENODEV,
        object=f"{endpoint.host_link} on ENI {endpoint.eni.mac}",
        detail="no link has this MAC; was the ENI detached?",
    )

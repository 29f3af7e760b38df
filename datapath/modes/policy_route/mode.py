"""PolicyRoute: a veth pair per pod, a rule per pod to its ENI's table, a table of routes to all pods.

What is made is said by ``plan``; here it is written in as few system calls as the kernel allows (one
``sendmsg`` to make the pair, one in the pod, one on the host), proved by asking the kernel to route packets,
and taken back on any failure. Numbers: ``python -m perf.kernel_add``.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from datapath import objects
from datapath.acceleration.shortcut import Present
from datapath.endpoint import (
    AppliedVeth,
    Carrier,
    Difference,
    Endpoint,
    EndpointId,
    EndpointKey,
    EniLink,
    Sighting,
)
from datapath.errors import KernelError, UplinkUnusable
from datapath.modes.policy_route import host_side, inspection, node, repair, standing
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.node import PreparedEni
from datapath.modes.policy_route.observed import Observed
from datapath.modes.policy_route.pair import Pair, PairMaker
from datapath.modes.policy_route.plan import HOST_LINK_SETTINGS, Place, plan
from datapath.modes.policy_route.presence import sightings
from datapath.modes.port import ModeContext
from datapath.netlink import link, netconf
from datapath.netlink.address import Assigned
from datapath.netlink.link import Link
from datapath.netlink.netconf import NetconfMonitor
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Network
from datapath.pod import inside as pod_side
from datapath.pod.names import HOST_LINK_PREFIX, pod_mac
from datapath.pod.reaper import doom

log = logging.getLogger(__name__)


class PolicyRoute:
    """Implements ``modes.port.ModePort`` and the verbs of node and ENI.

    Safe from several threads, though not for two verbs on one endpoint at once. Raises KernelError on any
    refusal. ``close`` gives back what is the mode's own, and nothing of ``context``.
    """

    def __init__(self, context: ModeContext) -> None:
        self._context = context
        self._inside = context.inside
        self._shortcut, self._sockets = context.shortcut, context.sockets
        self._guard, self._reaper = context.guard, context.reaper
        self._settings = NetconfMonitor(context.netns)
        self._pairs = PairMaker(self._reaper)
        self._enis: dict[str, PreparedEni] = {}
        self.closed: tuple[Network, ...] = ()
        """IPv4 destinations that no pod may send to; told before the first ENI is prepared."""
        self._families: frozenset[int] = frozenset()
        self._own_gateway = False
        # Held by whatever takes away, so that a repair adds nothing for a pod that is just being removed.
        self._removing = threading.Lock()

    def close(self) -> None:
        self._settings.close()

    # Node and ENIs

    def has_ipv6(self) -> bool:
        """Whether the kernel knows IPv6. If not, nothing is made, listed or removed that is of it."""
        with self._inside():
            return node.has_ipv6()

    def prepare_node(self, host_addresses: Iterable[Address], *, home: int = 0) -> None:
        """Sysctls, the rule to ``TABLE_PODS``, and an end to links that a crash left doomed.

        An IPv6 address among ``host_addresses`` switches IPv6 on. ``home``: the link of the node's own ENI.
        """
        addresses = tuple(host_addresses)
        with self._sockets.borrowed() as socket, self._inside():
            self._families = node.prepare(socket, addresses)
            self._own_gateway = node.answers_by_link()
        self._guard.stand(self._eni_names())
        self._shortcut.node_ready(home)
        self._reaper.wake()

    def prepare_eni(self, eni: EniLink, host_addresses: Iterable[Address]) -> int:
        """Make the ENI's link and table ready; its index. KernelError with ENODEV: no link has the MAC."""
        with self._sockets.borrowed() as socket, self._inside():
            if eni.gateway_v6 is not None and not node.has_ipv6():
                eni = replace(eni, gateway_v6=None)
            prepared = node.prepare_eni(socket, eni, tuple(host_addresses), closed=self.closed)
            before = self._enis.get(eni.mac.lower())
            if before is not None and before.ifindex != prepared.ifindex:
                # Plugged anew: what is unreachable does not go with a link, as the other routes did.
                node.forget_eni(socket, before.ifindex, before.name if before.name != prepared.name else "")
        self._enis[eni.mac.lower()] = prepared
        self._guard.stand(self._eni_names())
        self._shortcut.eni_ready(eni, prepared.ifindex)
        return prepared.ifindex

    def forget_eni(self, mac: str) -> None:
        """Remove the table's routes and the rules to it; succeeds for an ENI that is gone or unknown."""
        prepared = self._enis.pop(mac.lower(), None)
        with self._sockets.borrowed() as socket, self._removing:
            ifindex = self._ifindex_of(socket, mac) if prepared is None else prepared.ifindex
            if ifindex is not None:
                self._shortcut.eni_leaves(ifindex)
                node.forget_eni(socket, ifindex, self._name_of(socket, mac, prepared))
        self._guard.stand(self._eni_names())

    def settings_fileno(self) -> int:
        """Readable when somebody has set a reverse path filter: then it is time for ``restore_settings``."""
        return self._settings.fileno()

    def restore_settings(self) -> tuple[Difference, ...]:
        """Put right what others have set since the last time; says what that was.

        systemd-udevd sets the filter of every new link to what sysctl.d has for all, a moment after the link
        was made: 2, loose, would let a pod's lies pass, and 1, strict, refuse what the VPC brings by an ENI.
        """
        changed = {one.index for one in self._settings.read()}
        enis = {prepared.ifindex: prepared for prepared in tuple(self._enis.values())}
        done: list[Difference] = []
        with self._sockets.borrowed() as socket:
            for index in changed:
                found = link.find(socket, index) if index > 0 else None
                if found is None:
                    continue
                if index in enis:
                    wanted, words = node.ENI_SETTINGS, repair.eni_set_otherwise(enis[index])
                elif found.name.startswith(HOST_LINK_PREFIX):
                    wanted, words = HOST_LINK_SETTINGS, repair.not_shut_off(found.name)
                else:
                    continue
                if not found.has(wanted):
                    socket.one(link.change(index, ipv4=wanted).also_done_if(errno.ENODEV))
                    done.append(words)
        if netconf.ALL in changed:
            done += self._mend_settings()
        return tuple(done)

    # Endpoints

    def setup(self, endpoint: Endpoint, netns: int) -> AppliedVeth:
        """See ``ModePort.setup``. The ENI must have been prepared."""
        if endpoint.ipv6 is not None and not self.has_ipv6():
            raise _no_ipv6(endpoint)
        with self._sockets.borrowed() as socket:
            eni = self._ifindex_of(socket, endpoint.eni.mac)
            if eni is None:
                raise _no_eni(endpoint)
            pair = self._pairs.make(socket, endpoint, netns)
            host = pair.host
            place = Place(host.index, host.lower, eni, host.mac, pair.pod_mac, self._own_gateway)
            try:
                self._write(socket, endpoint, netns, place, fresh=pair.fresh)
            except BaseException:
                self._unwind(socket, endpoint, place, pair)
                raise
            if pair.before is not None:
                self._replace(socket, endpoint, place, pair)
        applied = AppliedVeth(place.host, place.host_mac, place.pod_mac, place.eni)
        self._shortcut.pod_joined(endpoint, applied)
        return applied

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        """See ``ModePort.check``."""
        endpoint = next(iter(self._of_families_here([endpoint])), endpoint)
        with self._sockets.borrowed() as socket:
            eni = self._ifindex_of(socket, endpoint.eni.mac)
            found = inspection.check(socket, endpoint, netns, eni, own_gateway=self._own_gateway)
            return (*found, *self._check_shortcut(socket, endpoint, eni))

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
        with self._sockets.borrowed() as socket, self._removing:
            host = link.find(socket, endpoint.host_link)
            if host is None:
                self._forget_addresses(socket, endpoint)
            elif seen.owns(endpoint, host):
                eni = self._ifindex_of(socket, endpoint.eni.mac)
                self._retire(socket, host, endpoint.addresses(), eni)

    def take_down(self, who: EndpointId) -> tuple[Address, ...]:
        """Remove a link by what the kernel says of it alone: its name and its alias. What it carried.

        For a pod that nobody has a record of any more. Nothing happens if the link is another container's.
        """
        name, container_id = who.host_link, who.key.container_id
        with self._sockets.borrowed() as socket, self._removing:
            observed = seen.observe(socket)
            found = [one for one in (*observed.links, *observed.others) if one.name == name]
            if not found or found[0].alias != container_id:
                return ()
            carried = {one.link: one.addresses for one in seen.carriers(observed, self._shortcut.carried())}
            addresses = tuple(carried.get(name, ()))
            self._retire(socket, found[0], addresses, None)
            return addresses

    # Recovery

    def observe(self) -> Observed:
        with self._sockets.borrowed() as socket:
            return seen.observe(socket)

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """By the host links: see ``presence``."""
        return sightings(self._sockets, asked)

    def carriers(self) -> tuple[Carrier, ...]:
        """Every live link that a pod may be behind, with the addresses it carries."""
        return seen.carriers(self.observe(), self._shortcut.carried())

    def repair(self, endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]:
        """Bring the host's side of ``endpoints``, all that should exist, back in order; says what was done.

        A host link that no endpoint owns stays, with all that leads to it: ``take_down`` is for those. One
        that is missing is not made here: compare ``observe().links`` and call ``setup``.
        """
        with self._sockets.borrowed() as socket, self._removing:
            with self._inside():
                self._own_gateway = node.answers_by_link()
            endpoints = self._of_families_here(endpoints)
            # First, as the kernel takes no IPv6 object for a link where somebody has switched IPv6 off.
            settings = self._mend_settings(self._eni_links(socket), [one.host_link for one in endpoints])
            going = self._reaper.is_due()  # asked first: who dooms a link waits for the end of this
            observed, done = self._in_place(socket, endpoints)
            if going:
                observed = replace(observed, doomed=())
            enis = {mac: prepared.ifindex for mac, prepared in self._enis.items()}
            looks = [(one, node.look(socket, one)) for one in tuple(self._enis.values())]
            names = [state.link.name for _, state in looks if state.link is not None]
            found = repair.node_steps(observed, self._families, names)
            for prepared, state in looks:
                found += repair.eni_steps(prepared, state)
            rows = self._shortcut.carried()
            found += repair.steps(observed, endpoints, enis, rows, own_gateway=self._own_gateway)
            done += [step.difference for step in found if _attempt(socket, step)]
            done += settings
            done += self._guard.stand(names)
            done += self._shortcut.mend(self._present(observed, endpoints))
        if observed.doomed:
            self._reaper.wake()
        return tuple(done)

    # Steps

    def _in_place(self, socket: Socket, endpoints: Sequence[Endpoint]) -> tuple[Observed, list[Difference]]:
        """What there is once links have their names again, and which had not.

        The fast path would take a pod whose link has another name for one that is gone.
        """
        observed = seen.observe(socket)
        steps = repair.back_in_place(observed, endpoints)
        named = [step.difference for step in steps if _attempt(socket, step)]
        if named:
            observed = seen.observe(socket)
        return self._with_peers(socket, observed, endpoints), named

    def _with_peers(self, socket: Socket, observed: Observed, endpoints: Sequence[Endpoint]) -> Observed:
        """With the pods' ends of links that have another MAC than ours: upstream's, or set by somebody."""
        owned = repair.owned(observed, endpoints).items()
        strange = [host for endpoint, host in owned if not seen.is_made_for(endpoint, host)]
        return replace(observed, peers={one.index: link.peer_mac(socket, one) for one in strange})

    def _present(self, observed: Observed, endpoints: Sequence[Endpoint]) -> Present:
        """What a shortcut may know of. A pod of upstream's, whose MAC is not known, is not among it."""
        pods = {}
        for endpoint, host in repair.owned(observed, endpoints).items():
            eni, mac = self._enis.get(endpoint.eni.mac.lower()), repair.pod_mac(observed, endpoint, host)
            if eni is not None and mac:
                pods[host.index] = endpoint, AppliedVeth(host.index, host.mac, mac, eni.ifindex)
        enis = {one.ifindex: one.eni for one in self._enis.values()}
        return Present(pods, enis, frozenset(one.index for one in observed.links))

    def _of_families_here(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Without IPv6 if the kernel has none: the ledger may know of it from an earlier boot."""
        if self.has_ipv6():
            return list(endpoints)
        return [replace(one, ipv6=None) for one in endpoints if one.ipv4 is not None]

    def _mend_settings(self, enis: Sequence[str] = (), host_links: Sequence[str] = ()) -> list[Difference]:
        try:
            with self._inside():
                changed = node.mend_settings(self._families, enis=enis, host_links=host_links)
        except KernelError as exc:
            log.warning("settings of the node could not be mended; the next repair tries again: %s", exc)
            return []
        return [Difference(f"sysctl {name}", "set otherwise by somebody") for name in changed]

    def _eni_links(self, socket: Socket) -> list[str]:
        """What the links of the ENIs that are there are called now."""
        there = ((one, link.find(socket, one.ifindex)) for one in tuple(self._enis.values()))
        return [found.name for one, found in there if found is not None and found.mac == one.eni.mac.lower()]

    def _eni_names(self) -> list[str]:
        return [prepared.name for prepared in tuple(self._enis.values())]

    def _ifindex_of(self, socket: Socket, mac: str) -> int | None:
        prepared = self._enis.get(mac.lower())
        if prepared is not None:
            return prepared.ifindex
        found = node.look_for(socket, mac)
        return None if found is None else found.index

    def _name_of(self, socket: Socket, mac: str, prepared: PreparedEni | None) -> str:
        """Of an ENI's link now, or what it was when it was made ready; "" if nobody knows."""
        found = node.look_for(socket, mac)
        if found is not None:
            return found.name
        return "" if prepared is None else prepared.name

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
            with self._removing:
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
            with self._removing:
                if pair.fresh:
                    self._shortcut.pod_leaves(old.host.index)
                    stale = [one for one in stale if isinstance(one, Rule)]
                    socket.transact(*doom(old.host))
                    self._reaper.wake()
                socket.transact(*map(objects.delete, stale))
        except KernelError as exc:
            log.error("the earlier sandbox's link %s of %s stays: %s", old.host.name, endpoint.host_link, exc)

    def _forget_addresses(self, socket: Socket, endpoint: Endpoint) -> None:
        """The link went with the pod's namespace, and the routes with the link: only rules can be left.

        An address that a link carries now belongs to another pod already, and its rule with it.
        """
        free = set(endpoint.addresses()) - host_side.carried_elsewhere(socket, endpoint.addresses())
        self._shortcut.addresses_free(free)
        socket.transact(*host_side.rule_removals(socket, free, None))


def _no_ipv6(endpoint: Endpoint) -> KernelError:
    return KernelError(
        "set up a pod",
        errno=errno.EAFNOSUPPORT,
        object=f"{endpoint.host_link} with {endpoint.ipv6}",
        detail="this kernel has no IPv6 (was it started with ipv6.disable=1?); set ip_stack to ipv4",
    )


def _no_eni(endpoint: Endpoint) -> UplinkUnusable:
    return UplinkUnusable(
        "set up a pod",
        errno=errno.ENODEV,
        object=f"{endpoint.host_link} on ENI {endpoint.eni.mac}",
        detail="no link has this MAC; was the ENI detached?",
    )


def _attempt(socket: Socket, step: repair.Step) -> bool:
    """Each step by itself: a link that vanished meanwhile must not keep the others from being mended."""
    try:
        socket.transact(*step.requests)
    except KernelError as exc:
        log.warning("repair of %s failed; the next one tries again: %s", step.difference.what, exc)
        return False
    return True

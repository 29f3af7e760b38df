"""Macvlan: the verbs. The pod's namespace gets the slave, the ENI gets the mark, and that is all there is.

An ADD writes the mark first: a crash after it leaves a mark without a slave, which ``live`` tells as gone,
and a slave is never without its mark.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from datapath import namespace
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import (
    AppliedSlave,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    EniLink,
    Mode,
    OwnEni,
    Presence,
    Sighting,
    Uplink,
)
from datapath.enforcement.locks import Lock
from datapath.errors import AddressTaken, KernelError, NameTaken, UplinkUnusable
from datapath.modes.macvlan import mark, slave
from datapath.modes.macvlan.mark import Mark
from datapath.modes.macvlan.plan import plan, proofs
from datapath.modes.macvlan.presence import Eni, Witnesses, whereabouts
from datapath.modes.port import ModeContext, ModePort
from datapath.netlink import link, route
from datapath.netlink.link import Link
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Address, Request
from datapath.objects import ABSENT
from datapath.pausing import Pausing
from datapath.pod import inside as pod_side
from datapath.pod.reach import NamespaceReach

log = logging.getLogger(__name__)


class Macvlan(ModePort):
    """A pod has its ENI for itself, and passes nothing of the node's: what it may not send the VPC drops."""

    uplinks: ClassVar[frozenset[type[Uplink]]] = frozenset({OwnEni})
    locks: ClassVar[tuple[Lock, ...]] = (Lock.VPC,)

    def __init__(self, context: ModeContext) -> None:
        self._context = context
        self._sockets, self._reaper = context.sockets, context.reaper
        self._reach = NamespaceReach()
        self._taken: frozenset[str] = frozenset()

    # ENIs

    def prepare_uplink(self, uplink: Uplink) -> int:
        """Its link up, with the MTU. KernelError with ENODEV: no link has the MAC."""
        eni = uplink.eni
        with self._sockets.borrowed() as socket:
            found = _require(_eni(self._enis(socket), eni.mac), eni).link
            if not found.up or found.mtu != eni.mtu:
                socket.one(link.change(found.index, up=True, mtu=eni.mtu))
        return found.index

    @property
    def taken(self) -> frozenset[str]:
        """See ``ModePort.taken``: by the marks."""
        return self._taken

    def takes(self, mac: str) -> bool:
        """See ``ModePort.takes``."""
        with self._sockets.borrowed() as socket:
            eni = _eni(self._enis(socket), mac)
        return eni is not None and eni.mark is not None

    # Endpoints

    def setup(self, endpoint: Endpoint, netns: int) -> AppliedSlave:
        """See ``ModePort.setup``."""
        with self._sockets.borrowed() as socket:
            eni = _require(_eni(self._enis(socket), endpoint.eni.mac), endpoint.eni)
            self._refuse_another(socket, endpoint, eni)
            made = slave.find(netns, eni.link.index) is None
            text = _text(endpoint, netns, eni)
            if eni.link.alias != text:
                socket.one(link.change(eni.link.index, alias=text))
            try:
                if made:
                    self._create(socket, endpoint, eni.link, netns)
                found = self._write(endpoint, eni.link, netns)
            except BaseException:
                self._unwind(socket, eni, netns, made=made)
                raise
        self._taken |= {endpoint.eni.mac.lower()}
        self._context.apart.add(eni.link.index)
        return AppliedSlave(found.mac, eni.link.index)

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        """See ``ModePort.check``. ``netns`` None: the ENI alone."""
        with self._sockets.borrowed() as socket:
            eni = _eni(self._enis(socket), endpoint.eni.mac)
        if eni is None:
            return (Difference(ObjectKind.LINK, f"link of ENI {endpoint.eni.mac}", ABSENT),)
        found = [Difference(ObjectKind.LINK, what, instead) for what, instead, _ in _astray(endpoint, eni)]
        if netns is None:
            return tuple(found)
        with Socket(netns) as inside:
            there = slave.find_in(inside, eni.link.index)
            if there is None or there.name != endpoint.ifname:
                instead = ABSENT if there is None else f"called {there.name}"
                return (
                    *found,
                    Difference(ObjectKind.LINK, f"interface {endpoint.ifname} in the pod", instead),
                )
            found += pod_side.link_differences(there, endpoint.mtu)
            found += pod_side.differences(inside, there.index, plan(endpoint, there.index))
            return (*found, *(_misrouted(inside, endpoint, there) if not found else ()))

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        """See ``ModePort.teardown``. KernelError with EBUSY: the ENI has a slave where nobody gets at it.

        Waits for the slave's deletion, some 20 ms: it is in the pod's namespace, where the reaper is not.
        """
        self._remove(endpoint.id, netns)

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        """See ``ModePort.take_down``."""
        return self._remove(who, netns)

    # What the kernel says

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """By namespaces and ENIs: see ``presence``."""
        wanted = tuple(asked)
        if not wanted:
            return {}
        try:
            with self._sockets.borrowed() as socket:
                enis, witnesses = self._enis(socket), self._witnesses(socket)
                return {one.key: witnesses.sight(one, _of(enis, one)) for one in wanted}
        except (KernelError, OSError) as exc:
            return dict.fromkeys((one.key for one in wanted), Sighting(Presence.UNKNOWN, str(exc)))

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        """By the marks. One whose pod cannot be looked at counts."""
        if lately and self._has_nobody():
            return ()
        with self._sockets.borrowed() as socket:
            witnesses = self._witnesses(socket)
            found = []
            for eni in self._enis(socket):
                if eni.mark is not None:
                    sighting = witnesses.sight(_id_of(eni.mark), eni)
                    if sighting.presence is not Presence.GONE:
                        found.append(_carrier(eni, eni.mark))
        return tuple(found)

    def repairing(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        """See ``ModePort.repairing``; in one step, as an ENI has one pod.

        What is in the pod is left to the pod, as in the other modes.

        A mark whose pod is gone goes too: the ENI is to be shared again.
        """
        done: list[Difference] = []
        yield
        if not endpoints and self._has_nobody():
            return ()
        with self._sockets.borrowed() as socket:
            enis = self._enis(socket)
            for endpoint in endpoints:
                eni = _eni(enis, endpoint.eni.mac)
                try:
                    done += () if eni is None else self._repair(socket, endpoint, eni)
                except KernelError as exc:
                    log.warning("repair of %s failed; the next one tries again: %s", endpoint, exc)
            yield
            stale = self._drop_stale(socket, {one.key for one in endpoints})
            if stale:
                self._enis(socket)
            done += stale
        return tuple(done)

    # Steps

    def _has_nobody(self) -> bool:
        """No link had a mark when links were listed last, be it for another mode."""
        links = self._context.memory.latest(link.LISTING)
        if links is None or self._taken:
            return False
        return all(mark.read(one.alias) is None for one in links if not one.stacked)

    def _enis(self, socket: Socket) -> list[Eni]:
        """Every link that may be an ENI."""
        links = self._context.memory.read(socket, link.LISTING)
        listed = [Eni(one, mark.read(one.alias)) for one in links if not one.stacked]
        self._taken = frozenset(one.mac.lower() for one in listed if one.mark is not None)
        apart = {one.link.index for one in listed if one.mark is not None}
        # In this order nothing that stays is not in it for a moment.
        self._context.apart.update(apart)
        self._context.apart.intersection_update(apart)
        return listed

    def _witnesses(self, socket: Socket) -> Witnesses:
        return Witnesses(socket, self._reaper, self._reach)

    def _refuse_another(self, socket: Socket, endpoint: Endpoint, eni: Eni) -> None:
        """Raises AddressTaken while the ENI is another sandbox's, or of nobody knows whom."""
        if eni.mark is None or eni.mark.key == endpoint.key:
            return
        if not slave.occupied(socket, self._reaper, eni.link):
            return
        detail = f"container {eni.mark.key} has ENI {eni.mac} for itself"
        raise AddressTaken("set up a pod", errno=errno.EADDRINUSE, object=str(endpoint), detail=detail)

    def _create(self, socket: Socket, endpoint: Endpoint, eni: Link, netns: int) -> None:
        name = endpoint.ifname
        try:
            slave.create(socket, self._reaper, name, eni, netns=netns, mtu=endpoint.mtu)
        except KernelError as exc:
            if exc.errno == errno.EEXIST:
                detail = "another plugin made it; give each plugin of the chain its own interface name"
                where = f"{name} in the pod's namespace"
                raise NameTaken("create interface", errno=exc.errno, object=where, detail=detail) from exc
            if exc.errno == errno.EINVAL:
                detail = f"ENI {endpoint.eni.mac} has a slave already, in another namespace"
                raise AddressTaken(
                    "set up a pod", errno=errno.EADDRINUSE, object=str(endpoint), detail=detail
                ) from exc
            raise

    def _write(self, endpoint: Endpoint, eni: Link, netns: int) -> Link:
        """The pod's side; then wait until the pod can send and receive, and ask which way packets take."""
        with pod_side.enter(netns, endpoint) as inside:
            there = slave.find_in(inside, eni.index)
            if there is None:
                raise KernelError("create link", errno=errno.ENODEV, object=str(endpoint), detail="vanished")
            wanted = plan(endpoint, there.index)
            pod_side.write(inside, there.index, wanted)
            pod_side.drop_other_addresses(inside, there.index, wanted)
            pod_side.await_ready(inside, wanted)
            wrong = _misrouted(inside, endpoint, there)
        if wrong:
            detail = "; ".join(one.found for one in wrong)
            raise KernelError("prove the pod's routing", object=str(endpoint), detail=detail)
        return there

    def _unwind(self, socket: Socket, eni: Eni, netns: int, *, made: bool) -> None:
        """Take away what this ADD made, and nothing that stood before it."""
        try:
            if made:
                _delete(netns, eni.link.index)
            socket.one(link.change(eni.link.index, alias=eni.link.alias))
        except (KernelError, OSError) as exc:
            log.error("a failed ADD left a slave of %s; the next repair removes it: %s", eni.link.name, exc)

    def _remove(self, who: EndpointId, netns: int | None) -> tuple[Address, ...]:
        """The slave, then the mark. Nothing happens to what is another's."""
        with self._sockets.borrowed() as socket:
            eni = _of(self._enis(socket), who)
            if eni is None or (eni.mark is not None and eni.mark.key != who.key):
                return ()
            if netns is not None:
                _delete(netns, eni.link.index)
            why = self._delete_by_path(who, eni)
            if slave.occupied(socket, self._reaper, eni.link):
                detail = (
                    f"{eni.link.name} has a slave in a namespace that we do not get at: {why or 'unknown'}"
                )
                raise KernelError("take down a pod", errno=errno.EBUSY, object=str(who.key), detail=detail)
            if eni.mark is None:
                return ()
            socket.one(link.change(eni.link.index, alias=eni.mark.beside))
            self._taken -= {eni.mac.lower()}
            self._context.apart.discard(eni.link.index)
            return eni.mark.addresses

    def _delete_by_path(self, who: EndpointId, eni: Eni) -> str:
        """Why the namespace could not be looked at, "" if it was."""
        try:
            with self._reach.opened(*whereabouts(who, eni)) as netns:
                _delete(netns, eni.link.index)
        except (KernelError, OSError) as exc:
            return str(exc)
        return ""

    def _repair(self, socket: Socket, endpoint: Endpoint, eni: Eni) -> list[Difference]:
        done = []
        for what, instead, request in _astray(endpoint, eni):
            try:
                if request is None:
                    request = self._mark_again(endpoint, eni)
                socket.one(request)
                done.append(Difference(ObjectKind.LINK, what, instead))
            except (KernelError, OSError) as exc:  # of this pod, and the others are seen to
                log.warning("repair of %s failed; the next one tries again: %s", what, exc)
        return done

    def _mark_again(self, endpoint: Endpoint, eni: Eni) -> Request:
        """Only if the pod is seen to have the slave: an ENI that nobody has is not to look taken."""
        with self._reach.opened(*whereabouts(endpoint.id, eni)) as netns:
            if slave.find(netns, eni.link.index) is None:
                detail = "the pod at the path has no slave of the ENI"
                raise KernelError("mark an ENI", errno=errno.ENODEV, object=eni.mac, detail=detail)
            return link.change(eni.link.index, alias=_text(endpoint, netns, eni))

    def _drop_stale(self, socket: Socket, wanted: set[EndpointKey]) -> list[Difference]:
        done, witnesses = [], self._witnesses(socket)
        for eni in self._enis(socket):
            if eni.mark is None or eni.mark.key in wanted:
                continue
            if witnesses.sight(_id_of(eni.mark), eni).presence is not Presence.GONE:
                continue
            what = f"mark of ENI {eni.mac}"
            try:
                socket.one(link.change(eni.link.index, alias=eni.mark.beside).also_done_if(errno.ENODEV))
                done.append(Difference(ObjectKind.LINK, what, f"of {eni.mark.key}, which is gone"))
            except KernelError as exc:  # of this ENI, and the others are seen to
                log.warning("%s cannot be taken off; the next repair tries again: %s", what, exc)
        return done


def _eni(enis: Iterable[Eni], mac: str) -> Eni | None:
    """By the MAC that is its own, whatever its pod has made of that."""
    wanted = mac.lower()
    return next((one for one in enis if one.mac.lower() == wanted), None)


def _of(enis: Iterable[Eni], who: EndpointId) -> Eni | None:
    """The ENI that is marked as the endpoint's, else the one it is said to have."""
    listed = list(enis)
    marked = next((one for one in listed if one.mark is not None and one.mark.key == who.key), None)
    if marked is not None or not who.eni_mac:
        return marked
    return _eni(listed, who.eni_mac)


def _require(found: Eni | None, eni: EniLink) -> Eni:
    if found is None:
        detail = "no link has this MAC; was the ENI detached?"
        raise UplinkUnusable(
            "find the link of an ENI", errno=errno.ENODEV, object=f"MAC {eni.mac}", detail=detail
        )
    return found


def _text(endpoint: Endpoint, netns: int, eni: Eni) -> str:
    """The ENI's alias: the mark, and another hand's text. Raises KernelError if both do not fit."""
    try:
        return Mark(
            endpoint.key,
            endpoint.eni.mac.lower(),
            namespace.identity(netns),
            endpoint.addresses(),
            endpoint.netns,
            mark.beside(eni.link.alias),
        ).text()
    except ValueError as exc:
        detail = f"{exc}; give {eni.link.name} a shorter one (`ip link set {eni.link.name} alias TEXT`)"
        raise KernelError("mark an ENI", errno=errno.ENOSPC, object=eni.mac, detail=detail) from exc


def _id_of(found: Mark) -> EndpointId:
    return EndpointId(found.key, Mode.MACVLAN, netns=found.path, eni_mac=found.mac)


def _carrier(eni: Eni, found: Mark) -> Carrier:
    return Carrier(
        link=eni.link.name,
        mac=found.mac,
        container_id=found.key.container_id,
        addresses=frozenset(found.addresses),
        enis=frozenset({found.mac}),
        mode=Mode.MACVLAN,
        ifname=found.key.ifname,
    )


def _astray(endpoint: Endpoint, eni: Eni) -> list[tuple[str, str, Request | None]]:
    """What of the ENI is not as ``setup`` left it, what stands instead, and the request that mends it.

    None for the mark: it says which namespace the pod's is, so that one must be looked at first.
    """
    found: list[tuple[str, str, Request | None]] = []
    index, name, mac = eni.link.index, eni.link.name, endpoint.eni.mac.lower()
    if (
        eni.mark is None
        or eni.mark.key != endpoint.key
        or set(eni.mark.addresses) != set(endpoint.addresses())
    ):
        found.append((f"mark of ENI {mac}", eni.link.alias or ABSENT, None))
    if eni.link.mac != mac:
        found.append((f"MAC of ENI {name}, {mac}", eni.link.mac, link.change(index, mac=mac)))
    if not eni.link.up:
        found.append((f"link {name} of ENI {mac}", "down", link.change(index, up=True)))
    if eni.link.mtu != endpoint.eni.mtu:
        wanted = link.change(index, mtu=endpoint.eni.mtu)
        found.append((f"link {name} of ENI {mac} mtu {endpoint.eni.mtu}", f"mtu {eni.link.mtu}", wanted))
    return found


def _misrouted(inside: Socket, endpoint: Endpoint, there: Link) -> list[Difference]:
    """Packets of the pod that would not leave by its slave."""
    questions = proofs(endpoint)
    answers = inside.transact(*(route.lookup(one) for one in questions))
    found = []
    for question, answer in zip(questions, answers, strict=True):
        way = route.way(answer)
        if way is None or way.oif != there.index:
            instead = "nowhere" if way is None else f"by link {way.oif}"
            found.append(
                Difference(
                    ObjectKind.ROUTING, f"routing of {endpoint}", f"a packet {question} goes {instead}"
                )
            )
    return found


def _delete(netns: int, eni: int) -> None:
    """The slave of the ENI with index ``eni``, if the namespace has it."""
    with Socket(netns) as inside:
        found = slave.find_in(inside, eni)
        if found is not None:
            inside.one(link.delete(found.index))

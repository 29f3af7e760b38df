"""What the kernel tells of our objects as it happens, and what is done about it within the moment.

A setting is put back at once: systemd-udevd sets the reverse path filter of every new link to what sysctl.d
has for all, a moment after the link was made; 2, loose, would let a pod's lies pass, and 1, strict, refuse
what the VPC brings by an ENI. Of everything else the event is only a reason to look: a repair compares.
What we do ourselves is no news.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from socket import AF_INET6

from datapath.difference import Difference
from datapath.errors import KernelError
from datapath.modes.policy_route import layout, repair, settings
from datapath.modes.policy_route import observed as seen
from datapath.modes.policy_route.hold import NodeHold
from datapath.modes.policy_route.node import may_be_eni
from datapath.modes.policy_route.plan import HOST_LINK_SETTINGS
from datapath.modes.policy_route.repair import Step
from datapath.modes.policy_route.rounds import Rounds
from datapath.modes.port import Reaction
from datapath.netlink import link
from datapath.netlink.address import Assigned
from datapath.netlink.changes import ALL, Change, ChangeMonitor, LinkHead, Lost, Setting, Subject
from datapath.netlink.link import LOOPBACK, Link
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import Route
from datapath.netlink.rule import Rule
from datapath.netlink.socket import Socket, nobody_asks
from datapath.pod.gateway import POD_GATEWAY, POD_GATEWAY_V6
from datapath.pod.names import GROUP_DOOMED

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Links whose settings are looked at one by one; beyond that a repair looks at all of them together."""


class NodeWatch:
    """From construction on; the one reader of a mode's events."""

    def __init__(self, hold: NodeHold, rounds: Rounds) -> None:
        self._hold = hold
        self._rounds = rounds
        self._monitor = ChangeMonitor(hold.context.netns)
        sockets = hold.context.sockets
        sockets.on_ports = self._monitor.spare
        self._monitor.spare(sockets.ports)

    def fileno(self) -> int:
        return self._monitor.fileno()

    def close(self) -> None:
        self._hold.context.sockets.on_ports = nobody_asks
        self._monitor.close()

    def react(self) -> Reaction:
        changes = self._monitor.read(self._hold.context.sockets.ports)
        written = {one.subject.index for one in changes if isinstance(one.subject, Setting)}
        heads = {one.subject.index: one for one in changes if isinstance(one.subject, LinkHead)}
        others = (one for one in changes if not isinstance(one.subject, Setting | LinkHead))
        due = any(map(self._is_of_link, heads.values())) or any(map(self._is_of_ours, others))
        mended: list[Difference] = []
        if ALL in written:
            mended += self._rounds.mend_node_settings()
        links = [one for one in written if one > 0]
        if len(links) > AT_ONCE:
            due = True
        elif links:
            with self._hold.context.sockets.borrowed() as socket:
                mended += [done for index in links for done in self._mend_link(socket, index)]
        return Reaction(tuple(map(self._rounds.patience.done, mended)), due)

    def _mend_link(self, socket: Socket, index: int) -> list[Difference]:
        """By itself: of another link's refusal this one does not suffer."""
        try:
            found = link.find(socket, index)
            return [] if found is None else self._rounds.carry_out(socket, list(self._setting_steps(found)))
        except KernelError as exc:
            log.warning(
                "settings of link %d could not be mended; the next repair tries again: %s", index, exc
            )
            return []

    def _setting_steps(self, found: Link) -> Iterable[Step]:
        hold = self._hold
        for prepared in hold.prepared():
            if prepared.ifindex == found.index:
                return repair.eni_setting_steps(prepared, found)
        if found.index == hold.facts.home:
            return repair.setting_steps(found, settings.NODE, ipv6=AF_INET6 in hold.facts.families)
        if found.index not in hold.pods:
            return ()
        rest = settings.Wanted(settings.FORWARDS, settings.HOST_LINK.ipv6)
        steps = repair.setting_steps(found, rest, ipv6=AF_INET6 in hold.facts.families, host=found.index)
        if not found.has(HOST_LINK_SETTINGS):
            shut = link.change(found.index, ipv4=HOST_LINK_SETTINGS)
            steps.append(Step(repair.not_shut_off(found.name), (shut,), host=found.index))
        return steps

    def _is_of_link(self, change: Change) -> bool:
        """A link of ours is not as we left it, or has the MAC of an ENI that had another number."""
        hold, head = self._hold, change.subject
        assert isinstance(head, LinkHead)
        prepared = next((one for one in hold.prepared() if one.ifindex == head.index), None)
        pod = hold.pods.get(head.index)
        if change.gone:
            # A pod's link goes with its namespace, mostly, and its DEL is on the way.
            return prepared is not None
        if pod is not None:
            there = head.link()
            as_left = there.up, there.name, there.alias, there.mtu
            wrong = as_left != (True, pod.host_link, pod.container_id, pod.mtu)
            return (wrong or not seen.is_made_for(pod, there)) and there.group != GROUP_DOOMED
        if prepared is not None:
            there = head.link()
            as_left = there.up, there.name, there.mac, there.mtu
            return as_left != (True, prepared.name, prepared.eni.mac.lower(), prepared.eni.mtu)
        return head.mac() in hold.devices and may_be_eni(head.link(), hold.context.apart)

    def _is_of_ours(self, change: Change) -> bool:
        subject: Subject = change.subject
        hold = self._hold
        if isinstance(subject, Assigned):
            return self._is_address_of_ours(subject, gone=change.gone)
        if isinstance(subject, Route):
            tables = {layout.eni_table(one.ifindex) for one in hold.prepared()} | {layout.TABLE_PODS}
            # What goes with a link that was taken out of use has nobody any more.
            alive = subject.oif in hold.pods or subject.oif in {one.ifindex for one in hold.prepared()}
            nowhere = subject.unreachable or bool(subject.refusal)
            return subject.table in tables and (alive or nowhere or not change.gone)
        if isinstance(subject, Rule):
            return 0 < subject.priority <= layout.PRIORITY_FROM_POD
        if isinstance(subject, Neighbour):
            pod = hold.pods.get(subject.index)
            return pod is not None and subject.address in pod.addresses()
        return isinstance(subject, Lost)

    def _is_address_of_ours(self, one: Assigned, *, gone: bool) -> bool:
        hold = self._hold
        gateways = (POD_GATEWAY, POD_GATEWAY_V6)
        if one.index == LOOPBACK:
            return one.address == POD_GATEWAY
        if one.index == hold.facts.home:
            return not one.address.is_link_local
        if one.index in hold.pods:
            return one.address in gateways if gone else not one.address.is_link_local
        prepared = next((eni for eni in hold.prepared() if eni.ifindex == one.index), None)
        if prepared is None or (one.address.version == 6 and one.address.is_link_local):
            return False
        return gone == (one in prepared.addresses())

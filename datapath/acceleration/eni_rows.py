"""The ENIs that the fast path was told of, and their rows in ``uplinks``: gateways' MACs, carriers.

An ENI without a carrier has no row that can be used, so that the stack gets its pods' packets and tells them.
A gateway whose MAC is not known yet is left to the kernel, and asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from threading import RLock
from typing import TYPE_CHECKING

from datapath.acceleration.rows import UplinkName, UplinkRow
from datapath.acceleration.uplink_table import NO_ROW
from datapath.endpoint import EniLink
from datapath.errors import KernelError
from datapath.netlink import neighbour
from datapath.netlink.socket import Pool

if TYPE_CHECKING:
    from datapath.acceleration.path import FastPath

log = logging.getLogger(__name__)


class EniRows:
    """By device. Safe from several threads."""

    def __init__(self, sockets: Pool) -> None:
        self._sockets = sockets
        self._lock = RLock()
        self._told: dict[int, EniLink] = {}
        self._rows: dict[int, UplinkRow | None] = {}
        """As they were written last; None: there is to be none."""
        self._unlearned: frozenset[int] = frozenset()
        """Those with a gateway whose MAC is not known yet."""
        self.dark: frozenset[int] = frozenset()
        """Those that have no carrier, or were taken down: the stack tells the pods."""

    def __contains__(self, ifindex: object) -> bool:
        return ifindex in self._told

    def devices(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(self._told)

    def tell(self, fast: FastPath, eni: EniLink, ifindex: int) -> None:
        """Write the row, with the gateways' MACs as the kernel knows them; without a carrier there is none.

        The kernel is asked to make sure of the MACs for the next time.
        """
        gateways = [one for one in (eni.gateway, eni.gateway_v6) if one is not None]
        with self._lock, self._sockets.borrowed() as socket:
            if ifindex in self.dark:
                _drop(fast, ifindex)
            macs = [neighbour.ask(socket, one, ifindex) for one in gateways]
            row = UplinkRow(ifindex, eni.mac.lower(), macs[0], macs[1] if len(macs) > 1 else None, eni.mtu)
            if ifindex not in self.dark:
                fast.put_uplink(row)
            self._told[ifindex] = eni
            self._unlearned -= {ifindex}
            if None in macs:
                self._unlearned |= {ifindex}
            self._rows[ifindex] = None if ifindex in self.dark else row

    def differences(self, fast: FastPath, ifindex: int, name: UplinkName) -> list[str]:
        """What is otherwise than it was written last, for pods of the uplink ``name``: every field."""
        with self._lock:
            if ifindex not in self._rows:
                return [NO_ROW]
            row = self._rows[ifindex]
            if row is not None:
                return fast.uplink_differences(row) if row.name == name else [NO_ROW]
            there = any(one.ifindex == ifindex for one in fast.uplinks().values())
            return [f"map uplinks has a row of device {ifindex}, which has no carrier"] if there else []

    def forget(self, fast: FastPath | None, ifindex: int) -> None:
        """Succeeds for the absent."""
        with self._lock:
            self._told.pop(ifindex, None)
            self._rows.pop(ifindex, None)
            self._unlearned -= {ifindex}
            self.dark -= {ifindex}
            if fast is not None:
                _drop(fast, ifindex)

    def learn(self, fast: FastPath) -> bool:
        """Look again for gateways' MACs that are not known; False if some still are not."""
        self._tell_again(fast, self._unlearned)
        return not self._unlearned

    def follow(self, fast: FastPath, carriers: Mapping[int, bool]) -> None:
        """A redirect loses packets for an ENI that is down as silently; without a row the stack gets them."""
        with self._lock:
            dark = {ifindex for ifindex, carrier in carriers.items() if not carrier}
            before, self.dark = self.dark, ((self.dark - carriers.keys()) | dark) & self._told.keys()
            changed = before ^ self.dark
        self._tell_again(fast, changed)

    def _tell_again(self, fast: FastPath, devices: Iterable[int]) -> None:
        """Each by itself."""
        for ifindex in devices:
            with self._lock:
                eni = self._told.get(ifindex)
                if eni is None:
                    continue
                try:
                    self.tell(fast, eni, ifindex)
                except (KernelError, OSError) as exc:
                    log.warning("the row of ENI %s is as it was: %s", eni.mac, exc)


def _drop(fast: FastPath, ifindex: int) -> None:
    """Of that device, and not of another that its ENI has by now."""
    for one in fast.uplinks().values():
        if one.ifindex == ifindex:
            fast.drop_uplink(one.name)

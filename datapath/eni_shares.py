"""Whose an ENI is: shared by the modes that share, until a mode takes it for one pod alone.

It is shared again when that pod is gone. The kernel says who has one; nothing of it is remembered but how an
ENI that is shared was last made ready.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable

from datapath.difference import Difference, ObjectKind
from datapath.endpoint import OwnEni, SharedEni, Uplink
from datapath.errors import AddressTaken, KernelError
from datapath.modes.port import ModePort

log = logging.getLogger(__name__)


class EniShares:
    """One node's, over all its modes."""

    def __init__(self, modes: Iterable[ModePort]) -> None:
        every = tuple(modes)
        self._sharing = [mode for mode in every if SharedEni in mode.uplinks]
        self._owning = [mode for mode in every if OwnEni in mode.uplinks]
        self._shared: dict[str, SharedEni] = {}
        """By MAC."""

    def prepare(self, uplink: Uplink) -> int:
        """Make the uplink's device ready; its index. KernelError with ENODEV: no link has the MAC.

        An ENI that a pod has for itself is left to that pod, and shared when the pod is gone. One for a pod
        alone is made ready by ``setup``, as the mode has to be known.
        """
        if not isinstance(uplink, SharedEni):
            detail = f"no mode of this release makes a {type(uplink).__name__} ready by itself"
            raise KernelError("prepare an uplink", errno=errno.EOPNOTSUPP, object=uplink.id, detail=detail)
        self._shared[uplink.eni.mac.lower()] = uplink
        owner = self._owner(uplink.eni.mac)
        return self._share(uplink) if owner is None else owner.prepare_uplink(uplink)

    def forget(self, mac: str) -> None:
        """Remove what the node has for it; succeeds for an ENI that is gone or unknown."""
        self._shared.pop(mac.lower(), None)
        for mode in self._sharing:
            mode.forget_uplink(mac)

    def _share(self, uplink: SharedEni) -> int:
        (index,) = {mode.prepare_uplink(uplink) for mode in self._sharing}
        return index

    def _owner(self, mac: str) -> ModePort | None:
        """The mode of the pod that has the ENI for itself, by the kernel's word."""
        return next((mode for mode in self._owning if mode.takes(mac)), None)

    def taken(self) -> frozenset[str]:
        """Without asking the kernel: every ADD comes here."""
        return frozenset[str]().union(*(mode.taken for mode in self._owning))

    def take(self, uplink: OwnEni, mode: ModePort) -> None:
        """From those who share the ENI, for a pod of ``mode``.

        AddressTaken if a pod leans on it, or one of another mode has it for itself.
        """
        mac = uplink.eni.mac
        owner = self._owner(mac)
        if owner is None:
            self._refuse_shared(mac)
            for sharing in self._sharing:
                sharing.forget_uplink(mac)
        elif owner is not mode:
            detail = "a pod of another mode has this ENI for itself"
            raise AddressTaken("take an ENI for a pod", errno=errno.EBUSY, object=mac, detail=detail)
        mode.prepare_uplink(uplink)

    def _refuse_shared(self, mac: str) -> None:
        leaning = [one.link for mode in self._sharing for one in mode.carriers() if mac.lower() in one.enis]
        if leaning:
            detail = f"pods share it, by {', '.join(leaning)}; this mode needs an ENI that nobody shares"
            raise AddressTaken("take an ENI for a pod", errno=errno.EBUSY, object=mac, detail=detail)

    def share_again(self, macs: Iterable[str]) -> None:
        """What no pod has for itself any more is everybody's again."""
        for mac in macs:
            known = self._shared.get(mac.lower())
            if known is None:
                continue
            try:
                if self._owner(mac) is None:
                    self._share(known)
            except KernelError as exc:
                log.warning("ENI %s cannot be shared yet; the next look at it tries again: %s", mac, exc)

    def share_no_more(self) -> list[Difference]:
        """What a pod has for itself, and was made ready for all while its mark was gone."""
        done = []
        for mac in self.taken():
            sharing = [mode for mode in self._sharing if mode.shares(mac)]
            try:
                for mode in sharing:
                    mode.forget_uplink(mac)
                if sharing:
                    done.append(
                        Difference(ObjectKind.UPLINK, f"ENI {mac} that a pod has for itself", "shared")
                    )
            except KernelError as exc:
                log.warning("ENI %s is shared and a pod's own; the next repair tries again: %s", mac, exc)
        return done

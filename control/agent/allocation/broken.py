"""An ENI by which a pod's packets were proven not to leave: no other pod is put on it before it is right
again.

The proof in hand is one witness, and it is a pod's ADD, so it is not believed alone. The kernel is asked
about the ENI itself, with no pod in it:

* its device is gone: frozen, with the reason, until kernel, metadata and cloud agree on it again. They are
  asked at once (``on_broken``), as a hand may have detached it;
* what it needs was not all there and could be put back: the ADD tries again;
* all is there and the next proof fails as well: held off for a while, longer each time.

A held-off ENI comes back by itself. One that flaps is held off beyond its return for as long as the table of
rejections says, at most ``MAX_HOLD_OFF``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from control.agent.dataplane.ports import NodeKernel, shared_eni
from control.agent.state.journal import Journal
from control.ipam import transitions
from control.ipam.rejections import FIRST_HOLD_OFF, Rejections, of_uplink
from control.model.errors import KernelError, LedgerError, UplinkBroken
from control.model.ids import EniId
from control.model.records import EniRecord, EniState

log = logging.getLogger(__name__)


def _ignore(_eni: EniRecord) -> None:
    pass


class BrokenUplinks:
    """``mtu`` in bytes, of ENIs."""

    def __init__(self, *, journal: Journal, kernel: NodeKernel, rejections: Rejections, mtu: int) -> None:
        self._journal = journal
        self._kernel = kernel
        self._rejections = rejections
        self._mtu = mtu
        self._mended_at: dict[EniId, float] = {}
        """ENIs that were put right and have not failed since."""
        self.on_broken: Callable[[EniRecord], None] = _ignore
        """Told of an ENI that was frozen just now."""

    def failed(self, eni_id: EniId, proof: UplinkBroken) -> None:
        """An ADD on the ENI ends with ``proof``. Whoever asks for an address next gets a sound ENI's."""
        eni, now = self._journal.book.enis.get(eni_id), self._journal.now()
        if eni is None:
            return
        mended_at = self._mended_at.pop(eni_id, None)
        try:
            self._kernel.prepare_uplink(shared_eni(eni, self._mtu))
        except KernelError as exc:
            self._freeze(eni, str(exc))
            self._hold_off(eni, str(exc), now)
            return
        if mended_at is not None and 0 <= now - mended_at < FIRST_HOLD_OFF:
            self._hold_off(eni, proof.what, now)
        else:
            log.warning("ENI %s (%s) was made ready again after %s", eni.eni_id, eni.mac, proof)
            self._mended_at = {e: t for e, t in self._mended_at.items() if e in self._journal.book.enis}
            self._mended_at[eni_id] = now

    def carries(self, eni_id: EniId) -> bool:
        """Whether a new sandbox may be put on it, as far as kernel and ledger know: one that is frozen
        because cloud or metadata lost it keeps its pods, also those whose sandbox is made anew."""
        eni = self._journal.book.enis.get(eni_id)
        return eni is not None and not self._rejections.held_off(self._journal.now(), of_uplink(eni_id))

    def _freeze(self, eni: EniRecord, reason: str) -> None:
        if eni.state is not EniState.SERVING:
            return
        try:
            self._journal.record(transitions.freeze_eni(eni, reason, self._journal.now()))
        except LedgerError as exc:  # the hold-off keeps pods off it meanwhile
            log.warning("ENI %s is not frozen yet: %s", eni.eni_id, exc)
        self.on_broken(eni)

    def _hold_off(self, eni: EniRecord, why: str, now: float) -> None:
        error = KernelError(
            f"no pod can be put on ENI {eni.eni_id} ({eni.mac}): {why}",
            remedy="attach it to this instance again if somebody detached it, else look for what sets this "
            "node's rules and routes; it serves again by itself once it is right",
        )
        held = self._rejections.hold_off(of_uplink(eni.eni_id), error, now)
        log.warning("%s; held off for %.0f s", error.what, held.seconds)

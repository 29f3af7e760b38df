"""What to believe when the ledger, the cloud and metadata differ about one ENI's addresses. Pure.

Nothing is handed out or freed on one witness alone:

=========  =======  ==========  =====================================================================
ledger     cloud    metadata    so
=========  =======  ==========  =====================================================================
known      shown    shown       as it should be; a frozen one thaws
known      missing  missing     frozen: whoever has it keeps it, nobody else gets it
known      one of the two       the views lag; nothing happens until they agree
unknown    shown    shown       adopted: the ENI is ours, so a lost tail of the ledger is found again
unknown    one of the two       nothing
=========  =======  ==========  =====================================================================

An address under an operation (RELEASING, or an assign that has not finished) is left to that operation.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from control.model.ids import Address
from control.model.records import AddressRecord, AddressState


@dataclass(frozen=True, slots=True)
class Verdict:
    freeze: tuple[AddressRecord, ...] = ()
    thaw: tuple[AddressRecord, ...] = ()
    adopt: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.freeze or self.thaw or self.adopt)


def differs(records: Collection[AddressRecord], metadata: frozenset[Address]) -> bool:
    """Metadata alone disagrees with the ledger: reason enough to ask the cloud, not to act."""
    live = {r.address for r in records if r.state in (AddressState.FREE, AddressState.ASSIGNED)}
    frozen = {r.address for r in records if r.state is AddressState.FROZEN}
    known = {r.address for r in records}
    return bool(live - metadata or metadata - known or frozen & metadata)


def judge(
    records: Collection[AddressRecord], cloud: frozenset[Address], metadata: frozenset[Address]
) -> Verdict:
    both = cloud & metadata
    neither = [
        r
        for r in records
        if r.address not in cloud
        and r.address not in metadata
        and r.state in (AddressState.FREE, AddressState.ASSIGNED)
    ]
    thaw = [r for r in records if r.state is AddressState.FROZEN and r.address in both]
    known = {r.address for r in records}
    adopt = sorted(both - known, key=lambda a: (a.version, int(a)))
    return Verdict(tuple(neither), tuple(thaw), tuple(adopt))

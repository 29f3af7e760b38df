"""Why a frame ended where it did: names and classes of the fabric's counters, read from its program.

``bpf/include/fabric.h`` says what each reason means. A name here is the C name in lower case without its
prefix, and the prefix is the class: ``PASS_CONTROL`` is ``control``, ``DROP_SRC_MAC`` the drop ``src_mac``.
"""

from __future__ import annotations

from dataclasses import dataclass

from datapath.ebpf.btf import Btf


@dataclass(frozen=True, slots=True)
class Reason:
    name: str
    number: int
    is_drop: bool


def reasons_of(btf: Btf) -> tuple[Reason, ...]:
    """All reasons; the index of each is its number."""
    found = []
    for name, number in btf.enum("fabric_reason").items():
        prefix, _, rest = name.partition("_")
        if prefix in ("PASS", "DROP"):
            found.append(Reason(rest.lower(), number, is_drop=prefix == "DROP"))
    return tuple(sorted(found, key=lambda each: each.number))

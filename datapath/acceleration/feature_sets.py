"""What the fast path is made of, set by set: each is loaded by itself, over maps that all share by name.

============= ============================================================= ================================
set           its programs                                                  where the kernel refuses it
============= ============================================================= ================================
fast_path     at the four hooks of pods and ENIs; without it there is none  the node routes
conntrack     of two of them, which ask conntrack whose a flow is           flows are kept on record
============= ============================================================= ================================

A set that is ``instead_of`` another holds programs of the same names. Any other is loaded when ``fast_path``
is, and a kernel that refuses one keeps all the others. Needs are found by trying: by the load itself, and for
the sentence why not by ``needs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """``programs``: the object that holds each, by its name. ``maps``: its own, which are pinned as well."""

    name: str
    programs: Mapping[str, str] = field(hash=False)
    maps: tuple[str, ...] = ()
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class SetState:
    """``because`` is why it is off, "" for one that is on."""

    name: str
    because: str = ""

    @property
    def on(self) -> bool:
        return not self.because

    def __str__(self) -> str:
        return "on" if self.on else f"off, because {self.because}"

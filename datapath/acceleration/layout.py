"""Names that the programs and Python share, read from BTF: reasons, verdicts, hooks, limits.

A name here is the C name in lower case; the headers in ``bpf/include/`` say what each means.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from datapath.acceleration.feature_sets import FeatureSet
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import Object

MAPS = (
    "endpoints",
    "pods",
    "uplinks",
    "stack_prefixes",
    "flows",
    "flow_owners",
    "flow_counts",
    "flow_kept",
    "settings",
    "hook_counts",
    "endpoint_counts",
    "trace",
)
PROGRAMS = ("pod_egress", "eni_ingress", "pod_ingress", "eni_egress")
"""Each is the object's name as well."""
FAST_PATH = FeatureSet("fast_path", {name: name for name in PROGRAMS}, MAPS)
CONNTRACK = FeatureSet(
    "conntrack",
    {"pod_egress": "pod_egress_ct", "eni_ingress": "eni_ingress_ct"},
    instead_of=FAST_PATH.name,
)
SETS = (FAST_PATH, CONNTRACK)
OBJECTS = tuple(object for one in SETS for object in one.programs.values())


@dataclass(frozen=True, slots=True)
class Names:
    """Each tuple is indexed by number. ``flags`` are those of endpoints and settings, by C name."""

    version: int
    reasons: tuple[str, ...]
    verdicts: tuple[str, ...]
    hooks: tuple[str, ...]
    kinds: dict[str, int]
    flags: dict[str, int]
    flow_kinds: dict[str, int]
    devices: dict[str, int]
    flow_epochs: int
    peers_noted: int
    words: dict[str, int]
    trace_event: np.dtype[Any]


@cache
def names_of(path: Path) -> Names:
    """From a compiled object; nothing is loaded. Raises KernelError if it cannot be opened."""
    with Object(path) as opened:
        btf = Btf(opened.btf())
    return Names(
        version=btf.enum("datapath_limit")["DATAPATH_VERSION"],
        reasons=_listed(btf, "reason", ""),
        verdicts=_listed(btf, "verdict", "verdict_"),
        hooks=_listed(btf, "hook", "hook_"),
        kinds={name.removeprefix("KIND_").lower(): n for name, n in btf.enum("stack_kind").items()},
        flags={**btf.enum("endpoint_flag"), **btf.enum("setting_flag")},
        flow_kinds={n: k for n, k in btf.enum("flow_kind").items() if n != "FLOW_KINDS"},
        devices={n.removeprefix("DEVICE_").lower(): k for n, k in btf.enum("device_kind").items()},
        flow_epochs=btf.enum("datapath_limit")["FLOW_EPOCHS"],
        peers_noted=btf.enum("datapath_limit")["PEERS_NOTED"],
        words=btf.enum("decision_word"),
        trace_event=btf.dtype(btf.type_id("trace_event")),
    )


def _listed(btf: Btf, enum: str, prefix: str) -> tuple[str, ...]:
    numbered = {n: name for name, n in btf.enum(enum).items() if not name.endswith("_COUNT")}
    return tuple(numbered[n].lower().removeprefix(prefix) for n in range(len(numbered)))

"""The pinned maps of a node, read past the agent: the witness for what it says of its fast path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datapath.acceleration.layout import names_of
from datapath.acceleration.load import open_table
from datapath.acceleration.rows import address_value
from datapath.ebpf import libbpf, objects
from lab.nodes.node import LabNode

_EARLIER = "eni_ifindex"
"""What a release whose uplinks were devices calls them."""


@dataclass(frozen=True, slots=True)
class Row:
    """Of ``endpoints``: the host veth, the uplink, and whether the fast path is off for it."""

    host_ifindex: int
    uplink: int
    off: bool


def pins(node: LabNode) -> list[str]:
    """Everything that is pinned for the fast path, without its directories."""
    top = _top(node)
    return sorted(str(p.relative_to(top)) for p in top.rglob("*") if not p.is_dir()) if top.exists() else []


def rows_of_pods(node: LabNode) -> dict[str, Row]:
    """By address; empty if there is no fast path."""
    return dict(_rows(node))


def _rows(node: LabNode) -> Iterator[tuple[str, Row]]:
    off = names_of(objects.path("pod_egress")).flags["ENDPOINT_OFF"]
    with ExitStack() as stack:
        for layout in _top(node).glob("v*"):
            table = open_table(layout / "endpoints", stack)
            keys = [] if table is None else libbpf.map_keys(table.fd, table.shape.key_size)
            for raw in keys:
                assert table is not None
                row = table.get(np.frombuffer(raw, table.key))
                if row is not None:
                    named = "uplink" if "uplink" in (row.dtype.names or ()) else _EARLIER
                    host, uplink, flags = (int(row[n][0]) for n in ("host_ifindex", named, "flags"))
                    yield str(address_value(raw)), Row(host, uplink, bool(flags & off))


def _top(node: LabNode) -> Path:
    return Path(f"/proc/{node.pid}/root/sys/fs/bpf/terway")

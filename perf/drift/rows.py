"""Rows of the pinned maps that the agent writes: of pods, their addresses, ENIs, prefixes and settings.

What programs write themselves (``flows``, ``flow_counts``, ``flow_kept``, ``hook_counts``,
``endpoint_counts``, ``trace``) is nobody's to put back. Of a row that is written anew some numbers are new by
right, and are left out of what is looked at: its slot in the counters, which of the slot's pods it is, and
that the pod may have sent before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address

import numpy as np

from datapath.acceleration.layout import names_of
from datapath.acceleration.load import open_table
from datapath.acceleration.rows import address_bytes, host_prefix_bytes, mac_row
from datapath.ebpf import objects
from datapath.ebpf.table import Rows, Table
from perf.drift.item import Change, Hand, Item, Thing
from perf.drift.scene import Scene

_WRONG = mac_row("02:00:00:00:00:7a")
_NEW_BY_RIGHT = ("slot", "generation", "flow_epoch", "trace_address")
_PASSING = ("ENDPOINT_EARLIER", "SETTING_TRACE", "SETTING_ASK")
_BY_EBPF = "by eBPF all that goes to the pod"
Key = Callable[[Scene], bytes]
Edit = Callable[[Rows], None]


def items() -> tuple[Item, ...]:
    return tuple(_made())


def _made() -> Iterator[Item]:
    for name, table, key, edit, harms in (
        ("pods-row", "pods", _link, _wrong_mac, "all that the pod sends"),
        ("endpoints-row-v4", "endpoints", partial(_address, "ip4"), _wrong_macs, _BY_EBPF),
        ("endpoints-row-v6", "endpoints", partial(_address, "ip6"), _wrong_macs, _BY_EBPF),
        ("uplinks-row", "uplinks", _uplink, _wrong_gateway, "by eBPF what the pods send beyond the node"),
        ("prefixes-row", "stack_prefixes", _node_prefix, _no_kind, "by eBPF what goes to the node itself"),
    ):
        for change, hand in (
            (Change.DELETED, partial(_delete, table, key)),
            (Change.ALTERED, partial(_edit, table, key, edit)),
        ):
            yield _item(f"{name}-{change}", change, hand, table, harms)
    yield _item(
        "endpoints-row-impostor",
        Change.IMPOSTOR,
        partial(_copy, "endpoints", partial(_address, "ip4"), _other_address),
        "endpoints",
        "what goes to the other pod",
    )
    for name, table, source, target, harms in (
        (
            "endpoints-row",
            "endpoints",
            partial(_address, "ip4"),
            partial(_address, "spare4"),
            "whoever has it",
        ),
        ("prefixes-row", "stack_prefixes", _node_prefix, _pod_prefix, "nobody: the pod is routed"),
        ("pods-row", "pods", _link, _nobody, "nobody"),
        ("uplinks-row", "uplinks", _uplink, _no_uplink, "nobody"),
    ):
        yield _item(f"{name}-added", Change.ADDED, partial(_copy, table, source, target), table, harms)
    for name, edit, harms in (
        ("flags", _no_flags, "nobody: all is routed"),
        ("home", _no_home, "by eBPF what leaves with the node's address"),
        ("timeouts", _no_timeouts, "records of flows go too late"),
    ):
        hand = partial(_edit, "settings", _first, edit)
        yield _item(f"settings-row-{name}", Change.ALTERED, hand, "settings", harms)
    yield Item(
        "flow-owners-row-altered",
        Thing.ROW,
        Change.ALTERED,
        _disown,
        _owner,
        "flows that the stack carries are not noted",
        bpf=True,
    )


def _item(name: str, change: Change, hand: Hand, table: str, harms: str) -> Item:
    dual = "v6" in name
    return Item(name, Thing.ROW, change, hand, partial(_shown, table), harms, bpf=True, dual=dual)


# Hands


def _delete(name: str, key: Key, scene: Scene) -> None:
    with _table(scene, name) as table:
        at = _row(table, key(scene))
        if name == "uplinks":  # an array, whose rows can be emptied and no more
            table.put(at, table.values(1))
        else:
            table.remove(at)


def _edit(name: str, key: Key, edit: Edit, scene: Scene) -> None:
    with _table(scene, name) as table:
        at = _row(table, key(scene))
        found = table.get(at)
        assert found is not None, f"map {name} has no such row"
        changed = found.copy()
        edit(changed)
        table.put(at, changed)


def _copy(name: str, source: Key, target: Key, scene: Scene) -> None:
    with _table(scene, name) as table:
        found = table.get(_row(table, source(scene)))
        assert found is not None, f"map {name} has no such row"
        table.put(_row(table, target(scene)), found)


def _disown(scene: Scene) -> None:
    with _table(scene, "flow_owners") as owners:
        row = owners.values(1)
        owners.put(_row(owners, _slot(scene).to_bytes(4, "little")), row)


# Looks


def _shown(name: str, scene: Scene) -> str:
    flags = names_of(objects.path("pod_egress")).flags
    passing = sum(flags[one] for one in _PASSING)
    with _table(scene, name) as table:
        keys, values = table.dump()
        told = values.copy()
        for field in _NEW_BY_RIGHT:
            if field in (told.dtype.names or ()):
                told[field] = np.zeros_like(told[field])
        if "flags" in (told.dtype.names or ()):
            told["flags"] &= ~np.uint32(passing if name in ("settings", "endpoints") else 0)
        return "\n".join(
            sorted(f"{k.tobytes().hex()} {v.tobytes().hex()}" for k, v in zip(keys, told, strict=True))
        )


def _owner(scene: Scene) -> str:
    """Whether the slot's owner is the pod that its rows say."""
    with _table(scene, "endpoints") as endpoints, _table(scene, "flow_owners") as owners:
        row = endpoints.get(_row(endpoints, _address("ip4", scene)))
        if row is None:
            return "no row"
        owner = owners.get(_row(owners, int(row["slot"][0]).to_bytes(4, "little")))
        ours = owner is not None and int(owner["generation"][0]) == int(row["generation"][0])
        return "the pod's" if ours else "another's"


def _slot(scene: Scene) -> int:
    with _table(scene, "endpoints") as endpoints:
        row = endpoints.get(_row(endpoints, _address("ip4", scene)))
        assert row is not None
        return int(row["slot"][0])


# Keys


def _link(scene: Scene) -> bytes:
    return scene.number("index").to_bytes(4, "little")


def _uplink(scene: Scene) -> bytes:
    """The id of the pod's."""
    with _table(scene, "pods") as pods:
        row = pods.get(_row(pods, _link(scene)))
        assert row is not None
        return int(row["uplink"][0]).to_bytes(4, "little")


def _no_uplink(_scene: Scene) -> bytes:
    return (999).to_bytes(4, "little")


def _nobody(_scene: Scene) -> bytes:
    return (99_999).to_bytes(4, "little")


def _first(_scene: Scene) -> bytes:
    return bytes(4)


def _address(name: str, scene: Scene) -> bytes:
    return address_bytes(ip_address(scene.names[name]))


def _other_address(scene: Scene) -> bytes:
    return address_bytes(scene.two.ipv4)


def _node_prefix(scene: Scene) -> bytes:
    return host_prefix_bytes(ip_address(scene.names["home4"]))


def _pod_prefix(scene: Scene) -> bytes:
    return host_prefix_bytes(scene.one.ipv4)


# Edits


def _wrong_mac(row: Rows) -> None:
    row["mac"] = _WRONG


def _wrong_macs(row: Rows) -> None:
    row["macs"]["to"] = _WRONG


def _wrong_gateway(row: Rows) -> None:
    row["v4"]["to"] = _WRONG
    row["v6"]["to"] = _WRONG


def _no_kind(row: Rows) -> None:
    row["kind"] = 0


def _no_flags(row: Rows) -> None:
    row["flags"] = 0


def _no_home(row: Rows) -> None:
    row["home_ifindex"] = 0


def _no_timeouts(row: Rows) -> None:
    row["flow_timeouts"] = 0


@contextmanager
def _table(scene: Scene, name: str) -> Iterator[Table]:
    with ExitStack() as stack:
        found = open_table(scene.layout / name, stack)
        assert found is not None, f"no map {name} is pinned"
        yield found


def _row(table: Table, raw: bytes) -> Rows:
    return np.frombuffer(raw, table.key)

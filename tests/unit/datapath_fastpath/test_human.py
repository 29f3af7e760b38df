"""Rows of the compiled programs' maps, as an operator reads them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np
import pytest

from datapath.acceleration.human import Json, Reader
from datapath.acceleration.layout import names_of
from datapath.acceleration.rows import address_bytes, prefix_bytes
from datapath.ebpf import objects
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import Object

NAMES = names_of(objects.path("pod_egress"))


@pytest.fixture(scope="module")
def btf() -> Btf:
    with Object(objects.path("pod_egress")) as opened:
        return Btf(opened.btf())


def row(btf: Btf, struct: str, **fields: Any) -> Any:
    made = np.zeros(1, btf.dtype(btf.type_id(struct)))
    for name, value in fields.items():
        made[name] = value
    return made[0]


def address(btf: Btf, text: str) -> Any:
    return np.frombuffer(address_bytes(ip_address(text)), btf.dtype(btf.type_id("address")))


@pytest.mark.parametrize("text", ["10.0.0.1", "2001:db8::1"])
def test_an_address(btf: Btf, text: str) -> None:
    assert Reader("endpoints", NAMES).key(address(btf, text)[0]) == text


def test_what_is_zero_is_none(btf: Btf) -> None:
    value: dict[str, Json] = Reader("pods", NAMES).value(row(btf, "pod", v4=address(btf, "10.0.0.1")))
    assert (value["v4"], value["v6"], value["mac"]) == ("10.0.0.1", "", "")
    assert not [name for name in value if name.startswith("padding")]


def test_a_mac(btf: Btf) -> None:
    value = Reader("pods", NAMES).value(row(btf, "pod", mac=[2, 0, 0, 0, 0, 255]))
    assert value["mac"] == "02:00:00:00:00:ff"


@pytest.mark.parametrize("text", ["172.16.0.0/16", "0.0.0.0/0", "::/0", "2001:db8::/32"])
def test_a_prefix(btf: Btf, text: str) -> None:
    raw = prefix_bytes(ip_network(text))
    key = np.frombuffer(raw, btf.dtype(btf.type_id("stack_prefix")))[0]
    assert Reader("stack_prefixes", NAMES).key(key) == text


def test_kinds_and_flags_by_name(btf: Btf) -> None:
    kinds = Reader("stack_prefixes", NAMES)
    for name, number in NAMES.kinds.items():
        assert kinds.value(row(btf, "stack_prefix_value", kind=number)) == {"kind": name}
    assert kinds.value(row(btf, "stack_prefix_value", kind=99)) == {"kind": 99}
    off, fast = NAMES.flags["ENDPOINT_OFF"], NAMES.flags["SETTING_FAST"]
    assert Reader("pods", NAMES).value(row(btf, "pod", flags=off))["flags"] == ["off"]
    settings = row(btf, "settings", flags=fast | 1 << 20)
    assert Reader("settings", NAMES).value(settings)["flags"] == ["fast", "0x100000"]


def test_ports_are_those_on_the_wire(btf: Btf) -> None:
    key = Reader("flows", NAMES).key(row(btf, "flow", source_port=53, protocol=17))
    assert (key["source_port"], key["destination_port"], key["protocol"]) == (53, 0, 17)


def test_counts_of_all_processors_are_one(btf: Btf) -> None:
    rows = np.zeros(2, btf.dtype(btf.type_id("hook_counters")))
    rows["count"][:, 3] = [5, 7]
    reader = Reader("hook_counts", NAMES)
    counts = reader.value_per_cpu(rows)["count"]
    assert (tuple(counts), counts[NAMES.reasons[3]], sum(counts.values())) == (NAMES.reasons, 12, 12)
    assert reader.key(np.uint32(1)) == NAMES.hooks[1]

"""The same maps and programs as bpftool shows them, brought to the form in which the window tells them.

bpftool reads the kernel and BTF by itself; of the product's code nothing is used here but names of numbers.
"""

from __future__ import annotations

import json
import struct
import subprocess
from ipaddress import IPv6Address, ip_address
from typing import Any

from datapath.acceleration.layout import Names

Plain = Any


def ask(*words: str) -> Any:
    done = subprocess.run(["bpftool", "-j", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def rows(name: str, pin: str, names: Names) -> list[tuple[Plain, Plain]]:
    """Of a pinned map: keys and values as the window has them, values of all CPUs added up."""
    return plain_rows(name, ask("map", "dump", "pinned", pin), names)


def plain_rows(name: str, dumped: list[Any], names: Names) -> list[tuple[Plain, Plain]]:
    """The same of what ``bpftool -j map dump`` printed."""
    found = []
    for row in dumped:
        told = row["formatted"]
        value = _added([one["value"] for one in told["values"]]) if "values" in told else told["value"]
        key = names.hooks[told["key"]] if name == "hook_counts" else _plain("", told["key"], name, names)
        found.append((key, _plain("", value, name, names)))
    return found


def _added(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {name: _added([value[name] for value in values]) for name in values[0]}
    if isinstance(values[0], list):
        return [sum(items) for items in zip(*values, strict=True)]
    return sum(values)


def _plain(field: str, value: Any, map_name: str, names: Names) -> Plain:
    if isinstance(value, dict) and set(value) == {"word"}:
        return _address(value["word"])
    if isinstance(value, dict) and set(value) == {"length", "network"}:
        return _prefix(value["length"], value["network"]["word"])
    if isinstance(value, dict):
        kept = {n: v for n, v in value.items() if not n.startswith("padding")}
        return {n: _plain(n, v, map_name, names) for n, v in kept.items()}
    if field == "flags":
        prefix = "SETTING_" if map_name == "settings" else "ENDPOINT_"
        known = {n: b for n, b in names.flags.items() if n.startswith(prefix)}
        return [n.removeprefix(prefix).lower() for n, b in known.items() if value & b]
    if field == "noted":
        return {"set": sum(1 for one in value if one), "of": len(value)}
    if field == "count":
        return dict(zip(names.reasons, value, strict=False))
    if field.endswith("_port"):  # bpftool knows no byte order
        return struct.unpack(">H", struct.pack("=H", value))[0]
    if isinstance(value, str):
        return value.removeprefix("KIND_").lower()
    if isinstance(value, list) and len(value) == 6 and field != "flow_timeouts":
        return ":".join(f"{byte:02x}" for byte in value) if any(value) else ""
    return value


def _address(words: list[int]) -> str:
    found = IPv6Address(struct.pack("=4I", *words))
    return str(found.ipv4_mapped or found) if int(found) else ""


def _prefix(length: int, words: list[int]) -> str:
    mapped = IPv6Address(struct.pack("=4I", *words)).ipv4_mapped
    if mapped is not None:
        return f"{mapped}/{length - 96}"
    return f"{ip_address(struct.pack('=4I', *words))}/{length}"

"""Rows of the maps as an operator reads them: plain JSON values, with the field names of BTF. Pure.

struct address                          "10.0.1.7", "" for none
six bytes                               "02:00:00:00:00:01", "" for none
a prefix (length and network)           "172.16.0.0/16"
``noted``                               how many of its bytes are set, of how many
``flags``, ``kind``, ``count``, hooks   their names, without the prefix they share
a value per CPU                         the sum
padding                                 left out
"""

from __future__ import annotations

from typing import Any

import numpy as np

from datapath.acceleration.layout import Names
from datapath.acceleration.rows import address_value
from datapath.netlink.wire import mac_text

Json = Any
_MAC_BYTES = 6
_MAPPED_BITS = 96


class Reader:
    """Of the rows of the map ``name``."""

    def __init__(self, name: str, names: Names) -> None:
        self._map = name
        self._names = names

    def key(self, record: Any) -> Json:
        """``record`` is one numpy record or scalar."""
        if self._map == "hook_counts":
            return self._names.hooks[int(record)]
        return self._value("", record)

    def value(self, record: Any) -> Json:
        return self._value("", record)

    def value_per_cpu(self, records: Any) -> Json:
        """``records`` is an array of one record per CPU, each of counters."""
        if records.dtype.names is None:
            return self._value("", records.sum(axis=0))
        return {n: self._value(n, records[n].sum(axis=0)) for n in _shown(records.dtype)}

    def _value(self, field: str, found: Any) -> Json:
        if found.dtype.names is not None:
            return self._record(found)
        if field == "flags":
            return self._flags(int(found))
        if field == "kind":
            return {number: name for name, number in self._names.kinds.items()}.get(int(found), int(found))
        if field == "count":
            return {n: int(c) for n, c in zip(self._names.reasons, found, strict=False)}
        if field == "noted":
            return {"set": int(np.count_nonzero(found)), "of": found.size}
        if found.shape == (_MAC_BYTES,) and found.dtype == np.uint8:
            return mac_text(found.tobytes()) if found.any() else ""
        return found.tolist()

    def _record(self, found: Any) -> Json:
        shown = _shown(found.dtype)
        if shown == ["word"]:
            raw = found.tobytes()
            return str(address_value(raw)) if any(raw) else ""
        if shown == ["length", "network"]:
            return _prefix(int(found["length"]), found["network"].tobytes())
        return {name: self._value(name, found[name]) for name in shown}

    def _flags(self, number: int) -> list[str]:
        prefix = "SETTING_" if self._map == "settings" else "ENDPOINT_"
        known = {n: bit for n, bit in self._names.flags.items() if n.startswith(prefix)}
        found = [name.removeprefix(prefix).lower() for name, bit in known.items() if number & bit]
        rest = number & ~sum(known.values())
        return [*found, hex(rest)] if rest else found


def _shown(dtype: np.dtype[Any]) -> list[str]:
    return [name for name in dtype.names or () if not name.startswith("padding")]


def _prefix(length: int, network: bytes) -> str:
    address = address_value(network)
    return f"{address}/{length - _MAPPED_BITS if address.version == 4 else length}"

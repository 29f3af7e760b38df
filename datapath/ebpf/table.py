"""A BPF map as a table of numpy rows, with the layout that its program's BTF gives.

Rows come and go as structured arrays, so that a thousand entries are one system call and no Python loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapath.ebpf import libbpf
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import MapShape, Object

Rows = NDArray[Any]


class Table:
    """One map. ``key`` and ``value`` are its dtypes; make rows with ``keys(n)`` and ``values(n)``.

    The map's descriptor belongs to whoever made the table and has to outlive it.
    """

    def __init__(self, fd: int, shape: MapShape, btf: Btf) -> None:
        """Raises BtfError if the layout has holes, ValueError if BTF and map disagree about a size."""
        self.fd = fd
        self.shape = shape
        self.key = btf.dtype(shape.key_type) if shape.key_type else np.dtype("<u4")
        self.value = btf.dtype(shape.value_type)
        if (self.key.itemsize, self.value.itemsize) != (shape.key_size, shape.value_size):
            raise ValueError(f"map {shape.name}: BTF says {self.key} and {self.value}, the map {shape}")

    def keys(self, count: int) -> Rows:
        """``count`` zeroed keys."""
        return np.zeros(count, self.key)

    def values(self, count: int) -> Rows:
        """``count`` zeroed values."""
        return np.zeros(count, self.value)

    def get(self, key: Rows) -> Rows | None:
        """The value of one key (an array of one row), None if absent; a per-CPU map gives a row per CPU."""
        raw = libbpf.map_lookup(self.fd, key.tobytes(), self.shape.lookup_size())
        return None if raw is None else self.decode(raw)

    def put(self, keys: Rows, values: Rows) -> None:
        """Insert or replace rows; row i of ``values`` belongs to row i of ``keys``. Raises KernelError."""
        if len(keys) != len(values):
            raise ValueError(f"map {self.shape.name}: {len(keys)} keys for {len(values)} values")
        if self.shape.per_cpu:
            raise ValueError(f"map {self.shape.name} is per CPU: use put_zero")
        if len(keys):
            libbpf.map_update_batch(self.fd, keys.tobytes(), values.tobytes(), len(keys))

    def put_zero(self, key: Rows) -> None:
        """Insert or replace one key with zeroes, on every CPU."""
        libbpf.map_update(self.fd, key.tobytes(), bytes(self.shape.lookup_size()))

    def remove(self, keys: Rows) -> None:
        """Delete rows; the absent are passed over."""
        for key in keys:
            libbpf.map_delete(self.fd, key.tobytes())

    def dump(self) -> tuple[Rows, Rows]:
        """All keys and all values; the values of a per-CPU map have one more axis, the CPU."""
        keys, values = libbpf.map_dump(self.fd, self.shape)
        rows = np.frombuffer(keys, self.key)
        decoded = self.decode(values)
        return rows, decoded.reshape(len(rows), -1) if self.shape.per_cpu else decoded

    def decode(self, raw: bytes) -> Rows:
        """Values as they were read, one after the other."""
        if not self.shape.per_cpu:
            return np.frombuffer(raw, self.value)
        padded = -(-self.value.itemsize // 8) * 8
        layout = np.dtype({"names": ["value"], "formats": [self.value], "itemsize": padded})
        rows: Rows = np.frombuffer(raw, layout)["value"]
        return rows


def table(loaded: Object, name: str, btf: Btf) -> Table:
    """The map ``name`` of a loaded object."""
    return Table(loaded.map_fd(name), loaded.map_shape(name), btf)


def pinned_table(path: str) -> Table:
    """The map that is pinned at ``path``, with the BTF that the kernel keeps for it."""
    fd = libbpf.open_pinned(path)
    return Table(fd, libbpf.map_shape_of(fd), Btf(libbpf.map_btf_of(fd)))

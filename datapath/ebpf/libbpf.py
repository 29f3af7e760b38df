"""The one door to libbpf: objects, programs, maps by descriptor, tc hooks, pins and test runs.

Everything here speaks bytes and descriptors; ``datapath.ebpf.table`` gives a map's bytes their shape by BTF.
Every refusal is a KernelError that carries what libbpf reported meanwhile, for a program the end of the
verifier's log. Calls that concern a network device act in the calling thread's network namespace.

Needs the extension that ``python -m datapath.ebpf.build_libbpf`` compiles.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from datapath.errors import KernelError

try:
    from datapath.ebpf._libbpf import ffi, lib
except ImportError as exc:
    raise ImportError(
        f"the libbpf extension does not load ({exc}): run python -m datapath.ebpf.build_libbpf"
    ) from exc

_REPORT_LINES = 12
_PER_CPU = frozenset(
    (lib.BPF_MAP_TYPE_PERCPU_HASH, lib.BPF_MAP_TYPE_PERCPU_ARRAY, lib.BPF_MAP_TYPE_LRU_PERCPU_HASH)
)
_PACKET_ROOM = 4096
_ENOTSUPP = 524
"""The kernel's own "not supported", which C has no name for: what maps without batches answer, such as those
of prefixes and the arrays per CPU of Linux 5.10."""

lib.report_install()


def version() -> str:
    """libbpf's own, such as ``v1.1``."""
    return _text(lib.libbpf_version_string())


def possible_cpus() -> int:
    """How many values a per-CPU map holds for each key."""
    return _checked(lib.libbpf_num_possible_cpus(), "count the possible CPUs", "")


@dataclass(frozen=True, slots=True)
class MapShape:
    """What a map is made of. ``key_type`` and ``value_type`` are BTF ids, 0 if the map carries no BTF.

    ``value_size`` counts one CPU's value; ``per_cpu`` tells that a lookup yields one for each possible CPU,
    each padded to 8 bytes.
    """

    name: str
    key_size: int
    value_size: int
    max_entries: int
    per_cpu: bool
    key_type: int
    value_type: int

    def lookup_size(self) -> int:
        if not self.per_cpu:
            return self.value_size
        return -(-self.value_size // 8) * 8 * possible_cpus()


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """One run of a program on a packet: its return value, the packet after it, nanoseconds per repetition."""

    verdict: int
    packet: bytes
    nanoseconds: int


class Object:
    """A BPF object file: opened, perhaps adjusted, loaded into the kernel once, and closed.

    Closing frees what nothing else holds: attached programs and pinned maps stay. Use as a context manager.
    """

    def __init__(self, path: Path) -> None:
        """Open and parse ``path``; nothing is in the kernel yet. Raises KernelError."""
        self.path = path
        self._handle = _pointer(
            lib.bpf_object__open_file(str(path).encode(), ffi.NULL), "open the BPF object", str(path)
        )

    def __enter__(self) -> Object:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._handle != ffi.NULL:
            lib.bpf_object__close(self._handle)
            self._handle = ffi.NULL

    def load(self) -> None:
        """Create the maps and have the programs verified.

        Raises KernelError with the last lines of the verifier's log.
        """
        _checked(lib.bpf_object__load(self._handle), "load the BPF object", str(self.path))

    def btf(self) -> bytes:
        """The object's type information, for ``datapath.ebpf.btf``."""
        size = ffi.new("__u32 *")
        raw = _pointer(lib.btf__raw_data(lib.bpf_object__btf(self._handle), size), "read BTF", str(self.path))
        return bytes(ffi.buffer(raw, size[0]))

    def program_names(self) -> tuple[str, ...]:
        return tuple(_text(lib.bpf_program__name(p)) for p in self._programs())

    def map_names(self) -> tuple[str, ...]:
        return tuple(_text(lib.bpf_map__name(m)) for m in self._maps())

    def leave_out(self, program: str) -> None:
        """Before ``load``: do not load this program (the kernel lacks what it needs, or nobody wants it)."""
        _checked(lib.bpf_program__set_autoload(self._program(program), False), "leave out", program)

    def resize(self, name: str, entries: int) -> None:
        """Before ``load``: give a map room for ``entries``."""
        _checked(lib.bpf_map__set_max_entries(self._map(name), entries), "resize the map", name)

    def pin_at(self, name: str, path: str) -> None:
        """Before ``load``: take the map that is pinned at ``path``, or pin the new one there."""
        _checked(lib.bpf_map__set_pin_path(self._map(name), path.encode()), "set the pin path", name)

    def set_initial(self, name: str, data: bytes) -> None:
        """Before ``load``: the contents of a section of globals, such as ``.rodata``. Sizes must agree."""
        result = lib.bpf_map__set_initial_value(self._map(name), data, len(data))
        _checked(result, f"set {len(data)} bytes of globals", name)

    def initial(self, name: str) -> bytes:
        """The contents of a section of globals as the object was compiled, b"" if it has none."""
        size = ffi.new("size_t *")
        raw = lib.bpf_map__initial_value(self._map(name), size)
        return b"" if raw == ffi.NULL else bytes(ffi.buffer(raw, size[0]))

    def program_fd(self, name: str) -> int:
        """After ``load``. The object owns the descriptor."""
        return _checked(lib.bpf_program__fd(self._program(name)), "use the program", name)

    def map_fd(self, name: str) -> int:
        """After ``load``. The object owns the descriptor."""
        return _checked(lib.bpf_map__fd(self._map(name)), "use the map", name)

    def map_shape(self, name: str) -> MapShape:
        found = self._map(name)
        return MapShape(
            name=name,
            key_size=lib.bpf_map__key_size(found),
            value_size=lib.bpf_map__value_size(found),
            max_entries=lib.bpf_map__max_entries(found),
            per_cpu=lib.bpf_map__type(found) in _PER_CPU,
            key_type=lib.bpf_map__btf_key_type_id(found),
            value_type=lib.bpf_map__btf_value_type_id(found),
        )

    def _programs(self) -> Iterator[Any]:
        found = lib.bpf_object__next_program(self._handle, ffi.NULL)
        while found != ffi.NULL:
            yield found
            found = lib.bpf_object__next_program(self._handle, found)

    def _maps(self) -> Iterator[Any]:
        found = lib.bpf_object__next_map(self._handle, ffi.NULL)
        while found != ffi.NULL:
            yield found
            found = lib.bpf_object__next_map(self._handle, found)

    def _program(self, name: str) -> Any:
        for found in self._programs():
            if _text(lib.bpf_program__name(found)) == name:
                return found
        raise KernelError("find the program", object=name, detail=f"{self.path} has {self.program_names()}")

    def _map(self, name: str) -> Any:
        for found in self._maps():
            if _text(lib.bpf_map__name(found)) == name:
                return found
        raise KernelError("find the map", object=name, detail=f"{self.path} has {self.map_names()}")


# Maps, by descriptor.


@dataclass(frozen=True, slots=True)
class HashShape:
    """A hash to be created. ``lru``: a full one forgets its oldest row; else it refuses new ones."""

    name: str
    key_size: int
    value_size: int
    max_entries: int
    lru: bool = False


def create_hash(shape: HashShape) -> int:
    """A descriptor, owned by the caller, of a new map such as a map of maps holds. Raises KernelError.

    One that refuses takes memory for the rows that it has, one that forgets for all that it may have.
    """
    options = _sized("struct bpf_map_create_opts")
    options.map_flags = 0 if shape.lru else lib.BPF_F_NO_PREALLOC
    kind = lib.BPF_MAP_TYPE_LRU_HASH if shape.lru else lib.BPF_MAP_TYPE_HASH
    sizes = shape.key_size, shape.value_size, shape.max_entries
    result = lib.bpf_map_create(kind, shape.name.encode(), *sizes, options)
    return _checked(result, "create the map", shape.name)


def map_lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value of ``key``, ``size`` bytes as MapShape.lookup_size says; None if there is none."""
    value = ffi.new("char[]", size)
    result = lib.bpf_map_lookup_elem(fd, key, value)
    if _is(result, errno.ENOENT):
        return None
    _checked(result, "look up in the map", f"descriptor {fd}")
    return bytes(ffi.buffer(value, size))


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Insert or replace. Raises KernelError, E2BIG for a full map."""
    _checked(lib.bpf_map_update_elem(fd, key, value, lib.BPF_ANY), "update the map", f"descriptor {fd}")


def map_insert(fd: int, key: bytes, value: bytes) -> bool:
    """False if the key is there already. Raises KernelError, E2BIG for a full map."""
    result = lib.bpf_map_update_elem(fd, key, value, lib.BPF_NOEXIST)
    if _is(result, errno.EEXIST):
        return False
    _checked(result, "insert into the map", f"descriptor {fd}")
    return True


def map_delete(fd: int, key: bytes) -> bool:
    """False if there was no such key."""
    result = lib.bpf_map_delete_elem(fd, key)
    if _is(result, errno.ENOENT):
        return False
    _checked(result, "delete from the map", f"descriptor {fd}")
    return True


def map_keys(fd: int, key_size: int, *, most: int | None = None) -> list[bytes]:
    """All keys, or the first ``most``.

    While others write it may miss or repeat some, as bpf(2) says of BPF_MAP_GET_NEXT_KEY.
    """
    keys: list[bytes] = []
    following = ffi.new("char[]", key_size)
    current: Any = ffi.NULL
    while (result := lib.bpf_map_get_next_key(fd, current, following)) == 0:
        key = bytes(ffi.buffer(following, key_size))
        keys.append(key)
        if len(keys) == most:
            return keys
        current = key
    if not _is(result, errno.ENOENT):
        _checked(result, "walk the map", f"descriptor {fd}")
    return keys


def map_update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Insert or replace ``count`` rows, in one call if this kind of map can. Not for per-CPU maps."""
    done = ffi.new("__u32 *", count)
    result = lib.bpf_map_update_batch(fd, keys, values, done, _sized("struct bpf_map_batch_opts"))
    if _is(result, _ENOTSUPP):
        for key, value in zip(_pieces(keys, count), _pieces(values, count), strict=True):
            map_update(fd, key, value)
        return
    _checked(result, f"update the map with {count} rows, of which {done[0]} were taken", f"descriptor {fd}")


def map_dump(fd: int, shape: MapShape) -> tuple[bytes, bytes]:
    """All keys and all values, each joined, read in one batch if this kind of map can."""
    entries, value_size = shape.max_entries, shape.lookup_size()
    keys, values = ffi.new("char[]", entries * shape.key_size), ffi.new("char[]", entries * value_size)
    token, count = ffi.new("char[]", max(shape.key_size, 8)), ffi.new("__u32 *", entries)
    options = _sized("struct bpf_map_batch_opts")
    result = lib.bpf_map_lookup_batch(fd, ffi.NULL, token, keys, values, count, options)
    if _is(result, _ENOTSUPP):
        return _dump_by_key(fd, shape)
    if not _is(result, errno.ENOENT):  # ENOENT says that the end was reached
        _checked(result, "dump the map", shape.name)
    return (
        bytes(ffi.buffer(keys, count[0] * shape.key_size)),
        bytes(ffi.buffer(values, count[0] * value_size)),
    )


def _dump_by_key(fd: int, shape: MapShape) -> tuple[bytes, bytes]:
    found = ((key, map_lookup(fd, key, shape.lookup_size())) for key in map_keys(fd, shape.key_size))
    rows = [(key, value) for key, value in found if value is not None]
    return b"".join(key for key, _ in rows), b"".join(value for _, value in rows)


def _pieces(joined: bytes, count: int) -> Iterator[bytes]:
    """``count`` of the same size."""
    size = len(joined) // count if count else 0
    return (joined[number * size :][:size] for number in range(count))


def pin(fd: int, path: str) -> None:
    """Give a map or a program a name in a bpf file system, which then holds it."""
    _checked(lib.bpf_obj_pin(fd, path.encode()), "pin", path)


def open_pinned(path: str) -> int:
    """A descriptor, owned by the caller, of what is pinned at ``path``."""
    return _checked(lib.bpf_obj_get(path.encode()), "open the pinned object", path)


def map_shape_of(fd: int) -> MapShape:
    """The shape of a map that was not loaded by us, as the kernel knows it."""
    info, _ = _map_info(fd)
    return MapShape(
        name=_text(info.name),
        key_size=info.key_size,
        value_size=info.value_size,
        max_entries=info.max_entries,
        per_cpu=info.type in _PER_CPU,
        key_type=info.btf_key_type_id,
        value_type=info.btf_value_type_id,
    )


def map_btf_of(fd: int) -> bytes:
    """The type information that the kernel keeps for a map. Raises KernelError if it has none."""
    info, name = _map_info(fd)
    if not info.btf_id:
        raise KernelError("read the map's BTF", object=name, detail="it was created without")
    handle = _pointer(lib.btf__load_from_kernel_by_id(info.btf_id), "read the map's BTF", name)
    try:
        size = ffi.new("__u32 *")
        return bytes(ffi.buffer(lib.btf__raw_data(handle, size), size[0]))
    finally:
        lib.btf__free(handle)


# What the kernel has.


def has_helper(number: int) -> bool:
    """Whether tc programs may call this helper (enum bpf_func_id); True where nothing may be loaded."""
    result = lib.libbpf_probe_bpf_helper(lib.BPF_PROG_TYPE_SCHED_CLS, number, ffi.NULL)
    return bool(_checked(result, "ask for the helper", str(number)))


# Programs, by descriptor.


def run_program(fd: int, packet: bytes, *, ifindex: int = 0, repeat: int = 1) -> ProgramRun:
    """Run a tc program on ``packet`` (at least 14 bytes) by BPF_PROG_TEST_RUN.

    ``ifindex`` becomes skb->ifindex and must exist in the calling thread's network namespace; 0 is none.
    """
    out = ffi.new("char[]", _PACKET_ROOM + len(packet))
    options = _sized("struct bpf_test_run_opts")
    data = ffi.from_buffer(packet)
    options.data_in, options.data_size_in = data, len(packet)
    options.data_out, options.data_size_out = out, len(out)
    options.repeat = repeat
    context = ffi.new("struct __sk_buff *")
    if ifindex:
        context.ifindex = ifindex
        options.ctx_in, options.ctx_size_in = context, ffi.sizeof("struct __sk_buff")
    _checked(lib.bpf_prog_test_run_opts(fd, options), "test-run the program", f"descriptor {fd}")
    return ProgramRun(options.retval, bytes(ffi.buffer(out, options.data_size_out)), options.duration)


class Direction(IntEnum):
    """The two hooks of clsact."""

    INGRESS = int(lib.BPF_TC_INGRESS)
    EGRESS = int(lib.BPF_TC_EGRESS)


@dataclass(frozen=True, slots=True)
class TcHook:
    """A clsact hook of a device in the calling thread's network namespace."""

    ifindex: int
    direction: Direction

    def create(self) -> None:
        """Add clsact to the device. It may be there already."""
        result = lib.bpf_tc_hook_create(self._hook())
        if not _is(result, errno.EEXIST):
            _checked(result, "add clsact", str(self))

    def attach(self, program_fd: int, *, priority: int = 1, handle: int = 1) -> None:
        """Put the program there, in place of one that has the same priority and handle, without a gap."""
        options = _sized("struct bpf_tc_opts")
        options.prog_fd, options.flags = program_fd, lib.BPF_TC_F_REPLACE
        options.priority, options.handle = priority, handle
        _checked(lib.bpf_tc_attach(self._hook(), options), "attach the program", str(self))

    def program_id(self, *, priority: int = 1, handle: int = 1) -> int | None:
        """The kernel's id of the program that is attached there, None if none is."""
        options = _sized("struct bpf_tc_opts")
        options.priority, options.handle = priority, handle
        result = lib.bpf_tc_query(self._hook(), options)
        if _is(result, errno.ENOENT, errno.EINVAL):  # EINVAL: the device has no clsact
            return None
        _checked(result, "ask for the program", str(self))
        return int(options.prog_id)

    def detach(self, *, priority: int = 1, handle: int = 1) -> bool:
        """False if no program was there."""
        options = _sized("struct bpf_tc_opts")
        options.priority, options.handle = priority, handle
        result = lib.bpf_tc_detach(self._hook(), options)
        if _is(result, errno.ENOENT, errno.EINVAL):
            return False
        _checked(result, "detach the program", str(self))
        return True

    def __str__(self) -> str:
        return f"{self.direction.name.lower()} of device {self.ifindex}"

    def _hook(self) -> Any:
        hook = _sized("struct bpf_tc_hook")
        hook.ifindex, hook.attach_point = self.ifindex, int(self.direction)
        return hook


def _map_info(fd: int) -> tuple[Any, str]:
    info = ffi.new("struct bpf_map_info *")
    size = ffi.new("__u32 *", ffi.sizeof("struct bpf_map_info"))
    _checked(lib.bpf_obj_get_info_by_fd(fd, info, size), "ask for the map's shape", f"descriptor {fd}")
    return info, _text(info.name)


def _sized(struct: str) -> Any:
    """A zeroed options struct that tells libbpf its size, as all of them must."""
    options = ffi.new(f"{struct} *")
    options.sz = ffi.sizeof(struct)
    return options


def _is(result: int, *expected: int) -> bool:
    """Whether the call failed in a way that is an answer; what libbpf reported about it is forgotten."""
    if -result not in expected:
        return False
    lib.report_clear()
    return True


def _checked(result: int, what: str, name: str) -> int:
    if result >= 0:
        return result
    raise KernelError(what, errno=-result, object=name, detail=_report())


def _pointer(pointer: Any, what: str, name: str) -> Any:
    if pointer != ffi.NULL:
        return pointer
    raise KernelError(what, errno=ffi.errno, object=name, detail=_report())


def _report() -> str:
    """The last lines that libbpf reported to this thread."""
    lines = [line for line in _text(lib.report_text()).splitlines() if line.strip()]
    lib.report_clear()
    return "\n".join(lines[-_REPORT_LINES:])


def _text(raw: Any) -> str:
    return bytes(ffi.string(raw)).decode(errors="replace")

"""A LabSpec as JSON and back: what ``./run lab up --spec`` reads and the supervisor is started with.

Objects have the field names of ``lab.spec``; networks and addresses are strings; a field that is left out has
its default. Unknown fields are errors: a typing mistake must not silently be a default.
"""

from __future__ import annotations

import dataclasses
import types
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Union, get_args, get_origin, get_type_hints

from lab.spec import LabSpec, NodeSpec

_KINDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
_TEXTUAL = (IPv4Address, IPv4Network, IPv6Address, IPv6Network)


def encode(value: Any) -> Any:
    """Plain JSON values of any dataclass of ``lab.spec``, or of its parts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    return str(value) if isinstance(value, _TEXTUAL) else value


def decode_spec(value: Any) -> LabSpec:
    """Raises ValueError that names the field."""
    spec = _decode(LabSpec, value, "spec")
    assert isinstance(spec, LabSpec)
    return spec


def decode_node(value: Any) -> NodeSpec:
    """Raises ValueError that names the field."""
    node = _decode(NodeSpec, value, "node")
    assert isinstance(node, NodeSpec)
    return node


def decode(kind: type, value: Any, where: str) -> Any:
    """``value`` as ``kind``, any dataclass of ``lab.spec``. Raises ValueError that names the field."""
    return _decode(kind, value, where)


def _decode(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, where)
    if get_origin(kind) in (Union, types.UnionType):
        return _union(get_args(kind), value, where)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, where)
    if kind is types.NoneType:
        if value is not None:
            raise ValueError(f"{where}: {value!r} is not null")
        return None
    if kind in _TEXTUAL:
        try:
            return kind(value)
        except ValueError as exc:
            raise ValueError(f"{where}: {exc}") from exc
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(repr(str(word)) for word in kind)
            raise ValueError(f"{where}: {value!r} is none of {allowed}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {value!r} is not {_KINDS.get(kind, kind.__name__)}")
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {value!r} is not an object")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(hints)}")
    nothing = dataclasses.MISSING
    needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is nothing]
    if missing := [name for name in needed if name not in value]:
        raise ValueError(f"{where}: {missing[0]!r} is needed")
    return kind(**{name: _decode(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _decode(kind, value, where)
        except ValueError as exc:
            problems.append(str(exc))
    raise ValueError(problems[0])


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: {value!r} is not a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_decode(kinds[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(value) != len(kinds):
        raise ValueError(f"{where}: wants {len(kinds)} items, has {len(value)}")
    return tuple(_decode(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))

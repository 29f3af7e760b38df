"""Field and label selectors: parsed once per request, then asked once per object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.kube.history import Stored
from lab.kube.resources import FieldLabel, Resource
from lab.kube.status import bad_request

_FIELD = re.compile(r"^(?P<name>[^=!]+)(?P<operator>==|=|!=)(?P<value>[^=!]*)$")
_EQUALITY = re.compile(r"^(?P<key>[^\s=!<>(),]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^\s=!<>(),]*)$")
_SET = re.compile(r"^(?P<key>[^\s=!<>(),]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)$")
_EXISTS = re.compile(r"^(?P<negated>!?)\s*(?P<key>[^\s=!<>(),]+)$")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^()]*\))")

LabelTest = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class FieldTest:
    path: tuple[str, ...]
    default: str
    value: str
    equal: bool

    def passes(self, value: Mapping[str, Any]) -> bool:
        return (_field(value, self.path, self.default) == self.value) is self.equal


@dataclass(frozen=True, slots=True)
class Filter:
    """What of a collection a request is about. ``namespace`` "" is all of them."""

    namespace: str
    fields: tuple[FieldTest, ...]
    labels: tuple[LabelTest, ...]

    @property
    def selects(self) -> bool:
        """Whether a selector narrows it further than its namespace."""
        return bool(self.fields or self.labels)

    def matches(self, stored: Stored | None) -> bool:
        if stored is None or (self.namespace and stored.key[0] != self.namespace):
            return False
        if not all(test.passes(stored.value) for test in self.fields):
            return False
        labels = stored.value["metadata"].get("labels") or {}
        return all(test(labels) for test in self.labels)


def parse_filter(resource: Resource, namespace: str, *, fields: str, labels: str) -> Filter:
    """Raises ApiError 400 for a selector that cannot be read, or for a field the kind does not offer."""
    return Filter(namespace, _parse_fields(resource, fields), _parse_labels(labels))


def _parse_fields(resource: Resource, text: str) -> tuple[FieldTest, ...]:
    known = resource.field_labels()
    return tuple(_parse_field(resource, known, part) for part in text.split(",") if part)


def _parse_field(resource: Resource, known: Mapping[str, FieldLabel], part: str) -> FieldTest:
    match = _FIELD.match(part)
    if match is None:
        raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
    name = match["name"]
    if name not in known:
        raise bad_request(_unknown_field(resource, name))
    label = known[name]
    path = tuple((label.path or name).split("."))
    return FieldTest(path, label.default, match["value"], equal=match["operator"] != "!=")


def _unknown_field(resource: Resource, name: str) -> str:
    if resource.fields:
        return f"field label not supported: {name}"
    return f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _field(value: Mapping[str, Any], path: tuple[str, ...], default: str) -> str:
    found: Any = value
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        return default
    return str(found).lower() if isinstance(found, bool) else str(found)


def _parse_labels(text: str) -> tuple[LabelTest, ...]:
    parts = (part.strip() for part in _COMMA_OUTSIDE_PARENTHESES.split(text))
    return tuple(_parse_label(part) for part in parts if part)


def _parse_label(part: str) -> LabelTest:
    if match := _EQUALITY.match(part):
        return _one_of(match["key"], frozenset({match["value"]}), negated=match["operator"] == "!=")
    if match := _SET.match(part):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return _one_of(match["key"], values, negated=match["operator"] == "notin")
    if match := _EXISTS.match(part):
        return _exists(match["key"], negated=bool(match["negated"]))
    raise bad_request(f"unable to parse requirement: found '{part}', expected a label requirement")


def _one_of(key: str, values: frozenset[str], *, negated: bool) -> LabelTest:
    """An object without the label passes the negated forms, as in Kubernetes."""
    return lambda labels: (labels.get(key) in values) is not negated


def _exists(key: str, *, negated: bool) -> LabelTest:
    return lambda labels: (key in labels) is not negated

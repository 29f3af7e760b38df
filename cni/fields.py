"""Reading one JSON object key by key, with errors that name key, value and what is allowed.

Keys are found as Go's encoding/json finds them, on which upstream and every runtime rely: the exact
spelling first, any other case next, and null is the same as absent.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NoReturn, TypeVar

Network = IPv4Network | IPv6Network
T = TypeVar("T")
D = TypeVar("D")
Word = TypeVar("Word", bound=StrEnum)

INT64_MAX = (1 << 63) - 1
_SHOWN = 100


class FieldError(ValueError):
    """``key`` holds what it must not. ``str`` is one line with key, value and what is allowed."""

    def __init__(self, key: str, value: object, allowed: str, *, secret: bool = False) -> None:
        self.key = key
        self.allowed = allowed
        shown = "(hidden)" if secret else show(value)
        super().__init__(f"{key} is {shown}, allowed: {allowed}")


class NotAnObject(ValueError):
    """The bytes are not one JSON object in UTF-8. ``str`` says why and where, and quotes none of it."""


def load(data: bytes) -> dict[str, object]:
    """One JSON object. Raises NotAnObject, and nothing else, for whatever other bytes."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise NotAnObject("half of a surrogate pair in a string") from exc
    except UnicodeDecodeError as exc:
        raise NotAnObject(f"not UTF-8 at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise NotAnObject(f"not JSON at line {exc.lineno} column {exc.colno}: {exc.msg}") from exc
    except RecursionError as exc:
        raise NotAnObject("nested too deeply") from exc
    except ValueError as exc:
        raise NotAnObject(f"not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise NotAnObject(f"expected a JSON object, got {_KINDS.get(type(value), 'null')}")
    return value


_KINDS: Mapping[type, str] = {
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def show(value: object) -> str:
    """``value`` as JSON in ASCII, cut to a length that fits in a log line."""
    try:
        text = json.dumps(value)
    except (RecursionError, TypeError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


class Fields:
    """A view on one JSON object. ``where`` is put before every key in errors, e.g. ``runtimeConfig.``.

    Every method takes the key first, and raises FieldError for a value of the wrong kind.
    """

    __slots__ = ("_data", "_folded", "_known", "_where")

    def __init__(self, data: Mapping[str, object], where: str = "") -> None:
        self._data = data
        self._where = where
        self._folded = {key.casefold(): key for key in data}
        self._known: set[str] = set()

    def value(self, key: str) -> object:
        """Whatever ``key`` holds; None if it is absent or null. Marks the key as known."""
        self._known.add(key)
        if key in self._data:
            return self._data[key]
        return self._data.get(self._folded.get(key.casefold(), key))

    def error(self, key: str, allowed: str) -> FieldError:
        """The error for ``key`` and the value it has, for the caller to raise."""
        return FieldError(self._where + key, self.value(key), allowed)

    def text(self, key: str, default: str = "") -> str:
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(key, "a string")
        return value

    def secret(self, key: str) -> str:
        """As ``text``; the error does not show the value."""
        value = self.value(key)
        if value is not None and not isinstance(value, str):
            raise FieldError(self._where + key, value, "a string", secret=True)
        return value or ""

    def boolean(self, key: str, default: bool) -> bool:
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, "true or false, without quotes")
        return value

    def integer(self, key: str, default: int, *, low: int = 0, high: int = INT64_MAX) -> int:
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            span = f"of at least {low}" if high == INT64_MAX else f"from {low} to {high}"
            raise self.error(key, f"a whole number {span}, without quotes")
        return value

    def number(self, key: str, default: float, *, high: float = 1e9) -> float:
        """From 0 to ``high``."""
        value = self.value(key)
        if value is None:
            return default
        number = _finite(value)
        if number is None or not 0 <= number <= high:
            raise self.error(key, f"a number from 0 to {high:g}, without quotes")
        return number

    def choice(self, key: str, words: Mapping[str, T], default: D) -> T | D:
        """One of ``words`` in any case. "" counts as absent unless it is one of the words."""
        text = self.text(key)
        folded = {word.casefold(): meaning for word, meaning in words.items()}
        if text.casefold() in folded:
            return folded[text.casefold()]
        if not text:
            return default
        raise self.error(key, ", ".join(words))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of non-empty strings; () if absent."""
        value = self.value(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.error(key, "a list of strings that are not empty")
        return tuple(value)

    def networks(self, key: str) -> tuple[Network, ...]:
        """A list of CIDRs; () if absent. Host bits are cut off, as Go's ParseCIDR does."""
        found = []
        for text in self.texts(key):
            network = parse_network(text)
            if network is None:
                raise FieldError(self._where + key, text, "CIDRs such as 10.0.0.0/8 or 2001:db8::/32")
            found.append(network)
        return tuple(found)

    def table(self, key: str) -> Mapping[str, object] | None:
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, "a JSON object")
        return value

    def inner(self, key: str) -> Fields:
        """The object under ``key``, an empty one if absent."""
        return Fields(self.table(key) or {}, f"{self._where}{key}.")

    def tables(self, key: str) -> tuple[Mapping[str, object], ...]:
        """A list of objects; () if absent."""
        value = self.value(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, "a list of JSON objects")
        return tuple(value)

    def inners(self, key: str) -> tuple[Fields, ...]:
        """As ``tables``, each as a view."""
        return tuple(Fields(item, f"{self._where}{key}[{at}].") for at, item in enumerate(self.tables(key)))

    def string_map(self, key: str) -> dict[str, str]:
        return self._map(key, str, "a JSON object of strings")

    def boolean_map(self, key: str) -> dict[str, bool]:
        return self._map(key, bool, "a JSON object of true and false")

    def _map(self, key: str, kind: type[T], allowed: str) -> dict[str, T]:
        found: dict[str, T] = {}
        for name, item in (self.table(key) or {}).items():
            if not isinstance(item, kind):
                raise self.error(key, allowed)
            found[name] = item
        return found

    def unknown(self) -> tuple[str, ...]:
        """One warning for each key that nobody has asked for, with the known key it resembles most."""
        folded = {key.casefold(): key for key in self._known}
        strangers = [key for key in self._data if key.casefold() not in folded]
        return tuple(self._warning(key, folded) for key in strangers)

    def _warning(self, key: str, folded: Mapping[str, str]) -> str:
        near = difflib.get_close_matches(key.casefold(), folded, n=1)
        hint = f", did you mean {folded[near[0]]}?" if near else ""
        return f"unknown key {show(self._where + key)} is ignored{hint}"


def words_of(kind: type[Word]) -> Mapping[str, Word]:
    """The values of an enumeration, for ``choice``."""
    return {member.value: member for member in kind}


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def parse_network(text: str) -> Network | None:
    """A CIDR as Go reads one: a prefix length is required and is decimal, no netmask, no zone."""
    address, slash, length = text.partition("/")
    if not slash or not (length.isascii() and length.isdecimal()) or "%" in address:
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None

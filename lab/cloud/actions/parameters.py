"""Parameters of one call as they come in the query: flat text, lists as ``Name.1``, ``Name.2``, ..."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from lab.cloud import errors

_DIGITS = re.compile(r"[0-9]{1,18}")
_INDEX = re.compile(r"[1-9][0-9]{0,5}")


class Parameters:
    """Reads and checks; raises MissingParameter or InvalidParameter by the parameter's own name.

    An empty value is the same as none, as the SDKs send both. One value that comes as a list, or a list that
    comes as one value, is refused: it would be as if it had not been sent.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name: value for name, value in values.items() if value != ""}

    def flat(self) -> dict[str, str]:
        return dict(self._values)

    def names(self) -> Iterable[str]:
        """Names without index and field: ``Tag`` for ``Tag.1.Key``."""
        return {name.partition(".")[0] for name in self._values}

    def text(self, name: str, default: str = "") -> str:
        value = self.optional(name)
        return default if value is None else value

    def optional(self, name: str) -> str | None:
        if any(sent.startswith(f"{name}.") for sent in self._values):
            raise errors.invalid_parameter(name, "it is one value, not a list")
        return self._values.get(name)

    def required(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            raise errors.missing_parameter(name)
        return value

    def integer(self, name: str, *, low: int, high: int) -> int | None:
        value = self.optional(name)
        if value is None:
            return None
        found = number(value)
        if found is None or not low <= found <= high:
            raise errors.invalid_parameter(name, f"{value!r} is not a number from {low} to {high}")
        return found

    def amount(self, name: str) -> float | None:
        """A number that is not negative, with a fraction or without."""
        value = self.optional(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", value):
            raise errors.invalid_parameter(name, f"{value!r} is not a number from 0 on")
        return float(value)

    def boolean(self, name: str) -> bool | None:
        value = self.optional(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false"):
            raise errors.invalid_parameter(name, f"{value!r} is neither true nor false")
        return value.lower() == "true"

    def listing(self, name: str) -> tuple[str, ...]:
        """Values of ``name.1``, ``name.2``, ... in order of their numbers."""
        numbers = self._numbers(name)
        if any(f"{name}.{number}" not in self._values for number in numbers):
            raise errors.invalid_parameter(name, "its items are values without fields")
        return tuple(self._values[f"{name}.{number}"] for number in numbers)

    def structs(self, name: str) -> tuple[dict[str, str], ...]:
        """``name.1.Field`` ... as one dict of fields each."""
        found = []
        for number in self._numbers(name):
            if f"{name}.{number}" in self._values:
                raise errors.invalid_parameter(name, "its items have fields")
            prefix = f"{name}.{number}."
            found.append({k[len(prefix) :]: v for k, v in self._values.items() if k.startswith(prefix)})
        return tuple(found)

    def json_list(self, name: str) -> tuple[str, ...] | None:
        """A JSON array of strings in one parameter, as ``InstanceIds`` of DescribeInstances."""
        value = self.optional(name)
        if value is None:
            return None
        try:
            items = json.loads(value)
        except (ValueError, RecursionError):
            items = None
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise errors.invalid_parameter(name, f"{value!r} is not a JSON list of strings")
        return tuple(items)

    def ipv4(self, name: str) -> IPv4Address | None:
        value = self.optional(name)
        return None if value is None else _ipv4(value)

    def ipv4_list(self, name: str) -> tuple[IPv4Address, ...]:
        return tuple(_ipv4(value) for value in self.listing(name))

    def ipv6_list(self, name: str) -> tuple[IPv6Address, ...]:
        return tuple(_ipv6(value) for value in self.listing(name))

    def tags(self) -> tuple[tuple[str, str], ...]:
        """Tag.N.Key and Tag.N.Value."""
        tags = self.structs("Tag")
        if any("Key" not in tag or tag.keys() - {"Key", "Value"} for tag in tags):
            raise errors.invalid_parameter("Tag", "a tag has a Key, may have a Value, and no other field")
        return tuple((tag["Key"], tag.get("Value", "")) for tag in tags)

    def _numbers(self, name: str) -> list[int]:
        prefix = f"{name}."
        indices = {k[len(prefix) :].partition(".")[0] for k in self._values if k.startswith(prefix)}
        if name in self._values or not all(_INDEX.fullmatch(index) for index in indices):
            raise errors.invalid_parameter(name, f"it is a list: {name}.1, {name}.2 and so on")
        return sorted(int(index) for index in indices)


def number(text: str) -> int | None:
    """None for what is no number of digits, or one of more digits than any parameter has a use for."""
    return int(text) if _DIGITS.fullmatch(text) else None


def has_zone(text: str) -> bool:
    """Whether an IPv6 address or block says which link it means (RFC 4007: ``fe80::1%eth0``).

    None of the API's does. Python keeps the zone, and takes one address with two zones for two.
    """
    return "%" in text


def _ipv4(value: str) -> IPv4Address:
    try:
        return IPv4Address(value)
    except AddressValueError:
        raise errors.address_malformed(value) from None


def _ipv6(value: str) -> IPv6Address:
    if has_zone(value):
        raise errors.address_malformed(value)
    try:
        return IPv6Address(value)
    except AddressValueError:
        raise errors.address_malformed(value) from None

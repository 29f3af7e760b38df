"""How a call asks for addresses: by count or by name, never both."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from lab.cloud import errors
from lab.cloud.assignments import Ask

A = TypeVar("A", IPv4Address, IPv6Address)


def exclusive(count_name: str, count: int | None, addresses: tuple[A, ...]) -> Ask[A]:
    """Raises InvalidParameter if a count and names are given."""
    if count is not None and addresses:
        raise errors.invalid_parameter(count_name, "addresses are given by name too")
    return Ask(count=count or 0, addresses=addresses)

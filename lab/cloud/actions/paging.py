"""Both ways of paging: NextToken with MaxResults, and PageNumber with PageSize.

A token names the last item of the page before, so an item that goes away meanwhile skips or repeats no other.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from lab.cloud import errors
from lab.cloud.actions.parameters import Parameters

T = TypeVar("T")
_MARK = "page:"
BY_TOKEN = frozenset({"MaxResults", "NextToken"})
BY_NUMBER = frozenset({"PageNumber", "PageSize"})
"""The parameters that ask for a page."""


def by_token(
    items: Sequence[T],
    parameters: Parameters,
    *,
    key: Callable[[T], str],
    most: int,
    usual: int,
    size_name: str = "MaxResults",
) -> tuple[Sequence[T], str]:
    """One page of ``items`` and the token of the next, "" if it is the last.

    ``most`` bounds MaxResults and ``usual`` is its default. Raises InvalidParameter for a foreign token.
    """
    size = parameters.integer(size_name, low=1, high=most) or usual
    token = parameters.text("NextToken")
    ordered = sorted(items, key=key)
    if token:
        after = _read(token)
        ordered = [item for item in ordered if key(item) > after]
    page = ordered[:size]
    return page, _write(key(page[-1])) if len(ordered) > size else ""


def by_number(items: Sequence[T], parameters: Parameters, *, most: int) -> tuple[Sequence[T], int, int]:
    """One page of ``items``, its number from 1 on, and the page size (10 by default)."""
    number = parameters.integer("PageNumber", low=1, high=1_000_000) or 1
    size = parameters.integer("PageSize", low=1, high=most) or 10
    return items[(number - 1) * size : number * size], number, size


def either(
    items: Sequence[T], parameters: Parameters, *, key: Callable[[T], str], most: int
) -> tuple[Sequence[T], dict[str, object]]:
    """One page the way the caller asked for, and the fields of the answer that say which page it is."""
    if wants_tokens(parameters):
        page, token = by_token(items, parameters, key=key, most=most, usual=10)
        number, size = 1, len(page)
    else:
        page, number, size = by_number(items, parameters, most=most)
        token = ""
    return page, {"TotalCount": len(items), "PageNumber": number, "PageSize": size, "NextToken": token}


def wants_tokens(parameters: Parameters) -> bool:
    return parameters.optional("MaxResults") is not None or parameters.optional("NextToken") is not None


def _write(key: str) -> str:
    return base64.urlsafe_b64encode(f"{_MARK}{key}".encode()).decode()


def _read(token: str) -> str:
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    if not text.startswith(_MARK):
        raise errors.invalid_parameter("NextToken", "it is no token of this API")
    return text[len(_MARK) :]

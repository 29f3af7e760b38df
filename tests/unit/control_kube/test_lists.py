"""A list's answer read as it comes, however it is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from control.kube.lists import ListAnswer, Malformed

_ITEMS: list[Any] = [
    {"metadata": {"name": "a", "n": 12}, "spec": {"text": 'a "quoted" ]} and \\ é 漢 😀', "none": None}},
    {},
    17,
    -2.5e3,
    "]",
    [[], [{"items": [1]}]],
]
_WHOLE = {"kind": "ServiceList", "metadata": {"resourceVersion": "12", "continue": "t"}, "items": _ITEMS}


def cut(text: str, size: int) -> Iterator[bytes]:
    data = text.encode()
    return iter([data[at : at + size] for at in range(0, len(data), size)])


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("last", ["items", "metadata"])
def test_cut_anywhere(size: int, indent: int | None, last: str) -> None:
    ordered = {name: _WHOLE[name] for name in sorted(_WHOLE, key=lambda name: name == last)}
    text = json.dumps(ordered, indent=indent, ensure_ascii=False) + "\n"
    answer = ListAnswer(cut(text, size))
    assert list(answer) == _ITEMS
    assert answer.rest == {name: value for name, value in _WHOLE.items() if name != "items"}


@pytest.mark.parametrize("text", ['{"items": null, "metadata": {}}', '{"metadata": {}}'])
def test_no_items(text: str) -> None:
    answer = ListAnswer(cut(text, 3))
    assert list(answer) == []
    assert answer.rest["metadata"] == {}


def test_empty_items() -> None:
    answer = ListAnswer(cut('{"items": [ ], "metadata": {"resourceVersion": "3"}}', 3))
    assert list(answer) == []
    assert answer.rest == {"metadata": {"resourceVersion": "3"}}


def test_items_come_before_the_end() -> None:
    """Nothing of the text is asked for that the item does not need."""
    read: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b'{"items": [{"a": 1}, {"b"', b": 2}]}"):
            read.append(chunk)
            yield chunk

    answer = iter(ListAnswer(chunks()))
    assert next(answer) == {"a": 1}
    assert len(read) == 1
    assert next(answer) == {"b": 2}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "<html>",
        '{"items": [{"a": 1}, {"b"',
        '{"items": [{"a": 1} {"b": 2}]}',
        '{"items": [1, 2]',
        '{"items": [1, 2}',
        '{"items": [}]}',
        '{"metadata": {} "items": []}',
        '{"metadata"; {}}',
        '{"metadata": 12',
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        list(ListAnswer(cut(text, 5)))


def test_no_end_of_a_value_is_no_end_of_memory() -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"items": ["'
        while True:
            yield b"x" * 4_000_000

    with pytest.raises(Malformed, match="no JSON value ends within"):
        list(ListAnswer(endless()))

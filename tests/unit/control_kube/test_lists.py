"""A list's answer read as it comes, however it is cut; and what the connection makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from control.kube.connection import Connection, KubernetesConfig, Request
from control.kube.lists import ListAnswer, Malformed
from control.kube.services import ServiceCache
from control.kube.watcher import Subject, Watcher
from tests.unit.control_kube.cluster import NODE, eventually
from tests.unit.control_kube.rude import RudeServer

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


def answer_of(body: bytes) -> bytes:
    """In chunks, as kube-apiserver sends what is long: the body's end and the answer's are two things."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def test_connection_is_used_again_after_a_list() -> None:
    request = Request("GET", "/api/v1/services")
    with RudeServer(2, answer=answer_of(b'{"items": [1]}')).running() as server:
        connection = Connection(KubernetesConfig(NODE, url=server.url))
        for _ in range(2):
            stream = connection.stream(request, connect=5, idle=5)
            assert list(ListAnswer(stream.chunks())) == [1]
            stream.end()
        assert len(server.requests) == 2, "a second connection would have had no answer"
        connection.close()


def test_stream_on_a_connection_that_dies_is_asked_for_once_more() -> None:
    request = Request("GET", "/api/v1/services")
    with RudeServer(1, 1, answer=answer_of(b'{"items": [1]}')).running() as server:
        connection = Connection(KubernetesConfig(NODE, url=server.url))
        for _ in range(2):
            stream = connection.stream(request, connect=5, idle=5)
            assert list(ListAnswer(stream.chunks())) == [1]
            stream.end()
        assert len(server.requests) == 3
        connection.close()


def test_answer_that_is_no_list_is_a_failure_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    with RudeServer(*[1] * 100, answer=answer_of(b"<html>")).running() as server:
        config = KubernetesConfig(NODE, url=server.url, backoff_first=0.01, backoff_cap=0.1)
        connection = Connection(config)
        cache = ServiceCache()
        watcher = Watcher(config, connection, Subject("the Services", "/api/v1/services"), cache)
        watcher.start()
        eventually(lambda: watcher.counts().failures > 2, "it is asked for again")
        watcher.stop()
        connection.close()
    assert cache.addresses is None
    assert [record.levelname for record in caplog.records if "watcher" in record.name] == ["WARNING"]
    assert "'<'" in caplog.text

from __future__ import annotations

import random
import struct

import pytest

from cni.wire import (
    ANSWER_MAX,
    ENV_MAX,
    STDIN_MAX,
    Frame,
    RequestParser,
    WireError,
    decode_answer,
    encode_answer,
    encode_request,
)

FRAME = Frame({"CNI_COMMAND": "ADD", "CNI_ARGS": "a=b;c=d", "CNI_EMPTY": ""}, b'{"name":"x"}', 2)


def head(*, magic: bytes = b"TWY1", version: int = 1, env_len: int = 0, stdin_len: int = 0) -> bytes:
    return struct.pack("<4sIiII", magic, version, 0, env_len, stdin_len)


def test_bytes_of_a_request() -> None:
    """The layout of terway.c, written out."""
    frame = Frame({"CNI_X": "1"}, b"{}", 2)
    assert (
        encode_request(frame)
        == b"TWY1" + bytes([1, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0]) + b"CNI_X=1\0{}"
    )


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 19, 20, 21, 1000])
def test_request_in_pieces(piece: int) -> None:
    data, parser = encode_request(FRAME), RequestParser()
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    assert [parser.feed(part) for part in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert parser.feed(pieces[-1]) == FRAME


def test_empty_request() -> None:
    assert RequestParser().feed(encode_request(Frame({}, b""))) == Frame({}, b"")


def test_environment_is_read_as_getenv_reads_it() -> None:
    block = b"CNI_A=1\0CNI_A=2\0CNI_NOVALUE\0CNI_B=\xff=\0"
    frame = RequestParser().feed(head(env_len=len(block)) + block)
    assert frame is not None
    assert frame.env == {"CNI_A": "1", "CNI_B": "\udcff="}
    again = RequestParser().feed(encode_request(frame))
    assert again == frame


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1", "expected b'TWY1'"),
        (b"X", "expected b'TWY1'"),
        (b"TWY2" + b"\0" * 16, "expected b'TWY1'"),
        (head(version=2), "wire version 2"),
        (head(env_len=ENV_MAX + 1), "allowed are"),
        (head(stdin_len=STDIN_MAX + 1), "allowed are"),
        (head(stdin_len=0xFFFFFFFF), "allowed are"),
        (head() + b"x", "1 bytes follow"),
    ],
)
def test_not_a_request(data: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        RequestParser().feed(data)


def test_what_follows_a_request_is_refused() -> None:
    parser = RequestParser()
    assert parser.feed(encode_request(FRAME)) == FRAME
    with pytest.raises(WireError, match="1 bytes follow"):
        parser.feed(b"x")


def test_answer() -> None:
    assert encode_answer(1, b"ab") == b"\x01\0\0\0\x02\0\0\0ab"
    assert decode_answer(encode_answer(0, b"")) == (0, b"")
    assert decode_answer(encode_answer(1, b"ab")) == (1, b"ab")


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0\0\0\0\x01\0\0\0", encode_answer(0, b"a") + b"b"])
def test_not_an_answer(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_answer(data)


def test_answer_too_large() -> None:
    assert len(encode_answer(0, b"x" * ANSWER_MAX)) == ANSWER_MAX + 8
    with pytest.raises(WireError):
        encode_answer(0, b"x" * (ANSWER_MAX + 1))


def test_random_bytes_are_a_request_or_a_wire_error() -> None:
    rng = random.Random(20140526)
    good = encode_request(FRAME)
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randrange(len(data) + 1)]
        try:
            frame = RequestParser().feed(bytes(data))
        except WireError:
            continue
        assert frame is None or encode_request(frame).startswith(b"TWY1")

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from lab import messages
from lab.messages import LabError


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    one, two = socket.socketpair()
    one.settimeout(5)
    two.settimeout(5)
    return one, two


def test_values_arrive_one_by_one(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    for value in ({"verb": "a"}, {"b": [1, "ä"]}):
        messages.send(one, value)
    assert messages.receive(two) == ({"verb": "a"}, [])
    assert messages.receive(two) == ({"b": [1, "ä"]}, [])
    one.close()
    assert messages.receive(two) is None


def test_files_ride_along_and_are_close_on_exec(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    read, write = os.pipe()
    messages.send(one, {}, [write])
    received = messages.receive(two)
    assert received is not None
    (copy,) = received[1]
    os.write(copy, b"through")
    assert os.read(read, 10) == b"through"
    assert not os.get_inheritable(copy)
    messages.close([read, write, copy])


def test_a_value_larger_than_the_socket_buffer(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    read, write = os.pipe()
    big = {"text": "x" * 3_000_000}
    sender = threading.Thread(target=messages.send, args=(one, big, [write]))
    sender.start()
    received = messages.receive(two)
    sender.join()
    assert received is not None
    assert received[0] == big
    assert len(received[1]) == 1
    messages.close([read, write, *received[1]])


@pytest.mark.parametrize("sent", [b"\1\0", b"\5\0\0\0\0\0\0\0{}", b"\2\0\0\0\1\0\0\0{}", b"\xff" * 8])
def test_a_broken_frame_is_an_error(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    one, two = pair
    one.sendall(sent)
    one.close()
    with pytest.raises(LabError):
        messages.receive(two)


def test_an_error_answer_is_raised(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    messages.send(two, {"error": "no such node"})
    with pytest.raises(LabError, match="no such node"):
        messages.ask(one, {"verb": "x"})


def test_a_silent_and_a_vanished_other_end(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    one.settimeout(0.01)
    with pytest.raises(LabError, match="status: the lab gave no answer"):
        messages.ask(one, {"verb": "status"})
    two.close()
    with pytest.raises(LabError, match="status: the lab ended before it answered"):
        messages.ask(one, {"verb": "status"})


def test_paths_longer_than_a_socket_name(tmp_path: Path) -> None:
    directory = tmp_path / ("long-" * 20)
    directory.mkdir()
    path = directory / "control.sock"
    assert len(str(path)) > 108
    with messages.listen(path) as listener, messages.connect(path) as client:
        assert path.stat().st_mode & 0o777 == 0o600
        server, _ = listener.accept()
        with server:
            messages.send(client, {"verb": "hello"})
            assert messages.receive(server) == ({"verb": "hello"}, [])


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        messages.connect(tmp_path / "none.sock")

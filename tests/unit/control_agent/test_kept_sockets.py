"""The CNI socket and the debug socket, spoiled by other hands: bound anew, and nobody who waits is lost."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cni.wire import ACK, Frame, encode_request
from control.agent.cni.socket import CniSocket
from control.process.http_api import HttpApi
from control.process.keeper import Keeper, MustRestart
from control.process.private_socket import PrivateSocket

REQUEST = encode_request(Frame({"CNI_COMMAND": "STATUS"}, b"{}"))
Hand = Callable[[Path], None]


def _removed(path: Path) -> None:
    path.unlink()


def _altered(path: Path) -> None:
    path.chmod(0o777)


def _a_file(path: Path) -> None:
    path.unlink()
    path.write_text("somebody's")


def _a_directory(path: Path) -> None:
    path.unlink()
    (path / "full").mkdir(parents=True)


def _a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def _a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _another_socket(path: Path) -> None:
    path.unlink()
    with closing(socket.socket(socket.AF_UNIX)) as theirs:
        theirs.bind(str(path))


def _the_directory(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def _directory_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def _open_directory(path: Path) -> None:
    path.parent.chmod(0o777)


HANDS = [
    _removed,
    _altered,
    _a_file,
    _a_directory,
    _a_link,
    _a_dangling_link,
    _a_fifo,
    _another_socket,
    _the_directory,
    _directory_moved,
    _open_directory,
]


def serving(path: Path, scenario: Callable[[CniSocket, Keeper], Awaitable[None]]) -> list[str]:
    """What was told."""
    told: list[str] = []

    async def answer(_frame: Frame, _netns: int | None) -> tuple[int, bytes]:
        return 0, b"{}"

    async def run() -> None:
        server, keeper = CniSocket(path, answer), Keeper(lambda _thing, text: told.append(text))
        server.listen()
        keeper.add(server)
        try:
            async with asyncio.timeout(30):
                await scenario(server, keeper)
        finally:
            await server.close()

    asyncio.run(run())
    return told


async def ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(REQUEST)
    said = await reader.read()
    writer.close()
    return said


@pytest.mark.parametrize("hand", HANDS)
def test_the_cni_socket_is_bound_anew(tmp_path: Path, hand: Hand) -> None:
    path = tmp_path / "eni" / "eni.socket"

    async def scenario(server: CniSocket, keeper: Keeper) -> None:
        keeper.look()
        assert keeper.mends() == {"cni-socket": 0}
        hand(path)
        assert server.wrong()
        keeper.look()
        assert server.wrong() == ""
        found = path.lstat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0
        assert (await ask(path)).startswith(ACK)

    told = serving(path, scenario)
    assert len(told) == 1
    assert str(path.parent) in told[0]


def test_what_is_not_ours_is_moved_aside_and_a_link_is_not_followed(tmp_path: Path) -> None:
    path, theirs = tmp_path / "eni" / "eni.socket", tmp_path / "secret"
    theirs.write_text("secret")
    theirs.chmod(0o644)

    async def scenario(_server: CniSocket, keeper: Keeper) -> None:
        path.unlink()
        path.write_text("of value")
        keeper.look()
        assert path.with_name(".eni.socket.foreign").read_text() == "of value"
        path.unlink()
        path.touch()
        keeper.look()
        assert path.with_name(".eni.socket.foreign").read_text() == "of value", "an empty one is not kept"
        path.unlink()
        path.symlink_to(theirs)
        # Where the next one is bound before it is renamed, a pod with a hostPath plants a link as well.
        path.with_name(f".eni.socket.{os.getpid()}").symlink_to(theirs)
        keeper.look()
        assert theirs.read_text() == "secret"
        assert stat.S_IMODE(theirs.stat().st_mode) == 0o644
        assert (await ask(path)).startswith(ACK)

    serving(path, scenario)


def test_who_had_connected_to_the_old_one_is_answered(tmp_path: Path) -> None:
    """Before it is noticed that the path is another's, a request may be in the old socket's queue."""
    path = tmp_path / "eni.socket"

    async def scenario(_server: CniSocket, keeper: Keeper) -> None:
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(str(path))  # not accepted yet: the loop has not turned
        path.unlink()
        keeper.look()
        waiting.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(waiting, REQUEST)
        assert (await loop.sock_recv(waiting, 100)).startswith(ACK)
        waiting.close()

    serving(path, scenario)


def test_neither_of_two_agents_removes_the_others(tmp_path: Path) -> None:
    """A rolling update without the ledger's lock: the new one has taken the path, and the old one ends."""
    path = tmp_path / "eni.socket"

    async def scenario(old: CniSocket, _keeper: Keeper) -> None:
        async def answer(_frame: Frame, _netns: int | None) -> tuple[int, bytes]:
            return 0, b"new"

        new = CniSocket(path, answer)
        new.listen()
        await old.close()
        assert new.wrong() == ""
        assert b"new" in await ask(path)
        await new.close()
        assert not path.exists()

    serving(path, scenario)


def test_two_agents_that_fight_for_a_path_become_slow(tmp_path: Path) -> None:
    path = tmp_path / "eni.socket"
    clock = 1000.0
    keepers, sockets = [], [PrivateSocket(path), PrivateSocket(path)]

    class Fighter:
        pods_need_it = True
        paths = (path,)

        def __init__(self, own: PrivateSocket) -> None:
            self.name, self.own = "fighter", own
            self.listener = own.bind(1)

        def wrong(self) -> str:
            return self.own.wrong()

        def mend(self) -> str:
            before, self.listener = self.listener, self.own.bind(1)
            before.close()
            return "bound anew"

    for own in sockets:
        keepers.append(Keeper(lambda *_: None, now=lambda: clock))
        keepers[-1].add(Fighter(own))
    for _ in range(6000):
        for keeper in keepers:
            keeper.look()
        clock += 0.1
    assert sum(keeper.mends()["fighter"] for keeper in keepers) < 60
    assert any("another process's socket" in keeper.trouble() for keeper in keepers)


def test_an_inode_number_is_not_used_again_while_the_socket_is_open(tmp_path: Path) -> None:
    own = PrivateSocket(tmp_path / "eni.socket")
    with closing(own.bind(1)):
        for _ in range(50):
            own.path.unlink()
            with closing(socket.socket(socket.AF_UNIX)) as theirs:
                theirs.bind(str(own.path))
                own.path.chmod(0o600)
                assert own.wrong().endswith("another process's socket")


def test_a_directory_that_went_under_its_mount_ends_the_process(tmp_path: Path) -> None:
    """As a container sees it: the path is there, and nothing can be made in it."""
    directory = tmp_path / "eni"
    directory.mkdir()
    mounted = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        own = PrivateSocket(Path(f"/proc/self/fd/{mounted}/eni.socket"))
        own.bind(1).close()
        own.path.unlink()
        directory.rmdir()
        assert own.wrong().endswith("was removed")
        with pytest.raises(MustRestart, match="made anew"):
            own.bind(1)
    finally:
        os.close(mounted)


def ready(client: socket.socket) -> bool:
    """Asked over a connection that stands."""
    client.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    said = b""
    while not said.endswith(b"\r\n\r\nok\n"):
        said += client.recv(200) or b"(it ended)\r\n\r\nok\n"
    return b"200 OK" in said and b"(it ended)" not in said


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    return client


@pytest.mark.parametrize("hand", HANDS)
def test_the_debug_socket_is_bound_anew(tmp_path: Path, hand: Hand) -> None:
    path, loop = tmp_path / "eni" / "eni_debug.socket", asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made = HttpApi(f"unix://{path}", loop, CollectorRegistry())
    keeper = Keeper(lambda *_: None)
    try:
        made.ready = lambda: ""
        made.start()
        keeper.add(made)
        with connected(path) as client:
            assert ready(client)
            hand(path)
            assert made.wrong()
            keeper.look()
            assert made.wrong() == ""
            assert keeper.mends() == {"debug-socket": 1}
            assert ready(client), "its connection goes on"
        with connected(path) as client:
            assert ready(client)
    finally:
        made.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_directory_that_is_everybodys_on_purpose_stays_so(tmp_path: Path) -> None:
    """/tmp, say: closed to others it would be of no more use to the node, and the sticky bit is enough."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    place = PrivateSocket(shared / "cni.sock")
    with closing(place.bind(1)):
        assert place.wrong() == ""
        assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
        shared.chmod(0o777)
        assert "can be written by others" in place.wrong()
    with closing(place.bind(1)):
        assert stat.S_IMODE(shared.stat().st_mode) == 0o755

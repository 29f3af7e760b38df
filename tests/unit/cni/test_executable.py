"""The executable ``terway`` as a runtime runs it, against a daemon of a few lines."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cni import wire
from cni.version import SUPPORTED
from tests.unit.cni.daemon import DEADLINE, Script, Seen, daemon, receive

SOURCE = Path(__file__).parents[3] / "cni"
CONF = b'{"cniVersion":"0.4.0","name":"terway","type":"terway"}'


@pytest.fixture(scope="session")
def terway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("terway")
    subprocess.run(["make", "-s", "-C", SOURCE, f"OUTPUT={output}"], check=True)
    return output / "terway"


def start(terway: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Running, with all of its stdin."""
    with tempfile.TemporaryFile() as stdin:
        stdin.write(CONF)
        stdin.seek(0)
        pipe = subprocess.PIPE
        return subprocess.Popen([terway], env=dict(env), stdin=stdin, stdout=pipe, stderr=pipe)


def run(terway: Path, env: Mapping[str, str], stdin: bytes = CONF) -> tuple[int, bytes]:
    done = subprocess.run(
        [terway], env=dict(env), input=stdin, capture_output=True, timeout=DEADLINE, check=False
    )
    assert done.stderr == b""
    return done.returncode, done.stdout


def error(answer: tuple[int, bytes]) -> dict[str, object]:
    """The one JSON object of a failed call."""
    code, stdout = answer
    assert code == 1
    assert stdout.endswith(b"}\n")
    assert stdout.count(b"\n") == 1
    body = json.loads(stdout)
    assert set(body) == {"cniVersion", "code", "msg", "details"}
    assert isinstance(body, dict)
    return body


def add(path: Path, **more: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "TERWAY_SOCKET": str(path),
    } | more


def answering(exit_code: int, stdout: bytes) -> Script:
    def script(connection: socket.socket, seen: Seen) -> None:
        receive(connection, seen)
        connection.sendall(wire.ACK + wire.encode_answer(exit_code, stdout))

    return script


def test_request_and_answer(terway: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with daemon(path, answering(0, b'{"ips":[]}\n')) as seen:
        env = add(
            path, CNI_ARGS="K8S_POD_NAME=p", TRACEPARENT="00-1", TRACESTATE="a=b", BAGGAGE="c=d", HOME="/x"
        )
        assert run(terway, env) == (0, b'{"ips":[]}\n')
    (frame,) = seen.frames
    del env["HOME"], env["TERWAY_SOCKET"]
    assert frame.env == env
    assert frame.stdin == CONF
    assert frame.netns_errno == 0
    assert seen.descriptors == [[]]


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code(terway: Path, tmp_path: Path, code: int) -> None:
    with daemon(tmp_path / "s", answering(code, b"x")):
        assert run(terway, add(tmp_path / "s")) == (code, b"x")


def test_exit_code_that_no_process_can_have(terway: Path, tmp_path: Path) -> None:
    with daemon(tmp_path / "s", answering(256, b"")):
        assert run(terway, add(tmp_path / "s")) == (1, b"")


def test_namespace_descriptor_is_passed(terway: Path, tmp_path: Path) -> None:
    path, netns = tmp_path / "s", f"/proc/{os.getpid()}/ns/net"
    inodes: list[int] = []

    def script(connection: socket.socket, seen: Seen) -> None:
        receive(connection, seen)
        inodes.extend(os.fstat(fd).st_ino for fd in seen.descriptors[-1])
        connection.sendall(wire.ACK + wire.encode_answer(0, b""))

    with daemon(path, script) as seen:
        assert run(terway, add(path, CNI_NETNS=netns)) == (0, b"")
    assert inodes == [os.stat(netns).st_ino]
    assert seen.frames[0].netns_errno == 0


@pytest.mark.parametrize(
    ("netns", "number"), [("/nowhere/at/all", errno.ENOENT), ("/proc/self/exe/x", errno.ENOTDIR)]
)
def test_namespace_that_cannot_be_opened(terway: Path, tmp_path: Path, netns: str, number: int) -> None:
    with daemon(tmp_path / "s", answering(0, b"")) as seen:
        assert run(terway, add(tmp_path / "s", CNI_NETNS=netns)) == (0, b"")
    assert seen.frames[0].netns_errno == number
    assert seen.descriptors == [[]]


def test_namespace_path_that_is_a_fifo_does_not_hang(terway: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with daemon(tmp_path / "s", answering(0, b"")) as seen:
        assert run(terway, add(tmp_path / "s", CNI_NETNS=str(fifo))) == (0, b"")
    assert len(seen.descriptors[0]) == 1


@pytest.mark.parametrize("size", [0, 1, 300 << 10, wire.STDIN_MAX])
def test_stdin_of_any_allowed_size_read_slowly(terway: Path, tmp_path: Path, size: int) -> None:
    stdin = os.urandom(size)

    def script(connection: socket.socket, seen: Seen) -> None:
        receive(connection, seen, piece=5000)
        connection.sendall(wire.ACK + wire.encode_answer(0, b"ok"))

    with daemon(tmp_path / "s", script) as seen:
        assert run(terway, add(tmp_path / "s"), stdin) == (0, b"ok")
    assert seen.frames[0].stdin == stdin


def test_large_answer(terway: Path, tmp_path: Path) -> None:
    stdout = os.urandom(wire.ANSWER_MAX)
    with daemon(tmp_path / "s", answering(0, stdout)):
        assert run(terway, add(tmp_path / "s")) == (0, stdout)


def test_stdin_too_large(terway: Path, tmp_path: Path) -> None:
    stdin = CONF + b" " * wire.STDIN_MAX
    body = error(run(terway, add(tmp_path / "nobody"), stdin))
    assert (body["code"], body["cniVersion"]) == (6, "0.4.0")


def test_stdin_closed(terway: Path, tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$0" <&-', str(terway)]
    done = subprocess.run(
        command, env=add(tmp_path / "s"), capture_output=True, timeout=DEADLINE, check=False
    )
    assert error((done.returncode, done.stdout))["code"] == 5


def test_command_missing(terway: Path) -> None:
    body = error(run(terway, {}))
    assert body["code"] == 4
    assert "CNI_COMMAND" in str(body["msg"])


def test_environment_too_large(terway: Path, tmp_path: Path) -> None:
    large = {f"CNI_{number}": "x" * 100_000 for number in range(3)}
    assert error(run(terway, add(tmp_path / "s", **large)))["code"] == 4


def test_socket_path_too_long(terway: Path, tmp_path: Path) -> None:
    assert error(run(terway, add(tmp_path / ("x" * 120))))["code"] == 4


VERSIONS = [
    (b'{"cniVersion":"0.3.1"}', "0.3.1"),
    (b'{ "cniVersion"\n:\t"1.0.0" }', "1.0.0"),
    (b'{"prevResult":{"cniVersion":"0.3.0"},"cniVersion":"0.4.0"}', "0.4.0"),
    (b'{"name":"cniVersion","list":["cniVersion"],"cniVersion":"0.4.0"}', "0.4.0"),
    (b'{"x\\"":"\\\\","cniVersion":"9.8.7-rc1"}', "9.8.7-rc1"),
    (b'{"prevResult":{"cniVersion":"0.3.0"}}', None),
    (b'{"cniVersion":"1.0.0\\u0022"}', None),
    (b'{"cniVersion":"' + b"1" * 40 + b'"}', None),
    (b'{"cniVersion":1}', None),
    (b'{"cniVersion" "1.0.0"}', None),
    (b'{"cniVersion":"1.0.0', None),
    (b'{"cniVersion', None),
    (b'{"\\', None),
    (b"", None),
    (b"\0\0", None),
]


@pytest.mark.parametrize(("stdin", "version"), VERSIONS)
def test_version_needs_no_daemon(terway: Path, stdin: bytes, version: str | None) -> None:
    code, stdout = run(terway, {"CNI_COMMAND": "VERSION", "TERWAY_SOCKET": "/nowhere"}, stdin)
    assert code == 0
    assert json.loads(stdout) == {"cniVersion": version or "1.1.0", "supportedVersions": list(SUPPORTED)}


@pytest.mark.parametrize(("stdin", "version"), VERSIONS)
def test_version_of_errors(terway: Path, tmp_path: Path, stdin: bytes, version: str | None) -> None:
    body = error(run(terway, add(tmp_path / ("x" * 120)), stdin))
    assert body["cniVersion"] == (version or "1.0.0")


def test_connection_lost_before_the_ack_is_tried_again(terway: Path, tmp_path: Path) -> None:
    def gone(connection: socket.socket, seen: Seen) -> None:
        receive(connection, seen)

    with daemon(tmp_path / "s", gone, gone, answering(0, b"ok")) as seen:
        netns = f"/proc/{os.getpid()}/ns/net"
        assert run(terway, add(tmp_path / "s", CNI_NETNS=netns)) == (0, b"ok")
    assert seen.connections == 3
    assert [len(fds) for fds in seen.descriptors] == [1, 1, 1]


def wait_asleep(pid: int) -> None:
    """Until the executable pauses between two tries, the only thing it can sleep in without a daemon."""
    end = time.monotonic() + DEADLINE
    while " S " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < end, "never pauses"


def test_daemon_that_starts_meanwhile(terway: Path, tmp_path: Path) -> None:
    """A restart of the daemon is no error: the executable is there first, the socket comes later."""
    path = tmp_path / "s"
    child = start(terway, add(path))
    wait_asleep(child.pid)
    with daemon(path, answering(0, b"ok")):
        stdout, _ = child.communicate(timeout=DEADLINE)
    assert (child.returncode, stdout) == (0, b"ok")


@pytest.mark.parametrize(
    ("after_ack", "why"),
    [
        (b"", "Connection reset"),
        (b"\0\0\0", "Connection reset"),
        (wire.encode_answer(0, b'{"ips":[]}')[:-1], "Connection reset"),
        (struct.pack("<II", 0, wire.ANSWER_MAX + 1), "Message too"),
    ],
    ids=["nothing", "half a head", "half an answer", "too large"],
)
def test_connection_lost_after_the_ack(terway: Path, tmp_path: Path, after_ack: bytes, why: str) -> None:
    def script(connection: socket.socket, seen: Seen) -> None:
        receive(connection, seen)
        connection.sendall(wire.ACK + after_ack)

    with daemon(tmp_path / "s", script) as seen:
        body = error(run(terway, add(tmp_path / "s")))
    assert (body["code"], body["cniVersion"]) == (11, "0.4.0")
    assert why in str(body["details"])
    assert seen.connections == 1, "what the daemon has acknowledged must not be sent again"


def test_stopped_and_continued_while_waiting(terway: Path, tmp_path: Path) -> None:
    """A debugger, a freezer or a checkpoint may stop it wherever it waits."""
    path = tmp_path / "s"
    child = start(terway, add(path))

    def stopped() -> bool:
        return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def interrupt() -> None:
        """Seen in /proc: waiting for the child is communicate's, in another thread."""
        child.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + DEADLINE
        while not stopped():
            assert time.monotonic() < deadline, "never stops; did it end before?"
            time.sleep(0.001)
        child.send_signal(signal.SIGCONT)

    def script(connection: socket.socket, seen: Seen) -> None:
        receive(connection, seen)
        interrupt()
        connection.sendall(wire.ACK)
        interrupt()
        connection.sendall(wire.encode_answer(0, b"ok"))

    interrupt()  # before there is a daemon, since with one it could have ended already
    with daemon(path, script):
        stdout, _ = child.communicate(timeout=DEADLINE)
    assert (child.returncode, stdout) == (0, b"ok")


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable, with a second or two where a node's has half a minute and more."""
    output = tmp_path_factory.mktemp("impatient")
    flags = "CFLAGS=-Os -DCONNECT_MS=1000 -DACK_MS=2000"
    subprocess.run(["make", "-s", "-C", SOURCE, f"OUTPUT={output}", flags], check=True)
    return output / "terway"


@pytest.fixture(scope="module")
def absent(impatient: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, bytes]]:
    """Answers without a daemon, by what is wrong with it. Each takes seconds, so they run side by side."""
    terway = impatient
    folder = tmp_path_factory.mktemp("absent")
    with socket.socket(socket.AF_UNIX) as wedged, socket.socket(socket.AF_UNIX) as silent:
        wedged.bind(str(folder / "wedged"))
        wedged.listen(1)
        silent.bind(str(folder / "silent"))
        silent.listen(1)
        (folder / "file").touch()
        names = ('away"\\', "file", "wedged", "silent")
        children = {name: start(terway, add(folder / name)) for name in names}
        silent.settimeout(DEADLINE)
        accepted, _ = silent.accept()
        answers = {}
        for name, child in children.items():
            stdout, _ = child.communicate(timeout=DEADLINE)
            answers[name] = (child.returncode, stdout)
        accepted.close()
    return answers


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ('away"\\', "No such file or directory; waited 1000 ms for terwayd to listen there"),
        ("file", "Connection refused; waited 1000 ms for terwayd to listen there"),
        ("wedged", "no acknowledgement within 2000 ms"),
        ("silent", "no acknowledgement within 2000 ms"),
    ],
)
def test_daemon_away(absent: dict[str, tuple[int, bytes]], name: str, why: str) -> None:
    body = error(absent[name])
    assert (body["code"], body["cniVersion"]) == (11, "0.4.0")
    assert f"/{name}: " in str(body["details"])
    assert why in str(body["details"])


def test_a_restart_on_a_loaded_machine_fits_and_the_kubelets_limit_is_kept() -> None:
    """Read from the source, since a test's clock says more about the machine than about the program.

    The kubelet gives RunPodSandbox twice its runtime-request-timeout (2 min), StopPodSandbox once.
    """
    limits = dict(re.findall(r"#define (\w+)_MS (\d+)", (SOURCE / "terway.c").read_text()))
    assert int(limits["CONNECT"]) >= 30_000
    assert int(limits["ACK"]) >= 60_000
    assert int(limits["ANSWER"]) == 120_000
    assert int(limits["ACK"]) + int(limits["ANSWER"]) < 240_000
    assert int(limits["ACK"]) < 120_000


@pytest.mark.parametrize("there", [True, False], ids=["slow to acknowledge", "slow to start"])
def test_what_takes_longer_than_five_seconds_is_waited_for(terway: Path, tmp_path: Path, there: bool) -> None:
    """A restart, or an acknowledgement, on a machine that starts everything at once."""
    path = tmp_path / "s"

    def slow(connection: socket.socket, seen: Seen) -> None:
        receive(connection, seen)
        time.sleep(5.5 if there else 0)
        connection.sendall(wire.ACK + wire.encode_answer(0, b"ok"))

    child = start(terway, add(path))
    time.sleep(0 if there else 5.5)
    assert child.poll() is None, "it has given up"
    with daemon(path, slow):
        stdout, _ = child.communicate(timeout=DEADLINE)
    assert (child.returncode, stdout) == (0, b"ok")


def test_small_and_static(terway: Path) -> None:
    image = terway.read_bytes()
    assert len(image) < 1 << 20
    offset, size, count = struct.unpack_from("<Q", image, 32)[0], *struct.unpack_from("<HH", image, 54)
    kinds = [struct.unpack_from("<I", image, offset + size * number)[0] for number in range(count)]
    assert 1 in kinds, "no loadable segment: this is not the program"
    assert 3 not in kinds, "has an interpreter, so it is not static"

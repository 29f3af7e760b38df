"""The door to namespaces: what it opens, where its body runs, and that it always comes back. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from datapath import namespace
from datapath.errors import KernelError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def netns() -> Iterator[int]:
    fd = namespace.new()
    yield fd
    os.close(fd)


def here() -> namespace.Identity:
    fd = namespace.own()
    try:
        return namespace.identity(fd)
    finally:
        os.close(fd)


def test_a_new_namespace_is_another_one_and_the_thread_stays(netns: int) -> None:
    before = here()
    assert namespace.identity(netns) != before
    assert here() == before


def test_the_body_runs_inside_and_sees_its_devices(netns: int) -> None:
    outside = here()
    with namespace.entered(netns):
        assert here() == namespace.identity(netns)
        devices = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    assert here() == outside


def test_it_nests_and_comes_back_step_by_step(netns: int) -> None:
    outside, other = here(), namespace.new()
    try:
        with namespace.entered(netns):
            with namespace.entered(other):
                assert here() == namespace.identity(other)
            assert here() == namespace.identity(netns)
    finally:
        os.close(other)
    assert here() == outside


def test_it_comes_back_after_an_exception(netns: int) -> None:
    outside = here()
    with pytest.raises(ZeroDivisionError), namespace.entered(netns):
        raise ZeroDivisionError
    assert here() == outside


def test_other_threads_stay_where_they_are(netns: int) -> None:
    outside, entered, seen = here(), threading.Event(), list[namespace.Identity]()

    def stay() -> None:
        assert entered.wait(5)
        seen.append(here())

    thread = threading.Thread(target=stay)
    thread.start()
    with namespace.entered(netns):
        assert here() != outside
        entered.set()
        thread.join()
    assert seen == [outside]


def test_no_descriptor_is_left_behind(netns: int) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with namespace.entered(netns):
            pass
        os.close(namespace.new())
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_namespace_of_a_process(netns: int) -> None:
    with namespace.entered(netns):
        process = subprocess.Popen(["sleep", "60"])
    try:
        fd = namespace.of_process(process.pid)
        assert namespace.identity(fd) == namespace.identity(netns)
        os.close(fd)
    finally:
        process.kill()
        process.wait()


def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(KernelError, match="/run/netns/nowhere: No such file") as caught:
        namespace.open_path("/run/netns/nowhere")
    assert caught.value.errno == 2


@pytest.mark.parametrize("path", ["/dev/null", "/proc/self/ns/mnt"])
def test_a_path_that_is_something_else_is_refused(path: str) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(KernelError, match="no network namespace"):
        namespace.open_path(path)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_descriptor_that_is_no_namespace_cannot_be_entered() -> None:
    outside = here()
    with open("/dev/null") as file, pytest.raises(KernelError, match="enter a network namespace: /dev/null"):
        with namespace.entered(file.fileno()):
            pytest.fail("the body ran")
    assert here() == outside


def test_a_thread_that_cannot_come_back_ends_its_process() -> None:
    """The body drops CAP_SYS_ADMIN by becoming nobody, so the way back is refused."""
    script = (
        "import os\n"
        "from datapath import namespace\n"
        "with namespace.entered(namespace.new()):\n"
        "    os.setresuid(65534, 65534, 65534)\n"
        "print('went on')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == -6
    assert "cannot return to its network namespace: Operation not permitted" in ended.stderr
    assert ended.stdout == ""

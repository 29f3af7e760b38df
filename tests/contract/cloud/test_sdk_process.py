"""The process that holds the SDK: when it lives, how it dies, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from control.aliyun.actions import Action
from control.aliyun.cloud import AliyunCloud
from control.aliyun.frames import encode
from control.aliyun.settings import CloudSettings
from control.model.errors import Cause, CloudError
from lab.cloud.faults import Fault
from tests.contract.cloud.bench import PODS, LabBench, creation, on_a_loop

DEADLINE = 60.0
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def bench() -> Iterator[LabBench]:
    made = LabBench()
    yield made
    made.stop()


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE:g} s: {what}")


def pid_of(cloud: AliyunCloud) -> int:
    assert cloud.worker_pid is not None
    return cloud.worker_pid


def gone(pid: int) -> bool:
    """Neither running nor a zombie."""
    return not Path(f"/proc/{pid}").exists()


@on_a_loop
async def test_it_is_started_by_the_first_call(bench: LabBench) -> None:
    assert bench.cloud.worker_pid is None
    await bench.cloud.vswitches([PODS])
    pid = pid_of(bench.cloud)
    assert not gone(pid)
    await bench.cloud.vswitches([PODS])
    assert pid_of(bench.cloud) == pid


@on_a_loop
async def test_calls_at_once_share_it(bench: LabBench) -> None:
    bench.state.faults.add(Fault(Action.CREATE_ENI, latency=0.3))
    slow = asyncio.create_task(bench.cloud.create_eni(creation()))
    quick = await asyncio.gather(*(bench.cloud.vswitches([PODS]) for _ in range(8)))
    assert len(quick) == 8
    assert not slow.done()
    pid = pid_of(bench.cloud)
    await slow
    assert pid_of(bench.cloud) == pid


@on_a_loop
async def test_closing_ends_it(bench: LabBench) -> None:
    await bench.cloud.vswitches([PODS])
    pid = pid_of(bench.cloud)
    await bench.cloud.close()
    assert gone(pid)
    bench.observed.clear()
    with pytest.raises(CloudError, match="shutting down"):
        await bench.cloud.vswitches([PODS])
    assert len(bench.observed) == 1, "what is closed is not tried again"


@on_a_loop
async def test_it_ends_when_idle_by_the_clock(bench: LabBench) -> None:
    await bench.cloud.vswitches([PODS])
    pid = pid_of(bench.cloud)
    bench.advance(bench.settings.idle - 5)
    await bench.cloud.vswitches([PODS])
    bench.advance(10)
    await bench.cloud.vswitches([PODS])
    assert pid_of(bench.cloud) == pid, "10 s after a call it is not idle"
    bench.advance(bench.settings.idle + 1)
    await until(lambda: gone(pid), "the idle process ends")
    assert bench.cloud.worker_pid is None
    assert len(await bench.cloud.vswitches([PODS])) == 1
    assert pid_of(bench.cloud) != pid


@on_a_loop
async def test_a_long_call_is_not_idleness(bench: LabBench) -> None:
    bench.state.faults.add(Fault(Action.DESCRIBE_VSWITCHES, latency=1.2))
    call = asyncio.create_task(bench.cloud.vswitches([PODS]))
    await until(lambda: bench.cloud.worker_pid is not None, "the process starts")
    bench.advance(bench.settings.idle * 2)
    assert len(await call) == 1
    assert [error for _, error, _ in bench.observed] == [""], "nobody ended the process under it"


@on_a_loop
async def test_standing_by_starts_and_keeps_it(bench: LabBench) -> None:
    bench.cloud.stand_by(True)
    await until(lambda: bench.cloud.worker_pid is not None, "the process starts")
    pid = pid_of(bench.cloud)
    bench.advance(bench.settings.idle * 10)
    await bench.cloud.vswitches([PODS])
    assert pid_of(bench.cloud) == pid
    bench.cloud.stand_by(False)
    bench.advance(bench.settings.idle + 1)
    await until(lambda: gone(pid), "the process ends once it is not wanted")


@on_a_loop
async def test_standing_by_keeps_one_that_runs_already(bench: LabBench) -> None:
    await bench.cloud.vswitches([PODS])
    pid = pid_of(bench.cloud)
    bench.cloud.stand_by(True)
    keeper = bench.cloud._api.process._keeper
    assert keeper is not None
    bench.advance(bench.settings.idle + 1)
    await until(keeper.done, "the check for idleness sees that it is wanted")
    assert bench.cloud.worker_pid == pid


@on_a_loop
async def test_killed_in_a_call_it_is_started_again_and_the_call_repeated(bench: LabBench) -> None:
    bench.state.faults.add(Fault(Action.CREATE_ENI, latency=0.3, count=1))
    call = asyncio.create_task(bench.cloud.create_eni(creation(ipv4=2)))
    await until(lambda: bench.cloud.worker_pid is not None, "the process starts")
    pid = pid_of(bench.cloud)
    await until(lambda: not bench.state.faults.listing(), "the call is under way")
    os.kill(pid, signal.SIGKILL)
    eni = await call
    assert pid_of(bench.cloud) != pid
    assert gone(pid)
    assert (Action.CREATE_ENI, Cause.UNREACHABLE) in [(api, error) for api, error, _ in bench.observed]
    (shown,) = await bench.cloud.enis([eni.eni_id])
    assert shown.ipv4 == eni.ipv4
    (vswitch,) = await bench.cloud.vswitches([PODS])
    assert vswitch.available == 4092 - 2, "the repeated creation made one ENI"


@on_a_loop
async def test_killed_without_patience_the_call_fails_as_temporary(bench: LabBench) -> None:
    cloud = bench.new_cloud(settings=replace(bench.settings, patience=0.0))
    bench.state.faults.add(Fault(Action.CREATE_ENI, latency=30, count=1))
    call = asyncio.create_task(cloud.create_eni(creation()))
    await until(lambda: not bench.state.faults.listing() and cloud.worker_pid is not None, "the call")
    pid = pid_of(cloud)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CloudError, match="the SDK process ended") as raised:
        await call
    assert raised.value.cause is Cause.UNREACHABLE
    assert raised.value.temporary
    await until(lambda: gone(pid), "the dead process is reaped")
    assert len(await cloud.vswitches([PODS])) == 1


_DAEMON = """
import asyncio, sys
from control.aliyun.sdk_process import Call, SdkProcess
from control.aliyun.settings import CloudSettings
from control.model.clock import SystemClock

async def main():
    process = SdkProcess(CloudSettings("cn-hangzhou", sys.argv[1], sys.argv[1], "http"), SystemClock())
    key = {"id": "x", "secret": "x", "token": ""}
    call = asyncio.create_task(process.call(Call("DescribeVSwitches", {"RegionId": "cn-hangzhou"}, key)))
    while process.pid is None:
        await asyncio.sleep(0.01)
    print(process.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def ended(pid: int) -> bool:
    """Gone, or a zombie of whoever inherited it: an orphan is not ours to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@on_a_loop
async def test_it_does_not_outlive_a_killed_daemon(bench: LabBench) -> None:
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _DAEMON, bench.endpoint),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        assert daemon.stdout is not None
        pid = int(await daemon.stdout.readline())
        assert not ended(pid)
    finally:
        daemon.kill()
        await daemon.wait()
    await until(lambda: ended(pid), "the orphan ends")


def test_a_daemon_that_dies_with_an_answer_unread_ends_it_quietly() -> None:
    """The kernel then tells of a reset, not of an end of file."""
    ours, theirs = socket.socketpair()
    told = CloudSettings("cn-hangzhou", "127.0.0.1:9", "127.0.0.1:9", "http").for_worker()
    worker = subprocess.Popen(
        [sys.executable, "-m", "control.aliyun.worker", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    theirs.close()
    key = {"id": "key", "secret": "secret", "token": ""}
    with ours:
        ours.sendall(encode({"settings": told}))
        ours.sendall(encode({"id": 1, "action": "NoAction", "parameters": {}, "credentials": key}))
        assert select.select([ours], [], [], DEADLINE)[0], "it has answered"
    _, complaints = worker.communicate(timeout=DEADLINE)
    assert (worker.returncode, complaints) == (0, "")


@on_a_loop
async def test_proxies_of_the_environment_are_not_used(
    bench: LabBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert len(await bench.cloud.vswitches([PODS])) == 1


@on_a_loop
async def test_what_is_not_needed_is_not_loaded(bench: LabBench) -> None:
    """The daemon's process stays without the SDK, and the SDK's without aiohttp and cryptography."""
    await bench.cloud.vswitches([PODS])
    maps = Path(f"/proc/{pid_of(bench.cloud)}/maps").read_text()
    assert "_ssl" in maps
    assert "aiohttp" not in maps
    assert "cryptography" not in maps
    loaded = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys, control.agent.main; print(*sys.modules)",
        stdout=asyncio.subprocess.PIPE,
    )
    modules = (await loaded.communicate())[0].decode().split()
    assert "control.aliyun.cloud" in modules
    assert not [name for name in modules if name.startswith(("alibabacloud_", "darabonba", "Tea"))]

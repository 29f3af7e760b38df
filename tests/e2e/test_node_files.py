"""What the agent has on the node's disk, spoiled under a running agent: put back, counted, and told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from lab.client import Lab
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import until

CONF = "etc/cni/net.d/10-terway.conf"
SOCKET = "run/eni/eni.socket"
PROGRAM = "opt/cni/bin/terway"


@pytest.fixture(scope="module")
def started(lab: Lab) -> Iterator[Bench]:
    with bench(lab) as made:
        made.start()
        yield made


def root(made: Bench) -> Path:
    return Path(f"/proc/{made.node.pid}/root")


def metric(made: Bench, name: str, thing: str) -> float:
    found = re.search(rf'^{name}{{thing="{thing}"}} (\S+)$', made.node.agent_get("/metrics")[1], re.M)
    assert found is not None, name
    return float(found[1])


def told(made: Bench) -> list[str]:
    """What events of the node say of its files."""
    return [
        str(event["message"])
        for event in made.lab.kubernetes.events("default")
        if event["reason"] == "NodeFileSpoiled" and event["involvedObject"]["name"] == made.node.name
    ]


def ready(made: Bench) -> str:
    """ "" if it is, else why not."""
    status, said = made.node.agent_get("/readyz")
    return "" if status == 200 else said


def cni_status(made: Bench) -> str:
    """ "" if CNI's STATUS is good, else what it says."""
    done = made.node.exec(
        [f"/{PROGRAM}"],
        env={"CNI_COMMAND": "STATUS"},
        stdin='{"cniVersion": "1.1.0", "name": "terway", "type": "terway"}',
    )
    return done.stdout if done.returncode else ""


@contextmanager
def again_and_again(hand: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def spoil() -> None:
        while not over.wait(0.005):
            hand()

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("thing", "path"),
    [("cni-socket", SOCKET), ("cni-executable", PROGRAM), ("cni-configuration", CONF)],
)
def test_it_is_back_and_a_pod_comes_up(started: Bench, thing: str, path: str) -> None:
    before = metric(started, "terway_node_files_mended_total", thing)
    (root(started) / path).unlink()
    until((root(started) / path).exists, lambda there: there)
    assert metric(started, "terway_node_files_mended_total", thing) == before + 1
    assert metric(started, "terway_node_file_spoiled", thing) == 0
    started.lab.delete_pod(started.pod(f"after-{thing}"))
    assert ready(started) == ""
    assert cni_status(started) == ""
    until(partial(told, started), lambda said: any(f"{path} was removed" in one for one in said))


def test_a_hand_in_a_loop_is_said_and_not_run_after(started: Bench) -> None:
    """Readiness and STATUS say what is the matter for as long as it is."""
    path = root(started) / CONF
    with again_and_again(lambda: path.unlink(missing_ok=True)):
        said = until(partial(ready, started), lambda why: "spoiled again by somebody" in why)
        assert CONF in said
        assert "find out who does it" in cni_status(started)
        assert metric(started, "terway_node_file_spoiled", "cni-configuration") == 1
    until(partial(ready, started), lambda why: why == "")
    assert path.exists()
    assert cni_status(started) == ""


def test_eni_config_that_changes_is_told_and_takes_effect_at_the_next_start(started: Bench) -> None:
    before = metric(started, "terway_node_files_mended_total", "eni-config")
    started.configure(max_pool_size=3)
    until(lambda: metric(started, "terway_node_files_mended_total", "eni-config"), lambda now: now > before)
    until(partial(told, started), lambda said: any("is not what terwayd read" in one for one in said))
    assert ready(started) == ""


def test_a_run_directory_that_went_under_its_mount_ends_the_agent(lab: Lab) -> None:
    """As in its pod, when somebody removes the node's directory: a restarted container has it made anew."""
    with bench(lab) as made:
        made.start()
        there = root(made) / "run"
        (there / "eni-of-the-node").mkdir()
        made.node.stop_agent()
        made.node.exec(["mount", "--bind", "/run/eni-of-the-node", "/run/eni"], check=True)
        made.start()
        for name in ("eni.socket", "eni_debug.socket"):
            (there / "eni-of-the-node" / name).unlink()
        (there / "eni-of-the-node").rmdir()
        until(made.node.agent_log, lambda log: "mount of it is of no more use" in log)
        until(lambda: made.node.agent_pid, lambda pid: pid is None)
        made.node.exec(["umount", "/run/eni"], check=True)
        made.start()
        made.lab.delete_pod(made.pod("after"))

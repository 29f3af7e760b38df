"""A full disk, a cloud or metadata that is away: pods are deleted and run on, and new ones are told why."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lab.client import Lab
from lab.nodes.agent import Wait
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import Sandbox, bench, conf, sandbox
from tests.e2e.conftest import Bench
from tests.e2e.refusals import BLOCKED, refused, served
from tests.e2e.witnesses import assert_agree, cloud_enis, kernel, reaches, settled, state, until

LEDGER = "/var/lib/cni/terway"
FULL = ("database or disk is full", f"{LEDGER}/terway.db", f"free space there (see `df {LEDGER}`)")


@pytest.fixture
def node(lab: Lab) -> Iterator[Bench]:
    """Its ledger is on a disk of its own; with addresses to spare, not started."""
    with bench(lab, max_pool_size=5, ip_cool_down="0s") as made:
        made.node.exec(["mkdir", "-p", LEDGER])
        done = made.node.exec(["mount", "-t", "tmpfs", "-o", "size=1m", "ledger", LEDGER])
        assert done.returncode == 0, done.stderr
        yield made


def fill(made: Bench) -> None:
    done = made.node.exec(["dd", "if=/dev/zero", f"of={LEDGER}/ballast", "bs=1k"])
    assert "No space left" in done.stderr


def free(made: Bench) -> None:
    assert made.node.exec(["rm", f"{LEDGER}/ballast"]).returncode == 0


def readiness(made: Bench) -> tuple[int, str]:
    return made.node.agent_get("/readyz")


def status(made: Sandbox) -> tuple[int, str]:
    answer = made.call("STATUS", stdin=conf("1.1.0"), CNI_NETNS=None, CNI_CONTAINERID=None, CNI_IFNAME=None)
    return answer.code, answer.stdout


def test_full_disk(node: Bench) -> None:
    """Pods are deleted, none is added, everybody says why; once there is room all is as it should be."""
    node.start()
    steady, leaving, later = node.pod("steady"), node.pod("leaving"), node.pod("later")
    with sandbox(node) as raw:
        settled(node.node)
        assert readiness(node)[0] == 200
        assert status(raw) == (0, "")
        fill(node)
        error = refused(node, "web")
        assert error.code == 5, error
        assert all(words in str(error) for words in FULL), error
        assert "rollback" not in str(error)
        code, body = readiness(node)
        assert code == 503
        assert all(words in body for words in FULL), body
        assert "terway_ledger_writable 0.0" in node.node.agent_get("/metrics")[1]
        code, body = status(raw)
        assert (code, '"code": 50' in body) == (1, True), body
        assert all(words in body for words in FULL), body
        leaving.stop()
        leaving.remove()
        assert sorted(kernel(node.lab, node.node).links.values()) == sorted(
            [steady.container_id, later.container_id]
        )
        node.node.stop_agent(signal.SIGKILL)
        node.node.start_agent(env={"TERWAY_TEST_CLOCK": "1"}, wait=Wait.SOCKET)
        until(lambda: readiness(node), lambda told: all(words in told[1] for words in FULL))
        later.stop()
        later.remove()
        assert list(kernel(node.lab, node.node).links.values()) == [steady.container_id]
        assert reaches(steady, str(OUTSIDE_ADDRESS))
        free(node)
        node.advance(BLOCKED)
        until(lambda: readiness(node)[0], lambda code: code == 200)
        assert status(raw) == (0, "")
        for pod in (leaving, later):
            node.lab.kubernetes.delete_pod(node.node.name, pod.record.name)
        node.advance(400)
        until(lambda: state(node.node)["attachments"], lambda rows: len(rows) == 1)
        assert_agree(node.lab, node.node)
        served(node, "web")


def test_old_limits_and_no_cloud(node: Bench) -> None:
    """Limits of fifteen days ago serve: pods that need no cloud get their addresses at once."""
    node.start()
    steady, leaving = node.pod("steady"), node.pod("leaving")
    idle = settled(node.node)["pool"]["idle"]
    assert idle > 0
    node.node.stop_agent()
    forget_when_limits_were_read(node)
    node.lab.cloud.add_fault(instance_id=node.node.instance_id, drop="before")
    node.start()
    leaving.stop()
    leaving.remove()
    pods = [node.pod(f"idle-{number}") for number in range(idle + 1)]
    with pytest.raises(Exception, match="cannot be reached") as error:
        node.pod("one-too-many")
    assert "next try in" in str(error.value)
    assert all(reaches(pod, str(OUTSIDE_ADDRESS)) for pod in (steady, *pods))
    assert "terwayd is starting" not in str(error.value)
    until(node.node.agent_log, lambda log: "the old limits of ecs.g7.xlarge serve on" in log)


def test_disk_that_turned_read_only(node: Bench) -> None:
    """Also over a restart: pods run on and are deleted, and everybody says why none is added."""
    node.start()
    steady, leaving = node.pod("steady"), node.pod("leaving")
    with sandbox(node) as raw:
        settled(node.node)
        node.node.stop_agent(signal.SIGKILL)
        remount(node, "ro")
        node.node.start_agent(env={"TERWAY_TEST_CLOCK": "1"}, wait=Wait.SOCKET)
        code, body = until(lambda: readiness(node), lambda told: "read-only" in told[1])
        assert (code, f"{LEDGER} is read-only: mount it writable" in body) == (503, True), body
        assert "read-only" in status(raw)[1]
        assert "read-only" in str(refused(node, "web"))
        leaving.stop()
        leaving.remove()
        assert list(kernel(node.lab, node.node).links.values()) == [steady.container_id]
        assert reaches(steady, str(OUTSIDE_ADDRESS))
        remount(node, "rw")
        node.advance(BLOCKED)
        until(lambda: readiness(node)[0], lambda code: code == 200)
        until(lambda: state(node.node)["attachments"], lambda rows: len(rows) == 1)
        assert_agree(node.lab, node.node)
        served(node, "web")


def remount(made: Bench, how: str) -> None:
    done = made.node.exec(["mount", "-o", f"remount,{how}", LEDGER])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fault", [{"drop": "before"}, {"latency": 30.0}], ids=["broken", "silent"])
def test_cloud_away_at_a_restart(node: Bench, fault: dict[str, Any]) -> None:
    """Idle addresses are handed out at once, and the first pod that needs the cloud hears who is away."""
    node.start()
    steady = node.pod("steady")
    idle = settled(node.node)["pool"]["idle"]
    node.node.stop_agent()
    node.lab.cloud.add_fault(instance_id=node.node.instance_id, **fault)
    node.start()
    pods = [node.pod(f"idle-{number}") for number in range(idle)]
    assert "could not be asked" not in node.node.agent_log(), "nobody has waited for the cloud's time-out"
    error = refused(node, "web")
    assert error.code == 11
    assert "the cloud's API" in str(error)
    assert "DescribeNetworkInterfaces" in str(error), error
    assert "100.100.0.10" in str(error), error
    assert len(cloud_enis(node.lab, node.node)) == 1
    assert all(reaches(pod, str(OUTSIDE_ADDRESS)) for pod in (steady, *pods))
    node.lab.cloud.clear_faults()
    node.advance(BLOCKED)
    served(node, "web")


def forget_when_limits_were_read(made: Bench) -> None:
    program = """
import json, sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    (text,) = db.execute("SELECT value FROM fact WHERE name='limits'").fetchone()
    db.execute("UPDATE fact SET value=? WHERE name='limits'", (json.dumps({**json.loads(text), "at": 0.0}),))
"""
    made.node.python(program, f"{LEDGER}/terway.db")


def test_delete_while_the_start_waits(node: Bench) -> None:
    """Limits of another type cannot serve, so the start waits for the cloud; a DEL does not."""
    node.start()
    steady, leaving = node.pod("steady"), node.pod("leaving")
    settled(node.node)
    node.node.stop_agent()
    program = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.execute("DELETE FROM fact WHERE name='limits'")
"""
    node.node.python(program, f"{LEDGER}/terway.db")
    node.lab.cloud.add_fault(instance_id=node.node.instance_id, drop="before")
    node.node.start_agent(env={"TERWAY_TEST_CLOCK": "1"}, wait=Wait.SOCKET)
    leaving.stop()
    leaving.remove()
    assert list(kernel(node.lab, node.node).links.values()) == [steady.container_id]
    assert readiness(node)[0] == 503
    assert reaches(steady, str(OUTSIDE_ADDRESS))
    node.lab.cloud.clear_faults()
    until(lambda: readiness(node)[0], lambda code: code == 200)
    assert_agree(node.lab, node.node)
    assert len(state(node.node)["attachments"]) == 1


@pytest.mark.parametrize("fault", [{"latency": 20.0}, {"status": 503}], ids=["silent", "5xx"])
def test_metadata_away_at_the_first_add(lab: Lab, fault: dict[str, float]) -> None:
    """Nothing is made or frozen, and the ADD names who is away; later all is as if nothing had been."""
    with bench(lab, max_pool_size=0) as made:
        made.start()
        steady = made.pod("steady")
        settled(made.node)
        before = cloud_enis(made.lab, made.node)
        made.lab.cloud.add_metadata_fault(instance_id=made.node.instance_id, **fault)
        made.lab.cloud.reset_calls()
        error = refused(made, "web")
        assert error.code == 11
        assert "the instance metadata service failed" in str(error), error
        assert "100.100.100.200" in str(error), error
        assert not {"AssignPrivateIpAddresses", "CreateNetworkInterface"} & made.lab.cloud.calls().keys()
        assert cloud_enis(made.lab, made.node) == before
        assert state(made.node)["pool"]["frozen"] == 0
        made.lab.cloud.clear_faults()
        made.advance(BLOCKED)
        served(made, "web")
        assert len(cloud_enis(made.lab, made.node)) == 1
        assert reaches(steady, str(OUTSIDE_ADDRESS))


def test_metadata_falls_silent_after_the_cloud_has_given(lab: Lab) -> None:
    """The address that was assigned is not frozen: it is asked for again by its token, and used."""
    with bench(lab, max_pool_size=0) as made:
        made.start()
        made.pod("steady")
        settled(made.node)
        made.lab.cloud.add_metadata_fault(path="meta-data/network/interfaces/macs/0", status=503)
        error = refused(made, "web")
        assert "the instance metadata service failed" in str(error), error
        (eni,) = cloud_enis(made.lab, made.node).values()
        assert len(eni["addresses"]) == 2
        assert state(made.node)["pool"]["frozen"] == 0
        assert len(state(made.node)["operations"]) == 1
        made.lab.cloud.clear_faults()
        made.advance(BLOCKED)
        settled(made.node)
        served(made, "web")
        (eni,) = cloud_enis(made.lab, made.node).values()
        assert len(eni["addresses"]) == 2

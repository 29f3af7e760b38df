"""Pods of a real cluster that have no address: what makes them so, and what their user is shown.

The kubelet pauses 10 to 15 s between two tries of a sandbox, and that is what such a test takes. So each node
goes through causes of its own, side by side with the others: a *lane*.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from control.model.errors import Cause
from lab.client import Lab
from lab.kubernetes import kubectl
from lab.kubernetes.readiness import wait_until
from tests.e2e.cluster_site import quiet

PATIENCE = 120.0
"""Seconds: a throttled call waits for the next minute, and the kubelet for its next try."""
GRANT_ALL = ("AssignPrivateIpAddresses", "CreateNetworkInterface")
"""The two calls that bring addresses."""
_NAMESPACE = "default"

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A pod of ``node`` that is refused for ``cause`` while ``faults`` (fields of a lab's) hold."""

    name: str
    node: str
    cause: Cause
    words: tuple[str, ...]
    """Of the event: the object that is to blame, and what to do."""
    faults: tuple[dict[str, Any], ...] = ()
    tries: int = 1
    """How often the kubelet has to have tried before the cause goes."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Seen:
    """``described`` is what ``kubectl describe pod`` said before the cause went, ``address`` came after."""

    events: tuple[Event, ...]
    described: str
    address: str


def refused(actions: Sequence[str], code: str, message: str) -> tuple[dict[str, Any], ...]:
    """Faults that answer ``actions`` with an error of the cloud."""
    return tuple({"action": a, "code": code, "status": 403, "message": message} for a in actions)


def create(lab: Lab, node: str, *names: str) -> None:
    """Pods of ``node`` that sleep. The scheduler is not asked: what is wanted is this node."""
    sleeper = {"name": "c", "image": "localhost/busybox:1", "command": ["sleep", "10000"]}
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "containers": [{**sleeper, "imagePullPolicy": "Never"}],
    }
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": n}, "spec": spec} for n in names]
    kubectl.run(
        lab, ["apply", "-f", "-"], stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    )


def warnings(lab: Lab, name: str, reason: str = "AllocIPFailed") -> tuple[Event, ...]:
    """Of a pod, with this reason, the oldest first."""
    path = f"/api/v1/namespaces/{_NAMESPACE}/events?fieldSelector=involvedObject.name%3D{name}"
    items = lab.kubernetes.request("GET", path)["items"]
    found = [event for event in items if event["reason"] == reason]
    return tuple(sorted(found, key=lambda event: str(event["firstTimestamp"])))


def told(lab: Lab, name: str, cause: Cause, tries: int = 1) -> bool:
    """An event of the pod gives ``cause``, and did so at ``tries`` tries."""
    mine = [e for e in warnings(lab, name) if e["message"].startswith(f"{cause}: ")]
    return any(event["count"] >= tries for event in mine)


def address(lab: Lab, name: str) -> str:
    """Of a pod whose container runs, else ""."""
    status = lab.kubernetes.pod(_NAMESPACE, name)["status"]
    running = [s for s in status.get("containerStatuses", ()) if s["ready"] and s["restartCount"] == 0]
    return str(status.get("podIP", "")) if running else ""


def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Asked ten times a second: lanes share the processors with what they wait for."""
    wait_until(lambda: "" if condition() else f"not yet: {what}", quiet, PATIENCE)


def await_address(lab: Lab, name: str) -> str:
    """The pod starts without anybody touching it."""
    eventually(f"{name} has an address", lambda: bool(address(lab, name)))
    return address(lab, name)


@contextmanager
def faulty(lab: Lab, case: Case) -> Iterator[None]:
    """For the calls of the case's node alone."""
    instance = lab.node(case.node).instance_id
    numbers = [lab.cloud.add_fault(instance_id=instance, **fault) for fault in case.faults]
    try:
        yield
    finally:
        for number in numbers:
            lab.cloud.remove_fault(number)


def suffer(lab: Lab, case: Case) -> Seen:
    """The pod is made, refused, looked at, and starts when the cause has gone."""
    with faulty(lab, case):
        create(lab, case.node, case.name)
        eventually(f"{case.name} is told {case.cause}", lambda: told(lab, case.name, case.cause, case.tries))
        described = kubectl.run(lab, ["describe", "pod", case.name])
    found = await_address(lab, case.name)
    return Seen(warnings(lab, case.name), described, found)


def start_lanes(lab: Lab, cases: Sequence[Case], pool: ThreadPoolExecutor) -> dict[str, Future[Seen]]:
    """By case. Those of one node go one after the other, in their order."""
    outcomes: dict[str, Future[Seen]] = {case.name: Future() for case in cases}
    for node in dict.fromkeys(case.node for case in cases):
        pool.submit(_lane, lab, [case for case in cases if case.node == node], outcomes)
    return outcomes


def _lane(lab: Lab, cases: Sequence[Case], outcomes: dict[str, Future[Seen]]) -> None:
    for case in cases:
        try:
            outcomes[case.name].set_result(suffer(lab, case))
        except BaseException as exc:  # noqa: BLE001  # it is raised in the test of this case
            outcomes[case.name].set_exception(exc)

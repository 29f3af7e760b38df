"""The port to Kubernetes: the fake that the product ships, and the adapter over each API server there is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from control.model.errors import PodNotFound
from control.model.pod import EventType
from tests import kube_programs
from tests.contract.kube.kube import Kube
from tests.contract.kube.port import FakeWorld, ServerWorld, World, eventually

_KINDS = ["fake", "small", "real"] if kube_programs.directory() else ["fake", "small"]


@pytest.fixture(params=_KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made: World = FakeWorld()
        if request.param != "fake":
            server: Kube = request.getfixturevalue(request.param)
            made = ServerWorld(stack.enter_context(server.own_namespace()), tmp_path)
        stack.callback(made.close)
        eventually(made.port.synced, "the first list is read")
        yield made


def known(world: World, name: str) -> bool:
    return world.key(name) in world.port.pods()


def test_pods_of_the_node_come_and_go(world: World) -> None:
    assert world.port.pods() == {}
    world.create("elsewhere", node="another")
    uid = world.create("web", **{"k8s.aliyun.com/fast-path": "off"})
    eventually(lambda: known(world, "web"), "the pod is seen")
    found = world.port.pods()[world.key("web")]
    assert (found.uid, found.node) == (uid, world.node)
    assert found.annotations["k8s.aliyun.com/fast-path"] == "off"
    assert not known(world, "elsewhere")
    world.delete("web")
    eventually(lambda: not known(world, "web"), "its end is seen")


def test_a_pod_is_asked_for_by_uid(world: World) -> None:
    uid = world.create("web")
    port, key = world.port, world.key("web")
    assert asyncio.run(port.pod(key, uid)).uid == uid
    assert asyncio.run(port.pod(key, None)).uid == uid
    for asked in ((key, "another"), (world.key("nobody"), None)):
        with pytest.raises(PodNotFound):
            asyncio.run(port.pod(*asked))
    assert asyncio.run(port.exists(key, uid))
    assert not asyncio.run(port.exists(key, "another"))
    world.delete("web")
    assert not asyncio.run(port.exists(key, uid)), "a GET goes past the cache"


def test_a_pod_of_another_node_exists_and_is_not_in_the_cache(world: World) -> None:
    uid = world.create("elsewhere", node="another")
    assert asyncio.run(world.port.exists(world.key("elsewhere"), uid))
    assert asyncio.run(world.port.pod(world.key("elsewhere"), uid)).node == "another"
    assert not known(world, "elsewhere")


def test_the_cluster_has_one_name(world: World) -> None:
    assert asyncio.run(world.port.cluster_id()) == asyncio.run(world.port.cluster_id())


def test_what_is_handed_out_does_not_change_under_the_reader(world: World) -> None:
    before = world.port.pods()
    world.create("web")
    eventually(lambda: known(world, "web"), "the pod is seen")
    assert before == {}


class Listener:
    """``seen``: names of pods at each call."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.seen: list[set[str]] = []

    def __call__(self) -> None:
        self.seen.append({key.name for key in self._world.port.pods()})

    def has(self, *names: str) -> bool:
        return bool(self.seen) and self.seen[-1] == set(names)


def test_each_of_several_subscribers_hears_of_a_change(world: World) -> None:
    first, second = Listener(world), Listener(world)
    world.port.on_pods(first)
    world.create("web")
    eventually(lambda: first.has("web"), "the first hears")
    world.port.on_pods(second)
    eventually(lambda: second.has("web"), "who comes later hears of what there is")
    world.delete("web")
    eventually(lambda: first.has() and second.has(), "both hear")


def test_one_that_raises_harms_nobody_and_goes_on_hearing(world: World) -> None:
    other, calls = Listener(world), []

    def raises() -> None:
        calls.append({key.name for key in world.port.pods()})
        raise RuntimeError("a fault of somebody else's")

    world.port.on_pods(raises)
    world.port.on_pods(other)
    for name in ("a", "b"):
        world.create(name)
        eventually(lambda: bool(other.seen) and name in other.seen[-1], "the other hears")  # noqa: B023
        eventually(lambda: bool(calls) and name in calls[-1], "so does the one that raises")  # noqa: B023


def test_one_that_hangs_harms_nobody(world: World) -> None:
    other, go_on, hanging = Listener(world), threading.Event(), threading.Event()
    after: list[set[str]] = []

    def hangs() -> None:
        hanging.set()
        go_on.wait(120)
        after.append({key.name for key in world.port.pods()})

    world.port.on_pods(hangs)
    world.port.on_pods(other)
    world.create("a")
    assert hanging.wait(120)
    world.create("b")
    eventually(lambda: other.has("a", "b"), "the other hears of everything")
    assert known(world, "b"), "the watch itself goes on"
    go_on.set()
    eventually(lambda: bool(after) and after[-1] == {"a", "b"}, "what it missed it hears at last")


def test_who_has_ended_his_subscription_is_not_called(world: World) -> None:
    ended, other = Listener(world), Listener(world)
    end = world.port.on_pods(ended)
    world.port.on_pods(other)
    world.create("a")
    eventually(lambda: ended.has("a") and other.has("a"), "both hear")
    end()
    end()
    count = len(ended.seen)
    world.create("b")
    eventually(lambda: other.has("a", "b"), "the other still does")
    assert len(ended.seen) == count


def test_services_are_told_to_whoever_asks_and_to_nobody_before(world: World) -> None:
    assert world.port.service_addresses() is None
    world.service("203.0.113.77")
    woken = [threading.Event(), threading.Event()]
    for one in woken:
        world.port.on_services(one.set)
    assert all(one.wait(120) for one in woken)

    def has(address: str) -> bool:
        return ip_address(address) in (world.port.service_addresses() or ())

    eventually(lambda: has("203.0.113.77"), "the external address is known")
    found = world.port.service_addresses()
    assert world.port.service_addresses() is found, "what has not changed is the same set"
    for one in woken:
        one.clear()
    world.service("203.0.113.78")
    eventually(lambda: has("203.0.113.78"), "the other too")
    assert all(one.wait(120) for one in woken)


def test_events_of_one_topic_are_one_and_say_the_latest(world: World) -> None:
    uid = world.create("web")
    pod = asyncio.run(world.port.pod(world.key("web"), uid))
    for message in ("first", "second"):
        world.port.event(pod, EventType.WARNING, "Tested", message, topic="t")
        eventually(
            lambda: any(e.reason == "Tested" and e.message == message for e in world.events()),  # noqa: B023
            "the event is written",
        )
    (found,) = [e for e in world.events() if e.reason == "Tested"]
    assert (found.about, found.message, found.count) == (str(world.key("web")), "second", 2)
    world.port.event(None, EventType.NORMAL, "OfTheNode", "here")
    eventually(lambda: any(e.reason == "OfTheNode" for e in world.events()), "an event of the node")
    assert [e.about for e in world.events() if e.reason == "OfTheNode"] == ["node"]


def test_annotations_are_added_to_those_of_others(world: World) -> None:
    uid = world.create("web")
    world.annotate("web", {"others": "own"})
    pod = asyncio.run(world.port.pod(world.key("web"), uid))
    world.port.annotate(pod, {"k8s.aliyun.com/pod-ips": "10.0.0.1"})
    eventually(lambda: world.annotations("web").get("k8s.aliyun.com/pod-ips") == "10.0.0.1", "it is written")
    assert world.annotations("web")["others"] == "own"
    eventually(
        lambda: world.port.pods()[world.key("web")].annotations.get("k8s.aliyun.com/pod-ips") == "10.0.0.1",
        "it is seen",
    )


def test_a_pod_that_was_made_anew_is_not_annotated_in_the_old_ones_place(world: World) -> None:
    uid = world.create("web")
    old = asyncio.run(world.port.pod(world.key("web"), uid))
    world.delete("web")
    new = world.create("web")
    world.port.annotate(old, {"k8s.aliyun.com/pod-ips": "10.0.0.1"})
    other = asyncio.run(world.port.pod(world.key("web"), new))
    world.port.annotate(other, {"k8s.aliyun.com/marks": "after"})
    eventually(lambda: "k8s.aliyun.com/marks" in world.annotations("web"), "the new one's is written")
    assert "k8s.aliyun.com/pod-ips" not in world.annotations("web")

"""An API server that restarts, forgets and lags: what subscribers see has no pod missing that is there."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from control.kube.adapter import KubernetesAdapter
from control.kube.cache import PodCache
from control.model.pod import Pod
from lab.kube.server import ServerOptions
from tests.unit.control_kube.cluster import NODE, Cluster, eventually, key

STAY = tuple(f"stay-{number}" for number in range(20))


@contextmanager
def none_is_ever_missing(adapter: KubernetesAdapter) -> Iterator[None]:
    """Whoever looks, at whatever moment, sees all of ``STAY``."""
    missing: list[set[str]] = []
    over = threading.Event()

    def look() -> None:
        there = {one.name for one in adapter.pods()}
        if not there.issuperset(STAY):
            missing.append(set(STAY) - there)

    def looking() -> None:
        while not over.is_set():
            look()

    end = adapter.on_pods(look)
    thread = threading.Thread(target=looking)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        end()
    assert missing == []


@pytest.mark.parametrize("as_status", [False, True])
def test_restarts_compactions_and_bookmarks(as_status: bool) -> None:
    cluster = Cluster(ServerOptions(gone_as_status=as_status, bookmark_every=0.02))
    try:
        for name in STAY:
            cluster.create(name)
        adapter = cluster.synced(watch_seconds=1)
        order = random.Random(7)
        with none_is_ever_missing(adapter):
            for number in range(12):
                what = order.choice(("restart", "compact", "both", "elsewhere"))
                if what in ("restart", "both"):
                    cluster.away()
                if number:
                    cluster.remove(f"goes-{number - 1}")
                cluster.create(f"goes-{number}")
                cluster.create(f"elsewhere-{number}", node="node2")
                if what in ("compact", "both"):
                    cluster.store.history.compact()
                if what in ("restart", "both"):
                    cluster.back()
                wanted = {*map(key, STAY), key(f"goes-{number}")}
                eventually(lambda: set(adapter.pods()) == wanted, "the cache has caught up")  # noqa: B023
    finally:
        cluster.close()


def test_a_list_that_breaks_off_changes_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer ends in the middle, again and again: half of a list is no list."""
    for name in STAY:
        cluster.create(name)
    adapter = cluster.synced()
    read = PodCache.read
    broken: list[int] = []

    def breaks(cache: PodCache, value: dict[str, object]) -> Pod:
        pod = read(cache, value)
        if pod.key.name == STAY[7] and len(broken) < 5:
            broken.append(1)
            raise ValueError("the answer makes no sense from here on")
        return pod

    with none_is_ever_missing(adapter):
        cluster.away()
        monkeypatch.setattr(PodCache, "read", breaks)
        cluster.store.history.compact()
        cluster.create("new")
        cluster.store.history.compact()
        cluster.back()
        eventually(lambda: key("new") in adapter.pods(), "the whole list is read at last")
    assert broken


def pod(uid: str) -> Pod:
    return Pod(key("p"), uid, NODE)


Late = Callable[[PodCache], None]


@pytest.mark.parametrize(
    "late",
    [
        lambda cache: cache.remove(pod("old"), 15),
        lambda cache: cache.put(pod("old"), 14),
        lambda cache: cache.replace((pod("old"),), 14),
        lambda cache: cache.replace((), 15),
    ],
    ids=["the old one's end", "the old one's last state", "a list with the old one", "a list without"],
)
def test_what_a_get_has_shown_is_not_taken_back_by_what_is_older(late: Late) -> None:
    """An ADD looks up a pod made anew before the watch, which lags, has told that the old one ended."""
    cache = PodCache()
    cache.replace((pod("old"),), 10)
    cache.offer(pod("new"), 16)
    late(cache)
    assert cache.pods[key("p")].uid == "new"
    cache.put(pod("new"), 16)
    cache.remove(pod("new"), 17)
    assert not cache.pods


def test_what_a_get_has_shown_goes_with_a_list_that_is_newer() -> None:
    cache = PodCache()
    cache.replace((), 10)
    cache.offer(pod("new"), 16)
    cache.replace((), 17)
    assert not cache.pods
    cache.put(pod("newer"), 18)
    assert cache.pods[key("p")].uid == "newer"


def test_a_server_that_was_restored_counts_from_earlier_on() -> None:
    """Nothing that a GET has shown before stays for as long as it takes to count up to there again."""
    cache = PodCache()
    cache.replace((), 1000)
    cache.offer(pod("lost"), 1001)
    cache.replace((), 500)
    assert not cache.pods
    assert cache.position == 500

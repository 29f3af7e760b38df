"""What only the lab's small server has: a switch, a memory of requests, a bounded history."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import pytest
import urllib3
from kubernetes import client

from lab.kube.history import ChangeType, Compacted, History, Raced
from lab.kube.resources import CONFIGMAPS, NAMESPACES, PODS
from lab.kube.server import KubeServer, ServerOptions
from lab.kube.status import ApiError
from lab.kube.store import Preconditions, Store, Target
from tests.contract.kube.kube import Kube


def kube_of(port: int, store: Store) -> Kube:
    api = client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}"))
    return Kube(api, store.history.compact, "default")


@pytest.fixture
def small() -> Iterator[KubeServer]:
    server = KubeServer(Store())
    try:
        yield server
    finally:
        server.stop()


def test_stop_ends_watches_and_start_goes_on(small: KubeServer) -> None:
    port = small.start("127.0.0.1", 0)
    kube = kube_of(port, small.store)
    kube.configmap("a")
    with kube.watch("configmaps") as events:
        assert next(events)["type"] == "ADDED"
        small.stop()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            next(events)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5)
    assert small.start("127.0.0.1", port) == port
    assert kube.request("GET", "configmaps/a").status == 200


def test_starting_twice_is_refused_and_stopping_twice_is_not(small: KubeServer) -> None:
    small.start("127.0.0.1", 0)
    with pytest.raises(RuntimeError, match="already listens"):
        small.start("127.0.0.1", 0)
    small.stop()
    small.stop()


def test_forgotten_revision_as_http_status() -> None:
    server = KubeServer(Store(), ServerOptions(gone_as_status=True))
    try:
        kube = kube_of(server.start("127.0.0.1", 0), server.store)
        kube.configmap("a")
        kube.compact()
        answer = kube.request("GET", "configmaps?watch=true&resourceVersion=1")
        assert answer.summary == (410, "Expired")
    finally:
        server.stop()


def test_requests_are_remembered(small: KubeServer) -> None:
    kube = kube_of(small.start("127.0.0.1", 0), small.store)
    kube.request("GET", "pods?limit=1")
    assert small.requests == (("GET", "/api/v1/namespaces/default/pods?limit=1"),)


def test_namespace_takes_its_objects_along() -> None:
    store = Store()
    store.create(Target(NAMESPACES), {"metadata": {"name": "n"}})
    for resource in (CONFIGMAPS, PODS):
        store.create(Target(resource, "n"), {"metadata": {"name": "a", "finalizers": ["example.com/a"]}})
        store.create(Target(resource, "default"), {"metadata": {"name": "a"}})
    store.delete(Target(NAMESPACES, "", "n"), Preconditions())
    for resource in (CONFIGMAPS, PODS):
        with pytest.raises(ApiError):
            store.get(Target(resource, "n", "a"))
        store.get(Target(resource, "default", "a"))


def test_clock_of_the_store_dates_objects() -> None:
    store = Store(now=lambda: 86400.0)
    stored = store.create(Target(CONFIGMAPS, "default"), {"metadata": {"name": "a"}})
    assert stored.value["metadata"]["creationTimestamp"] == "1970-01-02T00:00:00Z"


def test_history_keeps_between_depth_and_twice_that() -> None:
    history = History(depth=5)
    start = history.revision
    for number in range(11):
        history.write("things", ("", str(number)), {"metadata": {}}, expected=None)
    with pytest.raises(Compacted) as caught:
        history.changes("things", start, wait=0)
    assert caught.value.floor == start + 6
    revision, changes = history.changes("things", start + 6, wait=0)
    assert revision == start + 11
    assert [change.after.key[1] for change in changes] == ["6", "7", "8", "9", "10"]


def test_history_shows_the_past_until_it_is_compacted() -> None:
    history = History()
    first = history.write("things", ("", "a"), {"metadata": {}, "n": 1}, expected=None)
    history.write("things", ("", "a"), {"metadata": {}, "n": 2}, expected=first)
    then = history.revision
    second = history.get("things", ("", "a"))
    assert second is not None
    history.remove("things", second, second.value)
    assert history.snapshot("things")[1] == {}
    assert history.snapshot("things", then)[1][("", "a")].value["n"] == 2
    assert history.snapshot("things", first.revision)[1][("", "a")].value["n"] == 1
    _, changes = history.changes("things", 1, wait=0)
    assert [change.type for change in changes] == [ChangeType.ADDED, ChangeType.MODIFIED, ChangeType.DELETED]
    history.compact()
    with pytest.raises(Compacted):
        history.snapshot("things", then)


def test_slower_writer_loses() -> None:
    history = History()
    first = history.write("things", ("", "a"), {"metadata": {}}, expected=None)
    history.write("things", ("", "a"), {"metadata": {}}, expected=first)
    with pytest.raises(Raced):
        history.write("things", ("", "a"), {"metadata": {}}, expected=first)
    with pytest.raises(Raced):
        history.write("things", ("", "a"), {"metadata": {}}, expected=None)


def test_listening_asks_no_name_server(small: KubeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("the name of the host was looked up")

    for function in ("getfqdn", "gethostbyaddr", "getnameinfo"):
        monkeypatch.setattr(socket, function, asked)
    kube = kube_of(small.start("127.0.0.1", 0), small.store)
    kube.configmap("a")

"""Events and annotations: what arrives, what is merged, what is dropped, and that nobody waits for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from control.kube.adapter import KubernetesAdapter
from control.kube.connection import Connection
from control.kube.notes import EventKey, EventNote, Involved, PatchKey, PatchNote, event_name
from control.kube.outbox import Outbox
from control.model.pod import EventType, Pod
from lab.kube.resources import EVENTS
from lab.kube.store import Preconditions, Target
from tests.unit.control_kube.cluster import NODE, Cluster, eventually, key

ADDRESS = "k8s.aliyun.com/pod-ips"


def pod(cluster: Cluster, name: str = "p") -> Pod:
    return Pod(key(name), cluster.create(name), NODE)


def warn(adapter: KubernetesAdapter, target: Pod | None, message: str = "no address") -> None:
    adapter.event(target, EventType.WARNING, "AllocIPFailed", message)


def _has_sent(adapter: KubernetesAdapter, count: int) -> bool:
    return adapter.counts().outbox.sent == count


def test_event_on_a_pod(cluster: Cluster) -> None:
    adapter = cluster.synced()
    target = pod(cluster)
    warn(adapter, target)
    eventually(lambda: len(cluster.events()) == 1, "the event is there")
    (event,) = cluster.events()
    assert event["metadata"]["namespace"] == "default"
    assert event["involvedObject"] == {
        "kind": "Pod",
        "namespace": "default",
        "name": "p",
        "uid": target.uid,
        "apiVersion": "v1",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "AllocIPFailed", "no address")
    assert event["source"] == {"component": "terway-daemon", "host": NODE}
    assert event["count"] == 1
    assert event["firstTimestamp"] == event["lastTimestamp"]


def test_event_on_the_node(cluster: Cluster) -> None:
    adapter = cluster.synced()
    adapter.event(None, EventType.NORMAL, "VirtualModeChanged", "veth")
    eventually(lambda: len(cluster.events()) == 1, "the event is there")
    (event,) = cluster.events()
    assert event["involvedObject"] == {"kind": "Node", "name": NODE, "uid": NODE, "apiVersion": "v1"}
    assert event["metadata"]["namespace"] == "default"


def test_repeated_event_counts_up(cluster: Cluster) -> None:
    adapter = cluster.synced()
    target = pod(cluster)
    for expected in (1, 2, 3):
        warn(adapter, target)
        eventually(partial(_has_sent, adapter, expected), "it was sent")
        assert [event["count"] for event in cluster.events()] == [expected]
    warn(adapter, target, "another message")
    eventually(lambda: len(cluster.events()) == 2, "another message is another event")
    assert cluster.count("/events", "POST") == 2


def test_events_of_one_topic_are_one_with_the_latest_message(cluster: Cluster) -> None:
    """aws 3415: a pod that waits for an address is one line, and the line says the next try of now."""
    adapter = cluster.synced()
    target = pod(cluster)

    def refuse(message: str, topic: str) -> None:
        adapter.event(target, EventType.WARNING, "AllocIPFailed", message, topic=topic)

    for turn, seconds in enumerate((5, 10, 20), 1):
        refuse(f"next try in {seconds} s, request {turn}", "VSwitchFull")
        eventually(partial(_has_sent, adapter, turn), "it was sent")
    (event,) = cluster.events()
    assert (event["count"], event["message"]) == (3, "next try in 20 s, request 3")
    refuse("next try in 5 s, request 4", "Throttled")
    eventually(lambda: len(cluster.events()) == 2, "another topic is another event")


def test_of_what_waits_under_one_topic_the_latest_message_goes_out(cluster: Cluster) -> None:
    adapter = cluster.adapter()
    for seconds in (5, 10):
        told = f"next try in {seconds} s"
        adapter.event(None, EventType.WARNING, "AllocIPFailed", told, topic="VSwitchFull")
    adapter.start()
    eventually(lambda: adapter.counts().outbox.sent == 1, "it was sent")
    assert [(e["count"], e["message"]) for e in cluster.events()] == [(2, "next try in 10 s")]


def test_event_that_expired_is_made_anew(cluster: Cluster) -> None:
    adapter = cluster.synced()
    target = pod(cluster)
    warn(adapter, target)
    eventually(lambda: len(cluster.events()) == 1, "the event is there")
    old = cluster.events()[0]["metadata"]["name"]
    cluster.store.delete(Target(EVENTS, "default", old), Preconditions())
    warn(adapter, target)
    eventually(lambda: len(cluster.events()) == 1, "a new event is there")
    assert cluster.events()[0]["metadata"]["name"] != old
    assert cluster.events()[0]["count"] == 1


def test_what_waits_is_merged(cluster: Cluster) -> None:
    adapter = cluster.adapter()
    target, other = pod(cluster), pod(cluster, "other")
    for turn in range(5):
        warn(adapter, target)
        adapter.annotate(target, {ADDRESS: f"10.0.0.{turn}", f"k8s.aliyun.com/{turn}": "x"})
    adapter.annotate(other, {ADDRESS: "10.0.0.9"})
    assert adapter.counts().outbox.merged == 8
    adapter.start()
    eventually(lambda: adapter.counts().outbox.sent == 3, "three requests were made")
    assert [event["count"] for event in cluster.events()] == [5]
    assert cluster.annotations("p") == {ADDRESS: "10.0.0.4"} | {f"k8s.aliyun.com/{i}": "x" for i in range(5)}
    assert cluster.annotations("other") == {ADDRESS: "10.0.0.9"}
    assert cluster.count("/pods/p", "PATCH") == 1


def test_notes_wait_for_a_server_that_is_away(cluster: Cluster) -> None:
    target = pod(cluster)
    adapter = cluster.synced()
    cluster.away()
    warn(adapter, target)
    adapter.annotate(target, {ADDRESS: "10.0.0.1"})
    warn(adapter, target)
    adapter.annotate(target, {ADDRESS: "10.0.0.2"})
    cluster.back()
    eventually(lambda: adapter.counts().outbox.sent == 2, "both arrived")
    assert [event["count"] for event in cluster.events()] == [2]
    assert cluster.annotations("p") == {ADDRESS: "10.0.0.2"}


def test_newer_pod_is_not_annotated(cluster: Cluster) -> None:
    old = pod(cluster)
    cluster.remove("p")
    cluster.create("p")
    adapter = cluster.synced()
    adapter.annotate(old, {ADDRESS: "10.0.0.1"})
    eventually(lambda: adapter.counts().outbox.refused == 1, "the patch was refused")
    assert cluster.annotations("p") == {}


def test_pod_that_is_gone_is_not_annotated(cluster: Cluster) -> None:
    gone = pod(cluster)
    cluster.remove("p")
    adapter = cluster.synced()
    adapter.annotate(gone, {ADDRESS: "10.0.0.1"})
    eventually(lambda: adapter.counts().outbox.refused == 1, "the patch was refused")


def test_overflow_drops_the_oldest_and_counts(cluster: Cluster) -> None:
    adapter = cluster.adapter(outbox_size=3)
    pods = [pod(cluster, f"p{i}") for i in range(5)]
    for turn, target in enumerate(pods):
        adapter.annotate(target, {ADDRESS: f"10.0.0.{turn}"})
    assert adapter.counts().outbox.dropped == 2
    adapter.start()
    eventually(lambda: adapter.counts().outbox.sent == 3, "what was left arrived")
    assert [bool(cluster.annotations(f"p{i}")) for i in range(5)] == [False, False, True, True, True]


def test_each_note_is_sent_once_after_an_outage(cluster: Cluster) -> None:
    first, *others = [pod(cluster, f"p{i}") for i in range(3)]
    cluster.away()
    adapter = cluster.adapter()
    adapter.annotate(first, {ADDRESS: "10.0.0.0"})
    adapter.start()
    eventually(lambda: adapter.counts().outbox.retried > 0, "it was tried and put back")
    for target in others:
        adapter.annotate(target, {ADDRESS: "10.0.0.1"})
    cluster.back()
    eventually(lambda: adapter.counts().outbox.sent == 3, "all arrived")
    patched = [path for method, path in cluster.server.requests if method == "PATCH"]
    assert sorted(path.rsplit("/", 1)[1] for path in patched) == ["p0", "p1", "p2"]


def test_close_sends_what_still_waits(cluster: Cluster) -> None:
    adapter = cluster.synced()
    target = pod(cluster)
    warn(adapter, target)
    adapter.close_now()
    assert len(cluster.events()) == 1


def test_close_does_not_wait_for_a_server_that_is_away(cluster: Cluster) -> None:
    adapter = cluster.synced()
    target = pod(cluster)
    cluster.away()
    warn(adapter, target)
    adapter.close_now()
    adapter.close_now()
    assert cluster.events() == []


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers its n-th request with the n-th status; gives its URL and the bodies it got."""
    left = list(statuses)
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(left.pop(0))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_temporary_refusal_is_tried_again(cluster: Cluster, status: int) -> None:
    with answering(status, 200) as (url, bodies):
        config = cluster.config(url=url)
        outbox = Outbox(config, Connection(config))
        outbox.put(PatchNote(PatchKey(key("p"), "u"), {"a": "b"}))
        outbox.start()
        eventually(lambda: outbox.counts.sent == 1, "the second try was taken")
        outbox.stop()
    assert len(bodies) == 2
    assert outbox.counts.refused == 0


@pytest.mark.parametrize("status", [400, 404, 422])
def test_lasting_refusal_is_not(cluster: Cluster, status: int) -> None:
    with answering(status, 200) as (url, bodies):
        config = cluster.config(url=url)
        outbox = Outbox(config, Connection(config))
        outbox.put(PatchNote(PatchKey(key("p"), "u"), {"a": "b"}))
        outbox.put(PatchNote(PatchKey(key("q"), "u"), {"a": "b"}))
        outbox.start()
        eventually(lambda: outbox.counts.sent == 1, "the next note was sent")
        outbox.stop()
    assert len(bodies) == 2
    assert outbox.counts.refused == 1


def test_what_is_denied_for_good_is_given_up_and_holds_nothing_up(cluster: Cluster) -> None:
    """A server that has just started denies everything for a moment; a missing right stays missing."""
    with answering(*[403] * 20) as (url, bodies):
        config = cluster.config(url=url)
        outbox = Outbox(config, Connection(config))
        outbox.put(PatchNote(PatchKey(key("p"), "u"), {"a": "b"}))
        outbox.put(PatchNote(PatchKey(key("q"), "u"), {"a": "b"}))
        outbox.start()
        eventually(lambda: outbox.counts.refused == 2, "both are given up")
        outbox.stop()
    assert len(bodies) == 16
    assert outbox.counts.sent == 0


def test_what_waits_goes_together_though_it_is_never_calm(cluster: Cluster) -> None:
    """A hundred pods that are refused again and again: each one's event once waited for the others'."""
    with answering(*[200] * 500) as (url, _bodies):
        config = replace(cluster.config(url=url), calm=60.0, calm_limit=0.5)
        outbox = Outbox(config, Connection(config))
        for i in range(40):
            outbox.put(PatchNote(PatchKey(key(f"p-{i}"), "u"), {"a": "b"}))
        outbox.start()
        eventually(lambda: outbox.counts.sent == 40, "all were sent")
        outbox.stop()


class Server:
    """Remembers what it was asked. ``answers``: part of a request to status and body."""

    def __init__(self, answers: dict[str, tuple[int, dict[str, Any]]]) -> None:
        self.asked: list[str] = []
        self.hang = Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.asked.append(f"{self.path} {body}")
                found = (a for part, a in answers.items() if part in outer.asked[-1])
                status, answer = next(found, (200, {}))
                if not status:
                    outer.hang.wait(20)
                data = json.dumps(answer).encode()
                self.send_response(status or 504)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_PATCH = do_POST = _any

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def count(self, part: str) -> int:
        return sum(part in asked for asked in self.asked)

    def close(self) -> None:
        self.hang.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def sending(
    cluster: Cluster, answers: dict[str, tuple[int, dict[str, Any]]], **changes: Any
) -> Iterator[tuple[Server, Outbox]]:
    server = Server(answers)
    config = replace(
        cluster.config(url=server.url), backoff_first=30.0, backoff_cap=30.0, calm=0.0, **changes
    )
    outbox = Outbox(config, Connection(config))
    try:
        yield server, outbox
    finally:
        outbox.stop()
        server.close()


def event_of(name: str, reason: str = "AllocIPFailed", *, namespace: str = "default") -> EventNote:
    involved = Involved("Pod", namespace, name, f"uid-{name}")
    return EventNote(EventKey(involved, EventType.WARNING, reason, reason), "no address", 1.0, 1.0)


TERMINATING = {
    "kind": "Status",
    "reason": "Forbidden",
    "message": 'pods "x" is forbidden: unable to create new content in namespace gone',
    "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]},
}


@pytest.mark.parametrize("answer", [(403, TERMINATING), (403, {}), (429, {}), (500, {}), (0, {})])
def test_one_object_holds_up_no_other(cluster: Cluster, answer: tuple[int, dict[str, Any]]) -> None:
    """In a namespace that goes, or behind a webhook that is broken: pauses of half a minute are its own."""
    with sending(cluster, {"/namespaces/gone/": answer}, send_timeout=0.5) as (server, outbox):
        for turn in range(4):
            outbox.put(event_of(f"gone-{turn}" if answer[1] else "gone", f"R{turn}", namespace="gone"))
            outbox.put(event_of(f"p-{turn}"))
        outbox.put(PatchNote(PatchKey(key("q"), "u"), {"a": "b"}))
        outbox.start()
        eventually(lambda: outbox.counts.sent == 5, "all others were sent")
        assert server.count("/namespaces/default/") == 5


def test_a_namespace_that_goes_is_a_final_refusal(cluster: Cluster) -> None:
    with sending(cluster, {"/namespaces/gone/": (403, TERMINATING)}) as (server, outbox):
        for turn in range(4):
            outbox.put(event_of(f"p-{turn}", namespace="gone"))
        outbox.start()
        eventually(lambda: outbox.counts.refused == 4, "each was refused")
        assert server.count("/namespaces/gone/") == 4, "and asked for once"
        assert outbox.counts.retried == 0


def test_a_denial_is_final_once_the_server_has_taken_something_else(cluster: Cluster) -> None:
    """It has read its roles, then: eight tries are for one that starts."""
    with sending(cluster, {"/pods/p": (403, {})}) as (server, outbox):
        outbox._config = replace(outbox._config, backoff_first=0.01, backoff_cap=0.02)
        outbox.put(PatchNote(PatchKey(key("p"), "u"), {"a": "b"}))
        outbox.put(event_of("other"))
        outbox.start()
        eventually(lambda: outbox.counts.refused == 1, "it is given up")
        assert server.count("/pods/p") == 2
        assert outbox.counts.sent == 1


def test_a_server_that_is_away_is_not_asked_by_every_object(cluster: Cluster) -> None:
    """Two objects that fail say that it is the server; fifty do not ask at once."""
    with sending(cluster, {"/namespaces/": (503, {})}) as (server, outbox):
        for turn in range(50):
            outbox.put(event_of(f"p-{turn}"))
        outbox.start()
        eventually(lambda: outbox.counts.retried >= 2, "two were tried")
        assert len(server.asked) == 2


def test_the_flood_of_one_pod_takes_nobodys_place(cluster: Cluster) -> None:
    with sending(cluster, {}, outbox_size=20) as (server, outbox):
        for turn in range(5):
            outbox.put(event_of(f"quiet-{turn}"))
        for turn in range(500):
            outbox.put(event_of("flood", f"R{turn}"))
        assert outbox.counts.dropped == 485
        outbox.start()
        eventually(lambda: outbox.counts.sent == 20, "what was kept was sent")
        assert all(server.count(f"quiet-{turn}") for turn in range(5))
        assert server.count('"R499"') == 1, "of the flood the latest is kept"


@pytest.mark.parametrize("length", [1, 236, 237, 250, 253])
def test_the_name_of_an_event_is_one_that_the_api_takes(length: int) -> None:
    name = ("a" * 60 + ".") * 4 + "b" * 20
    name = name[:length].rstrip(".-").ljust(length, "c")
    made, other = event_name(name), event_name(name)
    assert made != other
    assert len(made) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", made), made
    if length <= 236:
        assert made.startswith(f"{name}.")


def test_names_that_begin_alike_differ() -> None:
    first, second = event_name("a" * 250 + "x"), event_name("a" * 250 + "y")
    assert first.rsplit(".", 1)[0] != second.rsplit(".", 1)[0]


def test_event_on_a_pod_with_the_longest_name(cluster: Cluster) -> None:
    adapter = cluster.synced()
    target = pod(cluster, "p" * 253)
    warn(adapter, target)
    eventually(lambda: len(cluster.events()) == 1, "the event is there")
    (event,) = cluster.events()
    assert len(event["metadata"]["name"]) <= 253
    assert event["involvedObject"]["name"] == "p" * 253

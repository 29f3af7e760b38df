"""Threads of those who listen: one each, and none is left when the watch is closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from control.kube.subscribers import Subscribers


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "told-changes"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_closing_ends_all_threads_and_who_comes_later_has_none() -> None:
    changes, heard, goes_on = Subscribers("changes"), threading.Event(), threading.Event()

    def slow() -> None:
        heard.set()
        goes_on.wait()

    ends = [changes.add(call, at_once=False) for call in (slow, lambda: None, lambda: None)]
    assert len(threads()) == 3
    ends[2]()
    until(lambda: len(threads()) == 2)
    changes.publish()
    assert heard.wait(30)
    changes.close()
    until(lambda: len(threads()) == 1)
    goes_on.set()
    until(lambda: not threads())
    late = changes.add(heard.clear, at_once=True)
    assert not threads()
    changes.publish()
    for end in (*ends, late):
        end()
    assert heard.is_set()

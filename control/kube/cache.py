"""This node's pods as the watch has shown them: what ``watcher`` keeps current.

The mapping is replaced and never changed, so a reader in the event loop needs no lock and may iterate at
leisure while the watcher writes. At 110 pods a copy takes 2 µs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from control.kube.pods import parse_pod
from control.model.ids import PodKey
from control.model.pod import Pod


def _nothing() -> None:
    pass


class PodCache:
    """Implements ``control.kube.watcher.Replica``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pods: Mapping[PodKey, Pod] = MappingProxyType({})
        self._offered: dict[PodKey, tuple[Pod, int]] = {}
        """By a GET, with the revision; the watch has not come that far."""
        self._position = 0
        self._synced = False
        self.on_change: Callable[[], None] = _nothing
        """Called by whoever changed the pods, after the change."""

    @property
    def pods(self) -> Mapping[PodKey, Pod]:
        """As of now; it does not change under the caller."""
        return self._pods

    @property
    def position(self) -> int:
        return self._position

    @property
    def synced(self) -> bool:
        return self._synced

    def read(self, value: Mapping[str, Any]) -> Pod:
        return parse_pod(value)

    def replace(self, pods: Iterable[Pod], position: int) -> None:
        """A list's answer. What a GET has shown since stays: the server's memory may lag behind."""
        with self._lock:
            back = position < self._position  # a server that was restored counts from earlier on
            kept = {} if back else self._offered
            self._offered = {key: one for key, one in kept.items() if one[1] > position}
            newer = {key: pod for key, (pod, _) in self._offered.items()}
            self._pods = MappingProxyType({**{pod.key: pod for pod in pods}, **newer})
            self._position = position
            self._synced = True
        self.on_change()

    def put(self, pod: Pod, revision: int) -> None:
        """An object that the watch has shown."""
        with self._lock:
            if not self._is_old(pod.key, revision):
                self._pods = MappingProxyType({**self._pods, pod.key: pod})
            self._position = max(self._position, revision)
        self.on_change()

    def remove(self, pod: Pod, revision: int) -> None:
        """By its key: a pod of that name is an older state of the same one, unless a GET has shown it."""
        with self._lock:
            if not self._is_old(pod.key, revision):
                self._pods = MappingProxyType({k: kept for k, kept in self._pods.items() if k != pod.key})
            self._position = max(self._position, revision)
        self.on_change()

    def advance(self, revision: int) -> None:
        """A bookmark: nothing happened up to ``revision``."""
        with self._lock:
            self._position = max(self._position, revision)

    def offer(self, pod: Pod, revision: int) -> None:
        """A GET's answer: taken only if the watch has not come that far.

        What is not newer than ``position`` the watch has shown already, and may have removed since;
        what is newer it will still show, its removal included, so nothing taken can stay for ever.
        """
        with self._lock:
            if not self._synced or revision <= self._position:
                return
            self._offered[pod.key] = pod, revision
            self._pods = MappingProxyType({**self._pods, pod.key: pod})
        self.on_change()

    def _is_old(self, key: PodKey, revision: int) -> bool:
        """Whether a GET has shown something newer. If not, the watch has come as far as the GET."""
        offered = self._offered.get(key)
        if offered is not None and revision < offered[1]:
            return True
        self._offered.pop(key, None)
        return False

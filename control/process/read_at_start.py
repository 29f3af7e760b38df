"""Files that are read once on purpose, and the word that they have changed since.

A setting may only take effect in the middle of a life if all that is derived from it follows.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


class ReadAtStart:
    """A thing that is kept (``control.process.keeper.Kept``): its change is told, once for each."""

    pods_need_it = False

    def __init__(self, name: str, *paths: Path) -> None:
        """``paths`` as they are read; one that is not there counts as empty."""
        self.name = name
        self._paths = paths
        self._known = self._digests()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of their directories: a ConfigMap is mounted as links to a directory that is exchanged."""
        return tuple(dict.fromkeys(path.with_name("*") for path in self._paths))

    def wrong(self) -> str:
        now = self._digests()
        changed = [path for path, one in now.items() if one != self._known[path]]
        return f"{', '.join(map(str, changed))} is not what terwayd read at its start" if changed else ""

    def mend(self) -> str:
        self._known = self._digests()
        return "it takes effect when terwayd is started anew (kubectl rollout restart daemonset/terway)"

    def _digests(self) -> dict[Path, str]:
        return {path: _digest(path) for path in self._paths}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as exc:
        return f"errno {exc.errno}"

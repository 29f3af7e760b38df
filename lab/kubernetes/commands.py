"""What a user types for a cluster, as messages name it."""

from __future__ import annotations

from lab.statedir import CLUSTER


def typed(name: str, word: str) -> str:
    """``./run cluster``, with ``word`` about cluster ``name``."""
    return " ".join(["./run cluster", *([f"--name {name}"] if name != CLUSTER else []), word])

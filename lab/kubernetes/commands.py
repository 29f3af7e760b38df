"""What a user types for a cluster, as messages name it."""

from __future__ import annotations

from lab.statedir import CLUSTER


def typed(name: str, word: str) -> str:
    """``./run cluster``, with ``word`` about cluster ``name``."""
    return " ".join(["./run cluster", *([f"--name {name}"] if name != CLUSTER else []), word])


def lab_typed(name: str, word: str, rest: str = "") -> str:
    """``./run lab``, with ``word`` about the lab that cluster ``name`` is."""
    return " ".join(filter(None, [f"./run lab {word} --name {name}", rest]))

"""What a user types for a lab, as messages name it: commands that exist, with the lab's name in them."""

from __future__ import annotations

from lab.statedir import DEFAULT_NAME


def typed(name: str, words: str, *rest: str) -> str:
    """``./run lab`` with ``words`` about lab ``name``, and ``rest`` behind them."""
    named = () if name == DEFAULT_NAME else (f"--name {name}",)
    return " ".join(("./run lab", words, *named, *rest))

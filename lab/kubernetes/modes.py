"""The network modes that a user may ask a cluster for, and the words that are refused."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """Values of ``eniip_virtual_type``."""

    POLICY_ROUTE = "PolicyRoute"
    IPVLAN = "IPVlan"
    """The agent falls back to policy routing as long as it is not built, and ``terway-cli mode`` says so."""


_NOT_BUILT = {
    "trunking": "trunking",
    "trunk": "trunking",
    "vpc": "VPC mode",
    "eni": "the mode of exclusive ENIs",
    "enionly": "the mode of exclusive ENIs",
    "exclusive": "the mode of exclusive ENIs",
    "exclusiveeni": "the mode of exclusive ENIs",
}
_CHOICE = f"choose {Mode.POLICY_ROUTE} (the default) or {Mode.IPVLAN}"


def mode_of(word: str) -> Mode:
    """In any case. Raises ValueError that says what there is."""
    plain = word.lower().replace("-", "").replace("_", "")
    for mode in Mode:
        if plain == mode.lower():
            return mode
    if named := _NOT_BUILT.get(plain):
        raise ValueError(f"--mode {word}: {named} is not built yet; {_CHOICE}")
    raise ValueError(f"--mode {word} is no network mode; {_CHOICE}")

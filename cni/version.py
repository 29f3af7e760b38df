"""The versions of the CNI specification that are spoken, and what sets them apart."""

from __future__ import annotations

import re
from enum import StrEnum


class CniVersion(StrEnum):
    """In order of age. ``terway.c`` says the same list in answer to VERSION; a test compares the two."""

    V0_3_0 = "0.3.0"
    V0_3_1 = "0.3.1"
    V0_4_0 = "0.4.0"
    V1_0_0 = "1.0.0"
    V1_1_0 = "1.1.0"

    def at_least(self, other: CniVersion) -> bool:
        return SUPPORTED.index(self) >= SUPPORTED.index(other)


SUPPORTED = tuple(CniVersion)

FALLBACK = "1.0.0"
"""Version of an error whose request did not say which one it speaks."""

_ECHOABLE = re.compile(r"[0-9A-Za-z.+-]{1,31}")


def echo(named: object) -> str:
    """The version to put in an error: the one named, supported or not, if it looks like a version at all."""
    return named if isinstance(named, str) and _ECHOABLE.fullmatch(named) else FALLBACK

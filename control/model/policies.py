"""The words of ``eni_selection_policy`` and ``vswitch_selection_policy``."""

from __future__ import annotations

from enum import StrEnum


class VSwitchPolicy(StrEnum):
    RANDOM = "random"
    ORDERED = "ordered"
    """Upstream's daemon treats it as ``most``."""
    MOST = "most"
    """The vSwitch with the most free addresses."""


class EniPolicy(StrEnum):
    MOST_IPS = "most_ips"
    """The fullest ENI serves the next address, so that others become empty and can go."""
    LEAST_IPS = "least_ips"
    """The emptiest does, to spread pods over ENIs."""

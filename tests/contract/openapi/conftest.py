"""The unmodified SDKs against the lab's servers: the fixture ``cloud`` is that of the lab's unit tests."""

from __future__ import annotations

from tests.unit.lab_cloud.conftest import clock, cloud, no_proxy, state

__all__ = ["clock", "cloud", "no_proxy", "state"]

"""Plugins of a configuration list as they stand in the file, whoever's they are."""

from __future__ import annotations

from collections.abc import Mapping

from cni.fields import Fields

Plugin = Mapping[str, object]


def type_of(plugin: Plugin) -> str:
    """The name of its executable; "" for none."""
    return str(Fields(plugin).value("type") or "")

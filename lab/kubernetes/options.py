"""The options that a cluster was brought up with, kept with it as long as it is up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lab.messages import LabError
from lab.statedir import LabDir

_FILE = "cluster.json"


def keep(directory: LabDir, given: Mapping[str, Any]) -> None:
    """``given``: plain values by the names of ``cluster.Wanted``."""
    (directory.root / _FILE).write_text(json.dumps(given))


def of(directory: LabDir) -> dict[str, Any]:
    """Raises LabError for a lab that is no cluster."""
    try:
        value: dict[str, Any] = json.loads((directory.root / _FILE).read_text())
    except FileNotFoundError as exc:
        raise LabError(
            f"lab {directory.name!r} is up and is no cluster; end it with `./run lab down --name "
            f"{directory.name}`, or choose another --name"
        ) from exc
    return value


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """ "" if a cluster that is up is the one that is wanted, else options as they are there."""
    other = [name for name, value in wanted.items() if there.get(name) != value]
    return ", ".join(_option(name, there.get(name)) for name in other)


def describe(there: Mapping[str, Any]) -> str:
    """The options that make one, as somebody would type them."""
    return " ".join(_option(name, value) for name, value in there.items() if name != "name" and value)


def _option(name: str, value: object) -> str:
    option = {"version": "kubernetes"}.get(name, name.replace("_", "-"))
    if isinstance(value, bool):
        return f"--{option}" if value else f"no --{option}"
    return f"--{option} {value}"

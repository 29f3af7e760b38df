"""Packages whose parts are imported one by one, without what the package itself would import.

``kubernetes`` imports on its own account the dynamic client, websockets, a watch of its own and, by way of
what reads a kubeconfig, OAuth: 7 MiB and two hundred modules that an agent with a service account never
calls.
A package that stands in ``sys.modules`` unexecuted finds its parts as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec, module_from_spec

BARE = ("kubernetes", "kubernetes.config", "kubernetes.utils")
"""A package comes before those in it."""


def register(names: Iterable[str] = BARE) -> None:
    """Packages that somebody has imported already stay whole, and one that is not installed stays away."""
    for name in names:
        spec = None if name in sys.modules else find_spec(name)
        if spec is not None:
            sys.modules[name] = module_from_spec(spec)

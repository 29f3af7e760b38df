"""Packages whose parts are imported one by one, without what the package itself would import.

``kubernetes`` imports on its own account the dynamic client, websockets, a watch of its own and, by way of
what reads a kubeconfig, OAuth: 7 MiB and two hundred modules that an agent with a service account never
calls.
A package that stands in ``sys.modules`` unexecuted finds its parts as ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from importlib import import_module
from importlib.util import LazyLoader, find_spec, module_from_spec
from types import ModuleType
from typing import Any

BARE = ("kubernetes", "kubernetes.config", "kubernetes.utils")
"""A package comes before those in it."""

_first = threading.Lock()


def register(names: Iterable[str] = BARE) -> None:
    """Packages that somebody has imported already stay whole, and one that is not installed stays away."""
    for name in names:
        spec = None if name in sys.modules else find_spec(name)
        if spec is not None:
            sys.modules[name] = module_from_spec(spec)


def defer_oauth() -> None:
    """What reads a kubeconfig imports OAuth, 5 MiB, for a provider whose token has to be renewed.

    It is imported when such a provider is met; who has imported it already has it whole.
    """
    if "requests_oauthlib" in sys.modules or "oauthlib.oauth2" in sys.modules:
        return
    spec = find_spec("oauthlib.oauth2")
    if spec is None or spec.loader is None or find_spec("requests_oauthlib") is None:
        return
    spec.loader = loader = LazyLoader(spec.loader)
    later = module_from_spec(spec)
    sys.modules[spec.name] = import_module("oauthlib").oauth2 = later  # type: ignore[attr-defined]
    loader.exec_module(later)
    stand_in = ModuleType("requests_oauthlib")
    stand_in.OAuth2Session = _session  # type: ignore[attr-defined]
    sys.modules[stand_in.__name__] = stand_in


def _session(*arguments: Any, **options: Any) -> Any:
    """The real one. Any thread may meet it first: the lazy loader bears one at a time."""
    with _first:
        if getattr(sys.modules.get("requests_oauthlib"), "OAuth2Session", None) is _session:
            del sys.modules["requests_oauthlib"]
        made = import_module("requests_oauthlib").OAuth2Session
    return made(*arguments, **options)

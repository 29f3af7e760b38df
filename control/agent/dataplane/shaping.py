"""Pods whose rates the chained ``bandwidth`` plugin limits, and what that asks of the fast path.

The plugin puts a token bucket at the root of the pod's host link, which the fast path would slip past, and
for the other direction an ingress qdisc, whose place clsact would take. So a limited pod goes by the node's
stack, and one that is limited in what it sends has no program at its link.
Source: containernetworking/plugins, meta/bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cni.chain import Plugin, type_of
from cni.fields import Fields
from control.model.pod import Pod

BANDWIDTH = "bandwidth"
INGRESS, EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"
"""Annotations, which the runtime hands to the plugin that declares the capability ``bandwidth``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which directions are limited, as the pod sees them, and what the pod asks for that nobody does."""

    ingress: bool = False
    egress: bool = False
    unheard: bool = False
    """The pod asks for a limit, and no plugin of the chain is told of it."""

    @property
    def any(self) -> bool:
        return self.ingress or self.egress


UNLIMITED = Limits()


def chained(plugins: Sequence[Plugin]) -> Plugin | None:
    """The bandwidth plugin among those of the runtime's file, None if there is none."""
    return next((plugin for plugin in plugins if type_of(plugin) == BANDWIDTH), None)


def limits(pod: Pod, plugin: Plugin | None) -> Limits:
    """``plugin`` as ``chained`` finds it."""
    asks = bool(pod.annotations.get(INGRESS)), bool(pod.annotations.get(EGRESS))
    if plugin is None:
        return Limits(unheard=True) if any(asks) else UNLIMITED
    fields = Fields(plugin)
    capabilities = fields.value("capabilities")
    heard = isinstance(capabilities, dict) and capabilities.get(BANDWIDTH) is True
    ingress, egress = (heard and one for one in asks)
    return Limits(
        ingress or bool(fields.value("ingressRate")),
        egress or bool(fields.value("egressRate")),
        unheard=any(asks) and not heard,
    )


def _no_plugins() -> Sequence[Plugin]:
    return ()


class Shaping:
    """``plugins``: those of the runtime's file as it is now."""

    def __init__(self, plugins: Callable[[], Sequence[Plugin]] = _no_plugins) -> None:
        self._plugins = plugins
        self._seen: Sequence[Plugin] = ()
        self._chained: Plugin | None = None
        """Of the file as it was last seen: every ADD asks."""

    def limits(self, pod: Pod) -> Limits:
        plugins = self._plugins()
        if plugins is not self._seen:
            self._seen, self._chained = plugins, chained(plugins)
        return limits(pod, self._chained)


def told(found: Limits, *, on_host: bool) -> str:
    """For the pod's event; "" if there is nothing to tell. ``on_host``: the pod has a link there to shape."""
    if found.any and not on_host:
        return (
            "the chained bandwidth plugin limits the pod, which has no link on the host that could be shaped"
        )
    if found.any:
        ways = " and ".join(w for w, on in (("receives", found.ingress), ("sends", found.egress)) if on)
        return f"the chained bandwidth plugin limits what the pod {ways}: its packets go by the node's stack"
    if found.unheard:
        return (
            f"{INGRESS} and {EGRESS} are not enforced: eni-config chains no bandwidth plugin "
            "with the capability bandwidth"
        )
    return ""

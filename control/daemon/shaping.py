"""Pods whose rates the chained ``bandwidth`` plugin limits, and what that asks of the fast path.

The plugin puts a token bucket at the root of the pod's host link, which the fast path would slip past, and
for the other direction an ingress qdisc, whose place clsact would take. So a limited pod goes by the node's
stack, and one that is limited in what it sends has no program at its link.
Source: containernetworking/plugins, meta/bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cni.fields import Fields
from control.config.cni_conf import Plugin, type_of
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


def limits(pod: Pod, plugins: Sequence[Plugin]) -> Limits:
    """``plugins`` are those of the runtime's file."""
    asks = bool(pod.annotations.get(INGRESS)), bool(pod.annotations.get(EGRESS))
    chained = next((plugin for plugin in plugins if type_of(plugin) == BANDWIDTH), None)
    if chained is None:
        return Limits(unheard=any(asks))
    fields = Fields(chained)
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

    def limits(self, pod: Pod) -> Limits:
        return limits(pod, self._plugins())


def told(found: Limits) -> str:
    """For the pod's event; "" if there is nothing to tell."""
    if found.any:
        ways = " and ".join(w for w, on in (("receives", found.ingress), ("sends", found.egress)) if on)
        return f"the chained bandwidth plugin limits what the pod {ways}: its packets go by the node's stack"
    if found.unheard:
        return (
            f"{INGRESS} and {EGRESS} are not enforced: eni-config chains no bandwidth plugin "
            "with the capability bandwidth"
        )
    return ""

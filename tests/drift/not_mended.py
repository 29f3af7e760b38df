"""What a foreign hand does that the agent does not put back today, each name with the reason.

The list gets shorter and never longer: a name that is put back by now fails its test, and so does one
that is not put back and is not named here. It is empty once repair compares everything that was ever written.
"""

from __future__ import annotations

from collections.abc import Mapping

_ONLY_SETUP = (
    "only an ADD can make a pod's link; repair tells it, and the pod is silent until its sandbox is new"
)
_TOLD = "of somebody else's, at a device that is not ours alone: told by event and metric, and left"

NOT_MENDED: Mapping[str, str] = {
    "host-link-deleted": _ONLY_SETUP,
    "eni-qdisc-added": _TOLD,
    "eni-ingress-link-added": _TOLD,
    "eni-egress-link-added": _TOLD,
}

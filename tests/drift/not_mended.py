"""What a foreign hand does that the agent does not put back today, each name with the reason.

The list gets shorter and never longer: a name that is put back by now fails its test, and so does one
that is not put back and is not named here. It is empty once repair compares everything that was ever written.
"""

from __future__ import annotations

from collections.abc import Mapping

_ONLY_SETUP = (
    "only an ADD can make a pod's link; repair tells it, and the pod is silent until its sandbox is new"
)
_CACHED = "the number of an ENI's link and its MAC are found at the start and kept for the process's life"
_TOO_MUCH = "what nobody of ours has made is not looked for, neither on our links nor beside our objects"
_SAME_KEY = (
    "an address is compared by what it is and where, and the kernel does not take another scope for it"
)
_AT_START = "written for every link at the start; repair compares it on ENIs and host links alone"
_BY_COMMENT = "rules of the guard are compared by their comments, and a comment can be copied"
_LEDGER = "opened at the start; an open file goes on being written after its name is gone"
_TOLD = "of somebody else's, at a device that is not ours alone: told by event and metric, and left"

NOT_MENDED: Mapping[str, str] = {
    "host-link-deleted": _ONLY_SETUP,
    "eni-mac": _CACHED,
    "eni-replugged": _CACHED,
    "gateway-on-lo-scope": _SAME_KEY,
    "eni-primary-address-added": _TOO_MUCH,
    "eni-foreign-address-v6-added": _TOO_MUCH,
    "host-link-address-added": _TOO_MUCH,
    "rule-512-v4-impostor": _TOO_MUCH,
    "rule-512-v6-impostor": _TOO_MUCH,
    "rule-1024-v4-impostor": _TOO_MUCH,
    "rule-1024-v6-impostor": _TOO_MUCH,
    "eni-foreign-route-v4-added": _TOO_MUCH,
    "eni-foreign-route-v6-added": _TOO_MUCH,
    "node-ipv4-primary-forwarding-0": _AT_START,
    "node-ipv4-primary-rp_filter-1": _AT_START,
    "guard-table-impostor": _TOO_MUCH,
    "guard-chain-added": _TOO_MUCH,
    "guard-rule-impostor": _BY_COMMENT,
    "eni-qdisc-added": _TOLD,
    "eni-ingress-link-added": _TOLD,
    "eni-egress-link-added": _TOLD,
    "ledger-file-deleted": _LEDGER,
    "ledger-wal-deleted": _LEDGER,
    "ledger-mode": _LEDGER,
    "ledger-directory-deleted": _LEDGER,
}

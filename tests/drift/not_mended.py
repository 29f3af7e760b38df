"""What a foreign hand does that the agent does not put back today, each name with the reason.

The list gets shorter and never longer: a name that is put back by now fails its test, and so does one
that is not put back and is not named here. It is empty once repair compares everything that was ever written.
"""

from __future__ import annotations

from collections.abc import Mapping

_ONLY_SETUP = (
    "only an ADD can make a pod's link; repair tells it, and the pod is silent until its sandbox is new"
)
_TOO_MUCH = "what nobody of ours has made is not looked for, neither on our links nor beside our objects"
_BY_COMMENT = "rules of the guard are compared by their comments, and a comment can be copied"
_ATTACHED = "repair asks whether something of a name is attached, not which program"
_CLSACT = (
    "another's clsact is taken for what it is: the pod is fast by filters of its own, and in no shared block"
)
_HALF = "attached() asks for the ingress link alone"
_ROWS = "endpoints() reads pods' rows, and of their addresses' rows one is enough"
_ONCE = "the number of the node's own ENI is written at the start"
_PINS = "pins are made at the start; a map without a pin serves on until the next start, which begins anew"
_LEDGER = "opened at the start; an open file goes on being written after its name is gone"

NOT_MENDED: Mapping[str, str] = {
    "host-link-deleted": _ONLY_SETUP,
    "guard-table-impostor": _TOO_MUCH,
    "guard-chain-added": _TOO_MUCH,
    "guard-rule-impostor": _BY_COMMENT,
    "pod-clsact-impostor": _CLSACT,
    "eni-qdisc-added": _TOO_MUCH,
    "block-ingress-filter-impostor": _ATTACHED,
    "block-ingress-filter-added": _TOO_MUCH,
    "block-egress-filter-impostor": _ATTACHED,
    "block-egress-filter-added": _TOO_MUCH,
    "eni-ingress-link-impostor": _ATTACHED,
    "eni-ingress-link-added": _TOO_MUCH,
    "eni-egress-link-detached": _HALF,
    "eni-egress-link-unpinned": _HALF,
    "eni-egress-link-impostor": _ATTACHED,
    "eni-egress-link-added": _TOO_MUCH,
    "endpoints-row-v4-deleted": _ROWS,
    "endpoints-row-v4-altered": _ROWS,
    "endpoints-row-v6-deleted": _ROWS,
    "endpoints-row-v6-altered": _ROWS,
    "endpoints-row-added": _ROWS,
    "settings-row-home": _ONCE,
    "flow-owners-row-altered": _ROWS,
    "pin-endpoints-deleted": _PINS,
    "pin-pods-deleted": _PINS,
    "pin-enis-deleted": _PINS,
    "pin-stack_prefixes-deleted": _PINS,
    "pin-flows-deleted": _PINS,
    "pin-flow_owners-deleted": _PINS,
    "pin-flow_counts-deleted": _PINS,
    "pin-flow_kept-deleted": _PINS,
    "pin-settings-deleted": _PINS,
    "pin-reason_counts-deleted": _PINS,
    "pin-endpoint_counts-deleted": _PINS,
    "pin-trace-deleted": _PINS,
    "pin-prog_pod_egress-deleted": _PINS,
    "pin-prog_eni_ingress-deleted": _PINS,
    "pin-prog_stack_egress-deleted": _PINS,
    "pin-pods-impostor": _PINS,
    "pins-layout-deleted": _PINS,
    "pins-links-deleted": _PINS,
    "pins-directory-deleted": _PINS,
    "ledger-file-deleted": _LEDGER,
    "ledger-wal-deleted": _LEDGER,
    "ledger-mode": _LEDGER,
    "ledger-directory-deleted": _LEDGER,
}

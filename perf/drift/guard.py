"""The table ``inet terway`` of nf_tables, which refuses what pods may not send."""

from __future__ import annotations

from perf.drift.item import Change, Item, Shell, Shown, Thing

_TABLE = "inet terway"
_LOOK = Shown(f"nft -s -t list table {_TABLE}")
"""Without counters and without the elements of sets: those are packets' doing."""
_HANDLES = "nft -a list chain inet terway {} | sed -n 's/.*# handle \\([0-9]*\\)$/\\1/p'"
_FIRST = f"$({_HANDLES.format('from_pod')} | sed -n 2p)"
_LOOPBACK = f"$({_HANDLES.format('to_node')} | sed -n 2p)"
"""The rule that keeps pods out of 127.0.0.0/8; the first handle is the chain's."""
_COMMENT = (
    '"\\"$(nft list chain inet terway to_node | sed -n \'s/.*comment "\\(.*\\)"$/\\1/p\' | sed -n 1p)\\""'
)
_LIES = "nobody: by routes pods could lie"


def items() -> tuple[Item, ...]:
    rows = (
        ("table", Change.DELETED, f"nft delete table {_TABLE}", _LIES),
        ("table", Change.ALTERED, f"nft add table {_TABLE} '{{{{ flags dormant; }}}}'", _LIES),
        (
            "table",
            Change.IMPOSTOR,
            f"nft delete table {_TABLE}; nft add table {_TABLE}; nft add chain {_TABLE} other",
            _LIES,
        ),
        ("chain", Change.DELETED, f"nft flush chain {_TABLE} input; nft delete chain {_TABLE} input", _LIES),
        ("chain", Change.ALTERED, f"nft flush chain {_TABLE} from_pod", _LIES),
        (
            "chain-policy",
            Change.ALTERED,
            f"nft add chain {_TABLE} prerouting "
            "'{{ type filter hook prerouting priority raw; policy drop; }}'",
            "all that comes to the node by routes",
        ),
        ("chain", Change.ADDED, f"nft add chain {_TABLE} foreign", "nobody"),
        ("rule", Change.DELETED, f"nft delete rule {_TABLE} from_pod handle {_FIRST}", _LIES),
        (
            "rule",
            Change.ALTERED,
            f"nft replace rule {_TABLE} from_pod handle {_FIRST} accept",
            _LIES,
        ),
        (
            "rule",
            Change.IMPOSTOR,
            f"nft replace rule {_TABLE} to_node handle {_LOOPBACK} accept comment {_COMMENT}",
            "nobody: pods reach 127.0.0.0/8 of the node",
        ),
        (
            "rule",
            Change.ADDED,
            f"nft insert rule {_TABLE} prerouting iifname {{link}} drop",
            "by routes all that the pod sends",
        ),
        (
            "counter",
            Change.DELETED,
            f"nft flush chain {_TABLE} from_eni; nft delete counter {_TABLE} no_pod",
            "nobody: drops are not told",
        ),
    )
    return tuple(
        Item(f"guard-{name}-{change}", Thing.NFT, change, Shell(text), _LOOK, harms)
        for name, change, text, harms in rows
    )

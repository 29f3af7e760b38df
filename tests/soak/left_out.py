"""What a run leaves out because the product cannot do it yet, by name. The repair that mends it empties this.

Each entry: what a step would do or a quiet moment would ask, and what is done instead. ``is_left_out`` is
asked where the difference is made, so that an entry that is deleted here makes the soak ask for it.
"""

from __future__ import annotations

LEFT_OUT: dict[str, str] = {
    "altered link of a lost ledger": (
        "a link whose name or alias a hand has altered does not say any more whose it is, once the ledger is"
        " lost as well: its addresses stay held, and the quiet moment ends it"
    ),
    "repeated ADD of a renamed link": (
        "a host link that a hand has renamed is not found by a repeated ADD, which takes the pod's eth0 for"
        " another plugin's, until the repair has given it its name back: such refusals are no failure"
    ),
    "foreign objects on an ENI": "no step adds any address, route, qdisc or program yet",
    "node address": "no step changes one yet",
}


def is_left_out(name: str) -> bool:
    return name in LEFT_OUT

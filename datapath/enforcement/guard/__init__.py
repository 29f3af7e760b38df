"""A table of nf_tables of our own, which refuses what a pod may not send. With eBPF and without.

Its rules are static and go by the prefix of pods' host links, so no ADD writes here. Whose a source address
is they ask of the routes (``fib``), so nothing has to be kept in step with the pods. From the top:

    guard       keeps the table as it should be, reads its counters
    ruleset     what should be in it, pure
    batch       messages of nf_tables as one transaction
    expression  what a rule consists of, into bytes
"""

from __future__ import annotations

from datapath.enforcement.guard.guard import Drops, Guard

__all__ = ["Drops", "Guard"]

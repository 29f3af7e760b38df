"""Measurements: ``./run perf WORD``. Figures go to a person, nothing is asserted about them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

WORDS: Mapping[str, str] = {
    "add": "ADD and DEL as a runtime sees them, and the daemon at rest",
    "add-bpf": "what the fast path costs ADD and DEL, beside the routed node",
    "attach": "a pod's rows and programs on the fast path, put there and taken away",
    "beside": "ADD and DEL of this tree beside another tree, in turn: ratios, and the agent at rest",
    "cold": "a pod that needs a new ENI, beside the cloud's own time",
    "datapath": "TCP and UDP between pods: the fast path, routing, and others' plugins",
    "drift": "what becomes of what a foreign hand changes or deletes: seconds, and outage of the traffic",
    "hold": "how long a round of repair holds the agent's event loop, and what ADD feels of it",
    "kernel-add": "the kernel's part of ADD and DEL",
    "service-prefixes": "what thousands of Services cost the event loop: first list, change, comparison",
    "pods": "a hundred pods per node at once in a real cluster, beside the same by ptp",
}
"""A word is a module's name with "-" for "_"; it is imported when asked for, so that help needs nothing."""


def main(argv: list[str]) -> int:
    if argv and argv[0] in WORDS:
        word = import_module(f"perf.{argv[0].replace('-', '_')}")
        return int(word.main(argv[1:]))
    asked = argv in (["-h"], ["--help"])
    out = sys.stdout if asked else sys.stderr
    if argv and not asked:
        print(f"perf: no measurement {argv[0]}", file=out)
    print("usage: ./run perf WORD [--help]\n", file=out)
    for name, text in WORDS.items():
        print(f"  {name:16} {text}", file=out)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

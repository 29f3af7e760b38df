"""Measurements: ``./run perf WORD``. Figures go to a person, nothing is asserted about them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from perf import add, cold, datapath, kernel_add

WORDS: Mapping[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "add": (add.main, "ADD and DEL as a runtime sees them, and the daemon at rest"),
    "cold": (cold.main, "a pod that needs a new ENI, beside the cloud's own time"),
    "datapath": (datapath.main, "TCP between pods, the fast path beside loopback and routing"),
    "kernel-add": (kernel_add.main, "the kernel's part of ADD and DEL"),
}


def main(argv: list[str]) -> int:
    if argv and argv[0] in WORDS:
        return WORDS[argv[0]][0](argv[1:])
    print("usage: ./run perf WORD [--help]\n")
    for word, (_, text) in WORDS.items():
        print(f"  {word:12} {text}")
    return 0 if argv in ([], ["-h"], ["--help"]) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

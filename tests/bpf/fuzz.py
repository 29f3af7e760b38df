"""The random run by itself: ``python -m tests.bpf.fuzz --packets 100000`` or ``--minutes 10``. Needs root.

Prints how often each verdict and each reason came. Exit status 1 at the first packet that the programs and
the model judge differently, which is printed with the seed that leads there again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from datapath import namespace
from tests.bpf.bench import bench
from tests.bpf.bpffs import mounted
from tests.bpf.differential import Disagreement, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bpf.fuzz", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--packets", type=int, default=0)
    length.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    packets = options.packets or (0 if options.minutes else 100_000)
    print(f"seed {options.seed}")
    with (
        tempfile.TemporaryDirectory() as scratch,
        mounted(Path(scratch) / "bpf") as pins,
        bench(pins) as made,
        namespace.entered(made.netns),
    ):
        try:
            tally = play(made, seed=options.seed, packets=packets, seconds=60 * options.minutes)
        except Disagreement as exc:
            print(exc)
            return 1
        for line in tally.histogram():
            print(line)
        names = made.fast.names
        rare = tally.rare((*names.reasons, *names.verdicts), 0.01)
        print(f"{tally.packets} packets, no difference; below 1 %: {', '.join(rare) or 'none'}")
        return 0


if __name__ == "__main__":
    sys.exit(main())

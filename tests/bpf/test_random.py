"""Random packets, judged by the programs and by the model. The long run: ``python -m tests.bpf.fuzz``."""

from __future__ import annotations

from tests.bpf.bench import Bench
from tests.bpf.differential import play
from tests.pace import SLOWER


def test_programs_and_model_agree(node: Bench) -> None:
    tally = play(node, seed=20, packets=int(20_000 / SLOWER))
    print("\n".join(tally.histogram()))
    names = node.fast.names
    # A machine that is too slow for all of them meets the rarest a few times only.
    assert not tally.rare((*names.reasons, *names.verdicts), 0.01 if SLOWER == 1 else 0.002)

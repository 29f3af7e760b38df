"""A lab with a stage in it, for the tests of one mode."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lab.client import Lab
from lab.spec import LabSpec
from perf.drift.haste import TEST_CLOCK
from perf.drift.scene import far_pod
from perf.drift.stage import Setting, Stage
from perf.drift.traffic import answering
from tests.pace import patience

STACK = "dual"


@contextmanager
def staged(bpf: str) -> Iterator[Stage]:
    with Lab.start(LabSpec(nodes=()), name=f"drift-{os.getpid()}-{bpf}") as lab:
        far = far_pod(lab, stack=STACK, bpf=bpf)
        with answering([far]):
            stage = Stage(lab, far, Setting(STACK, bpf, tuple(TEST_CLOCK.items()), patience(60.0)))
            try:
                yield stage
            finally:
                stage.drop()

"""Which Linux runs the tests, where its version decides what they see: this machine's or one of tests.vm."""

from __future__ import annotations

import os
import re

VERSION = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])

ENI_HOOK = "tcx" if VERSION >= (6, 6) else "clsact"
"""How programs are put on ENIs: see ``datapath.acceleration.attach``."""

ASKS_CONNTRACK = VERSION >= (5, 19)
"""Whether programs can ask conntrack: the kfuncs came with it."""

COUNTS_INSTRUCTIONS = VERSION >= (5, 16)
"""Whether a program tells how many instructions the verifier has looked at."""

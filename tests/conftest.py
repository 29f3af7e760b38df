"""The whole suite ends as one that was interrupted with Ctrl-C, also when it is told to end by a signal.

Fixtures are torn down then, labs are taken down, and the last line still counts what was run.
"""

from __future__ import annotations

import os
import signal
from types import FrameType


def pytest_configure() -> None:
    runner = os.getpid()

    def interrupted(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == runner:
            raise KeyboardInterrupt
        # A child that a test has forked dies of the signal, as it would without us.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    # Shells start their background jobs with SIGINT ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

"""One arena of malloc for all threads of a process, as one thread of Python runs at a time anyway.

glibc gives each thread an arena of its own, up to eight times the processors, and each keeps what it was
once needed for: 2 of 79 MiB of an agent with 100 pods (mallopt(3), M_ARENA_MAX).
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8


def keep_one_arena() -> bool:
    """From now on; to be called before there are threads. False where malloc is another's, as musl's."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except AttributeError:
        return False

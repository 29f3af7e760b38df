"""What went wrong, in one line for a person: no error number, and the file that it was about."""

from __future__ import annotations

import subprocess


def sentence(exc: BaseException) -> str:
    if isinstance(exc, subprocess.CalledProcessError):
        said = " ".join(str(exc.stderr or "").split()[-40:])
        return f"{' '.join(map(str, exc.cmd))[:200]} ended with {exc.returncode}: {said or 'it said nothing'}"
    if isinstance(exc, OSError) and exc.strerror:
        about = [str(name) for name in (exc.filename, exc.filename2) if name is not None]
        return f"{' and '.join(about)}: {exc.strerror}" if about else exc.strerror
    return " ".join(str(exc).split())

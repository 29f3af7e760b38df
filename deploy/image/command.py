"""The one door to the programs that build: run to the end, with the end of what they said if they fail."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from deploy.image.errors import ImageError

TOOLS = ("mmdebstrap", "buildah", "crun")
"""What a build runs besides make; each is a Debian package of that name."""
_TAIL = 8


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> str:
    """Standard output. Raises ImageError."""
    if shutil.which(command[0]) is None:
        raise ImageError(
            f"{command[0]} is not installed; on Debian: apt-get install {' '.join(TOOLS)}, and make"
        )
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-_TAIL:])
        raise ImageError(f"{' '.join(command[:4])} ... ended with {done.returncode}:\n  {said}")
    return done.stdout

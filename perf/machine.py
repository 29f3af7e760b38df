"""The machine and commit a figure belongs to: it stands beside every figure."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()}x {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()}x {platform.machine()}"


def commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"

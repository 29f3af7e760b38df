"""Helm, built by the go command at the version that the chart is rendered with.

``python -m lab.kubernetes.helm`` builds it if it is not there, and prints its path.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from deploy import helm
from lab.apiserver.port import Say
from lab.kubernetes import toolchain
from lab.messages import LabError


def ensure(say: Say) -> Path:
    """Raises LabError if it can neither be found nor built. Building takes two minutes on two cores."""
    found = helm.present()
    if found is not None:
        return found
    directory = helm.BUILT.parent
    directory.mkdir(parents=True, exist_ok=True)
    go = toolchain.find(helm.CACHE / "go", directory / "build.log", say)
    say(f"building Helm {helm.VERSION}, two minutes on two cores")
    environment = {
        "GOCACHE": str(go.cache / "build"),
        "GOMODCACHE": str(go.cache / "mod"),
        **os.environ,
        "GOBIN": str(directory / "new"),
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    command = [str(go.command), "install", "-ldflags", "-s -w", f"helm.sh/helm/v3/cmd/helm@v{helm.VERSION}"]
    with go.log.open("w") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        raise LabError(f"Helm could not be built; the log is {go.log}. It needs a Go module proxy (GOPROXY)")
    made = (directory / "new" / "helm").rename(helm.BUILT)
    made.with_name("new").rmdir()
    return made


if __name__ == "__main__":
    print(ensure(lambda text: print(text, file=sys.stderr)))

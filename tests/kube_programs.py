"""Where a real etcd and kube-apiserver are, for the tests that can have one."""

from __future__ import annotations

import os
from pathlib import Path

from lab.apiserver import programs
from lab.kubernetes import binaries

WANTED = (programs.ETCD, programs.API_SERVER)
ABSENCE = (
    f"neither {programs.VARIABLE} nor {binaries.VARIABLE} names a directory with {' and '.join(WANTED)}, "
    "and ./run cluster has built none"
)


def directory() -> str:
    """The first directory that has both: of the environment, else of the cache; "" if none has."""
    built = binaries.CACHE / "kubernetes" / binaries.VERSION / "bin"
    places = (os.environ.get(programs.VARIABLE), os.environ.get(binaries.VARIABLE), str(built))
    return next((place for place in places if place and not binaries.missing(Path(place), WANTED)), "")

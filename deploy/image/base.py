"""The system below the product: Debian's Python and libraries, extracted and stripped, as one tar.

No package is configured, so there is no apt, no dpkg database and no shell but busybox. What is taken away
again is named in ``_UNUSED``: 66 MB become 40. Debian's security updates come with the next new cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from deploy.image import cache
from deploy.image.command import run

SUITE = "bookworm"
PYTHON = (3, 11)
"""Of the suite. Wheels and byte code are made for it."""
PACKAGES = ("base-files", "busybox-static", "libbpf1", "libstdc++6", "python3")
"""libbpf is what the binding was linked with, libstdc++ what numpy asks for."""
EPOCH = 1_700_000_000
"""Time stamps of all files, so that two builds give the same bytes."""

_UNUSED = (
    "usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bug",
    "usr/share/perl5 usr/share/debconf usr/share/dpkg usr/share/doc-base usr/share/pixmaps",
    "usr/bin/dpkg* usr/bin/debconf* usr/bin/update-alternatives usr/bin/tar usr/bin/mawk usr/sbin/dpkg*",
    "usr/lib/x86_64-linux-gnu/gconv usr/lib/aarch64-linux-gnu/gconv usr/lib/dpkg usr/lib/tar",
    "usr/share/applications usr/lib/valgrind usr/lib/systemd etc/dpkg",
    "usr/lib/python3.11/pydoc_data usr/lib/python3.11/lib2to3 usr/lib/python3.11/idlelib",
    "usr/lib/python3.11/ensurepip usr/lib/python3.11/test usr/lib/python3.11/unittest",
    "var/cache var/lib/apt var/lib/dpkg var/log",
)
"""Of package management, other languages and development; below the root, by the shell's patterns."""

_NAMES = (
    "printf 'root:x:0:0:root:/:/bin/sh\\nterway:x:65532:65532:terway:/:/bin/sh\\n' > etc/passwd",
    "printf 'root:x:0:\\nterway:x:65532:\\n' > etc/group",
)


def made(directory: Path) -> Path:
    """The tar, from ``directory`` if its ingredients have not changed. Raises ImageError."""
    path = directory / name()
    cache.kept(path, lambda fresh: _make(fresh, _hooks()))
    return path


def name() -> str:
    """Of the tar: another one if its ingredients are others."""
    return f"base-{cache.digest([SUITE, *PACKAGES, *_hooks()])}"


def _hooks() -> tuple[str, ...]:
    """What is run in the fresh system's directory, which mmdebstrap hands over as $1."""
    library = "/usr/lib/python{}.{}".format(*PYTHON)
    compiled = f"chroot . python3 -m compileall -q --invalidation-mode unchecked-hash {library}"
    lines = (
        f"rm -rf {' '.join(_UNUSED)}",
        *_NAMES,
        "chroot . busybox --install -s /usr/bin || true",
        compiled,
    )
    return tuple(f'cd "$1" && {{ {line}; }}' for line in lines)


def _make(path: Path, hooks: tuple[str, ...]) -> None:
    merged = "/usr/share/mmdebstrap/hooks/merged-usr"
    command = ["mmdebstrap", "--variant=extract", "--mode=root", "--format=tar", f"--hook-dir={merged}"]
    command += [f"--include={','.join(PACKAGES)}", *(f"--extract-hook={hook}" for hook in hooks)]
    run([*command, SUITE, str(path)], env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})

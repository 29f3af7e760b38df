"""python -m deploy.image --output FILE.tar: the product's image as a docker-archive.

The first build takes a minute or two and needs the network: Debian's packages and Python's. Later ones need
neither, and take ten seconds if the product has changed and one if not. Needs root, and Debian's mmdebstrap,
buildah and crun.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.image import base, cache, ingredients, stage
from deploy.image.buildah import Buildah
from deploy.image.errors import ImageError
from deploy.image.stage import ROOT

TAG = "localhost/terway:dev"
CACHE = ROOT / ".cache" / "image"


def build(output: Path, *, tag: str = TAG, directory: Path = CACHE) -> str:
    """Write the archive, and say its version. Raises ImageError."""
    version = _version()
    with cache.locked(directory), _scratch(directory) as scratch:
        storage = _storage(directory, scratch)
        inside = cache.digest([ingredients.image(), version, tag])
        archive = directory / f"archive-{inside}"
        cache.kept(archive, lambda path: _archive(path, Buildah(storage, scratch), scratch, (tag, version)))
        fresh = output.with_name(f".{output.name}.new")
        shutil.copyfile(archive, fresh)
        fresh.rename(output)
    return version


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """Of one build, which holds the lock; those of builds that were killed go."""
    for old in directory.glob("build-*"):
        cache.remove(old)
    with tempfile.TemporaryDirectory(dir=directory, prefix="build-") as made:
        yield Path(made)


def _archive(path: Path, tool: Buildah, scratch: Path, name: tuple[str, str]) -> None:
    tag, version = name
    stage.product(scratch / "context" / "product")
    tool.build(scratch / "context", tag, {"VERSION": version})
    tool.save(tag, path)


def _storage(directory: Path, scratch: Path) -> Path:
    """Buildah's storage with the base image in it, from ``directory`` if its parts have not changed."""
    system, packages = base.made(directory), stage.dependencies(directory)
    path = directory / f"storage-{ingredients.below()}"

    def make(fresh: Path) -> None:
        context = scratch / "base"
        shutil.copytree(packages, context / "site-packages", copy_function=_linked)
        (context / "system.tar").hardlink_to(system)
        Buildah(fresh, scratch).build_base(context)

    cache.kept(path, make)
    return path


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _version() -> str:
    """The project's, with the commit that it was built from where git knows one: 0.1.0+g1234567."""
    project = str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    command = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty=.changed"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return project
    return f"{project}+g{commit}"


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m deploy.image", description=__doc__.partition("\n\n")[2].strip()
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.tar")
    parser.add_argument("--tag", default=TAG, help="the image's name (default: %(default)s)")
    told = parser.parse_args(argv)
    began = time.monotonic()
    try:
        version = build(told.output.absolute(), tag=told.tag)
    except (ImageError, OSError) as exc:
        print(f"deploy.image: {exc}", file=sys.stderr)
        return 1
    size, took = told.output.stat().st_size / 1e6, time.monotonic() - began
    print(f"{told.tag} {version} in {told.output}: {size:.0f} MB, {took:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

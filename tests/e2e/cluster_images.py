"""Images of the product to update to: of the commit before, and of one that carries packets otherwise.

Each is built by ``deploy.image`` of a source tree of its own, in a scratch directory on the file system of
this one; the system below the product is the one that is cached here, unless that tree wants another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datapath.acceleration.layout import OBJECTS
from tests.netns.fastpath import builds

ROOT = Path(__file__).resolve().parents[2]
PREVIOUS = os.environ.get("TERWAY_TEST_PREVIOUS", "HEAD~1")
"""The revision that a cluster comes from and goes back to."""
BEFORE = "0625225"
"""The last commit of the release before, which knew schema 1 only and refuses a ledger of this one."""
_CACHE = Path(".cache", "image")
_LEFT_OUT = (".git", ".cache", "__pycache__", "tests", "docs")


@dataclass(frozen=True, slots=True)
class Image:
    archive: Path
    tag: str
    version: str
    """What an agent of it calls itself."""


class NoHistoryError(Exception):
    """This tree does not know the revision."""


def previous(scratch: Path, tag: str) -> Image:
    """PREVIOUS as an image. Raises NoHistoryError."""
    return of_revision(scratch, PREVIOUS, tag)


def of_revision(scratch: Path, revision: str, tag: str) -> Image:
    """``revision`` as an image, its source tree in ``scratch``. Raises NoHistoryError."""
    tree = tree_of(scratch, revision)
    source(tree, revision)
    return _image(tree, tag)


def tree_of(scratch: Path, revision: str) -> Path:
    """Where ``of_revision`` has the source tree, and the manifests with it."""
    return scratch / f"of-{revision.replace(os.sep, '-')}"


def wants_older_ledger(revision: str) -> bool:
    """Whether an agent of ``revision`` has to be given its ledger by ``terway-cli ledger downgrade``."""
    return _git("merge-base", "--is-ancestor", revision, BEFORE).returncode == 0


def source(tree: Path, revision: str) -> None:
    """``revision`` of this tree, with its C parts compiled as its own ``./run setup`` would.

    Raises NoHistoryError.
    """
    source_tree(tree, revision)
    _run(["make", "-s", "-C", "cni"], tree)
    _run(["make", "-s", "-C", "bpf"], tree)
    _run([sys.executable, "-m", "datapath.ebpf.build_libbpf"], tree)


def source_tree(tree: Path, revision: str) -> None:
    """``revision`` of this tree as it is written. Raises NoHistoryError."""
    told = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if told.returncode != 0:
        raise NoHistoryError(
            f"git knows no {revision} of {ROOT}: a shallow clone, or none. {told.stderr}".strip()
        )
    commit = told.stdout.strip()
    _run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(tree)], tree.parent)
    _run(["git", "checkout", "--quiet", "--detach", commit], tree)


def other(scratch: Path, tag: str) -> Image:
    """This tree as a later version: rows of pods are longer, and the programs have other instructions."""
    tree = scratch / "other"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    for name, old, new in (*builds.OTHER, *builds.LAYOUT_6):
        text = (tree / "bpf" / name).read_text()
        assert old in text, f"{name} has no {old!r} any more"
        (tree / "bpf" / name).write_text(text.replace(old, new))
    project = tree / "pyproject.toml"
    text = project.read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("version = "))
    project.write_text(text.replace(line, 'version = "99.0"'))
    _run(["make", "-s", "-C", "bpf", *(f".output/{name}.bpf.o" for name in OBJECTS)], tree)
    return _image(tree, tag)


def _image(tree: Path, tag: str) -> Image:
    """Trees of one scratch directory share what they build upon."""
    place = tree / _CACHE
    place.parent.mkdir()
    place.symlink_to(_cache(tree.parent / "image"))
    output = tree.with_suffix(".tar")
    said = _run([sys.executable, "-m", "deploy.image", "--output", str(output), "--tag", tag], tree)
    return Image(output, tag, said.split()[1])


def _cache(place: Path) -> Path:
    """What is cached in this tree is linked: who wants another system replaces it in ``place`` only."""
    if place.exists():
        return place
    place.mkdir()
    for made in (*(ROOT / _CACHE).glob("base-*"), *(ROOT / _CACHE).glob("site-*")):
        if made.is_dir():
            shutil.copytree(made, place / made.name, copy_function=os.link)
        else:
            os.link(made, place / made.name)
    return place


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)


def _run(command: list[str], tree: Path) -> str:
    """Its output. In ``tree``, whose modules are found first. Fails with the end of what it said."""
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip()[-1000:]
    assert done.returncode == 0, f"{' '.join(command)} in {tree} ended with {done.returncode}: {said}"
    return done.stdout

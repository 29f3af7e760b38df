"""Names and architectures in an image archive of a user's, be it of ``docker save`` or an OCI archive.

Sources: image-spec v1.2 of github.com/moby/docker-image-spec (manifest.json), image-layout.md and
image-index.md of github.com/opencontainers/image-spec v1.1 (oci-layout, index.json). Newer ``docker save``
writes both, and containerd then goes by the second.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.messages import LabError

_MOST = 8 << 20
"""Bytes of a description; layers are not read."""
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
"""Annotations of an index that name an image; the second may hold no more than a tag."""
_DECOMPRESSED: Mapping[bytes, ModuleType] = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\0": lzma}
"""By a file's first bytes."""
_ZSTANDARD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Contents:
    names: tuple[str, ...]
    """As the archive has them; without one there is nothing that a pod could ask for."""
    architectures: frozenset[str]
    """In Go's words, e.g. amd64. Empty if the archive does not say."""


@contextlib.contextmanager
def plain(archive: Path, scratch: Path) -> Iterator[Path]:
    """The archive without compression, in ``scratch`` for the time of the block if it has one.

    Raises LabError for a file that cannot be read.
    """
    try:
        with archive.open("rb") as file:
            head = file.read(8)
    except OSError as exc:
        raise LabError(f"{archive}: {exc.strerror}") from exc
    if head.startswith(_ZSTANDARD):
        raise LabError(f"{archive} is compressed by zstd; decompress it first: `zstd -d {archive}`")
    module = next((each for magic, each in _DECOMPRESSED.items() if head.startswith(magic)), None)
    if module is None:
        yield archive
        return
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="image-") as whole:
        try:
            with module.open(archive) as source:
                shutil.copyfileobj(source, whole)
            whole.flush()
        except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as exc:
            raise LabError(f"{archive} is compressed, and not whole: {exc}") from exc
        except OSError as exc:
            raise LabError(f"{archive} cannot be decompressed to {scratch}: {exc.strerror or exc}") from exc
        yield Path(whole.name)


def contents(tar: Path, archive: Path) -> Contents:
    """Of ``tar``, which ``archive`` is without compression. Raises LabError if it is no image archive."""
    try:
        with tarfile.open(tar, "r:") as opened:
            files = {member.name.removeprefix("./"): member for member in opened if member.isfile()}
            return _Reader(opened, files).contents()
    except (tarfile.TarError, KeyError, ValueError, TypeError, AttributeError) as exc:
        raise LabError(
            f"{archive} is no image archive, such as `docker save NAME:TAG` writes, or an OCI archive: {exc}"
        ) from exc


class _Reader:
    def __init__(self, tar: tarfile.TarFile, files: Mapping[str, tarfile.TarInfo]) -> None:
        self._tar = tar
        self._files = files

    def contents(self) -> Contents:
        if "oci-layout" in self._files:
            return self._of_index(self._json("index.json"))
        if "manifest.json" in self._files:
            return self._of_docker(self._json("manifest.json"))
        raise ValueError("it has neither manifest.json nor oci-layout")

    def _of_docker(self, manifest: Any) -> Contents:
        names = tuple(name for image in manifest for name in image.get("RepoTags") or ())
        return Contents(names, frozenset(self._json(image["Config"])["architecture"] for image in manifest))

    def _of_index(self, index: Any) -> Contents:
        names = [_name(entry.get("annotations") or {}) for entry in index["manifests"]]
        found = frozenset(kind for entry in index["manifests"] for kind in self._architectures(entry))
        return Contents(tuple(dict.fromkeys(filter(None, names))), found - {"unknown", ""})

    def _architectures(self, descriptor: Any) -> Iterator[str]:
        """Of what it leads to: an index of one image for several machines, or one manifest."""
        if said := (descriptor.get("platform") or {}).get("architecture"):
            yield said
            return
        target = self._blob(descriptor["digest"])
        for entry in target.get("manifests") or ():
            yield from self._architectures(entry)
        if "config" in target:
            yield self._blob(target["config"]["digest"]).get("architecture", "")

    def _blob(self, digest: str) -> Any:
        return self._json(f"blobs/{digest.replace(':', '/')}")

    def _json(self, name: str) -> Any:
        file = self._tar.extractfile(self._files[name])
        assert file is not None
        return json.loads(file.read(_MOST))


def _name(annotations: Mapping[str, str]) -> str:
    """ "" if there is none, or a tag without the name of what it is a tag of."""
    named = (annotations.get(key, "") for key in _NAMES)
    return next((name for name in named if any(mark in name for mark in "/:@")), "")

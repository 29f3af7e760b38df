"""Archives as an importer reads them: digests, names, owners, and the same bytes twice."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.kubernetes import archive
from lab.kubernetes.archive import Image


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {entry.name: read(tar, entry) for entry in tar}


def read(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry)
    assert file is not None
    return file.read()


def manifest(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(contents(path)["manifest.json"])
    return found


def layer(path: Path) -> dict[str, tarfile.TarInfo]:
    whole = contents(path)
    (name,) = manifest(path)[0]["Layers"]
    with tarfile.open(fileobj=io.BytesIO(whole[name])) as tar:
        return {entry.name: entry for entry in tar}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF" + bytes(1000))
    return path


def test_configuration_and_layer_are_named_by_their_digests(tmp_path: Path, program: Path) -> None:
    path = tmp_path / "image.tar"
    archive.write(path, "localhost/x:1", files={"bin/x": program}, entrypoint=["/bin/x"], command=["-v"])
    (image,) = manifest(path)
    whole = contents(path)
    configuration = json.loads(whole[image["Config"]])
    assert image["RepoTags"] == ["localhost/x:1"]
    assert image["Config"] == hashlib.sha256(whole[image["Config"]]).hexdigest() + ".json"
    assert configuration["rootfs"]["diff_ids"] == [
        "sha256:" + hashlib.sha256(whole[image["Layers"][0]]).hexdigest()
    ]
    assert configuration["config"]["Entrypoint"] == ["/bin/x"]
    assert configuration["config"]["Cmd"] == ["-v"]
    assert configuration["os"] == "linux"


def test_what_a_container_needs_is_in_the_layer(tmp_path: Path, program: Path) -> None:
    path = tmp_path / "image.tar"
    files: dict[str, Path | bytes] = {"bin/deep/x": program, "etc/passwd": b"root\n"}
    archive.write(path, "localhost/x:1", files=files, links=[("bin/y", "deep/x")])
    found = layer(path)
    assert {"dev", "etc", "proc", "run", "sys", "tmp", "bin", "bin/deep"} <= set(found)
    assert found["tmp"].mode == 0o1777
    assert (found["bin/deep/x"].size, found["bin/deep/x"].mode) == (1004, 0o755)
    assert (found["bin/y"].type, found["bin/y"].linkname) == (tarfile.SYMTYPE, "deep/x")
    names = list(found)
    assert names.index("bin") < names.index("bin/deep") < names.index("bin/deep/x")
    assert {(entry.uid, entry.gid, entry.mtime) for entry in found.values()} == {(0, 0, 0)}


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, program: Path) -> None:
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    archive.write(first, "localhost/x:1", files={"a": program, "b": b"x"}, links=[("c", "a"), ("d", "b")])
    program.touch()
    archive.write(second, "localhost/x:1", files={"b": b"x", "a": program}, links=[("d", "b"), ("c", "a")])
    assert first.read_bytes() == second.read_bytes()


def test_many_names_share_one_layer(tmp_path: Path, program: Path) -> None:
    path = tmp_path / "images.tar"
    images = [Image("localhost/a:1", ["/a"]), Image("localhost/b:1", ["/b"], ["c"]), Image("localhost/d:1")]
    archive.write_images(path, images, files={"a": program})
    found = manifest(path)
    assert [image["RepoTags"] for image in found] == [["localhost/a:1"], ["localhost/b:1"], ["localhost/d:1"]]
    assert len({image["Layers"][0] for image in found}) == 1
    assert len(contents(path)) == 1 + 3 + 1


def test_two_names_of_the_same_kind_share_a_configuration(tmp_path: Path, program: Path) -> None:
    path = tmp_path / "images.tar"
    archive.write_images(
        path, [Image("localhost/a:1", ["/a"]), Image("localhost/a:2", ["/a"])], files={"a": program}
    )
    assert len({image["Config"] for image in manifest(path)}) == 1
    assert len(contents(path)) == 3


def test_a_file_that_is_missing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    archive.write(path, "localhost/x:1", files={"a": b"old"})
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        archive.write(path, "localhost/x:1", files={"a": tmp_path / "missing"})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["image.tar"]

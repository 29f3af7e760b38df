"""``./run cluster load``: which archives it takes, and what it says of others and of nodes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.client import Lab
from lab.kubernetes import archive, image_file, load
from lab.kubernetes.image_file import Contents
from lab.kubernetes.load import full_name, run_words
from lab.messages import LabError

HERE = archive.architecture()
ELSEWHERE = "s390x"
FULL = "io.containerd.image.name"
TAG = "org.opencontainers.image.ref.name"


def tarred(path: Path, files: dict[str, Any]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def docker(path: Path, tags: list[str] | None, machine: str = HERE) -> Path:
    manifest = [{"Config": "c.json", "RepoTags": tags, "Layers": []}]
    return tarred(path, {"c.json": {"architecture": machine}, "manifest.json": manifest})


def blob(value: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """A descriptor, and the file that it leads to."""
    digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()
    return {"digest": f"sha256:{digest}"}, {f"blobs/sha256/{digest}": value}


def oci(path: Path, annotations: dict[str, str], *machines: str) -> Path:
    """One image: for one machine by its configuration, for several by an index of platforms."""
    config, files = blob({"architecture": machines[0]})
    entry, more = blob({"config": config})
    files |= more
    if len(machines) > 1:
        entry, more = blob({"manifests": [{**entry, "platform": {"architecture": m}} for m in machines]})
        files |= more
    index = {"manifests": [{**entry, "annotations": annotations}]}
    return tarred(path, {"oci-layout": {}, "./index.json": index, **files})


def read(path: Path) -> Contents:
    with image_file.plain(path, path.parent) as tar:
        return image_file.contents(tar, path)


def test_an_archive_of_docker(tmp_path: Path) -> None:
    archive.write(tmp_path / "own.tar", "web:1", files={"x": b""})
    assert read(tmp_path / "own.tar") == Contents(("web:1",), frozenset({HERE}))
    assert read(docker(tmp_path / "two.tar", ["a:1", "b:2"])).names == ("a:1", "b:2")


def test_an_oci_archive(tmp_path: Path) -> None:
    one = oci(tmp_path / "one.tar", {FULL: "docker.io/library/web:1", TAG: "1"}, HERE)
    assert read(one) == Contents(("docker.io/library/web:1",), frozenset({HERE}))
    many = oci(tmp_path / "many.tar", {TAG: "example.com/web:1"}, ELSEWHERE, HERE, "unknown")
    assert read(many) == Contents(("example.com/web:1",), frozenset({HERE, ELSEWHERE}))
    assert read(oci(tmp_path / "tag.tar", {TAG: "latest"}, HERE)).names == ()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_undone_and_nothing_of_it_stays(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    packed = tmp_path / "web.tar.packed"
    packed.write_bytes(compress(docker(tmp_path / "web.tar", ["web:1"]).read_bytes()))
    before = sorted(tmp_path.iterdir())
    assert read(packed).names == ("web:1",)
    assert sorted(tmp_path.iterdir()) == before
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(LabError, match="is compressed, and not whole"):
        read(packed)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no image archive"),
        (b"no tar at all", "is no image archive, such as `docker save NAME:TAG` writes"),
        (b"\x28\xb5\x2f\xfd....", "is compressed by zstd; decompress it first: `zstd -d"),
    ],
)
def test_what_is_no_archive_is_said(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(LabError, match=told):
        read(path)


def test_a_tar_of_something_else_and_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"neither manifest\.json nor oci-layout"):
        read(tarred(tmp_path / "x.tar", {"readme": b"x"}))
    with pytest.raises(LabError, match="is no image archive"):
        read(tarred(tmp_path / "y.tar", {"manifest.json": {"not": "a list"}}))
    with pytest.raises(LabError, match=r"none\.tar: No such file or directory"):
        read(tmp_path / "none.tar")


def test_what_no_pod_could_name_or_this_machine_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="has no name that a pod could ask for; save it by one"):
        load.check(read(docker(tmp_path / "x.tar", None)), tmp_path / "x.tar")
    with pytest.raises(LabError, match=rf"x\.tar is for {ELSEWHERE}, and this machine is {HERE}"):
        load.check(read(docker(tmp_path / "x.tar", ["x:1"], ELSEWHERE)), tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("web", "docker.io/library/web:latest"),
        ("web:1", "docker.io/library/web:1"),
        ("me/web:1", "docker.io/me/web:1"),
        ("localhost/web:1", "localhost/web:1"),
        ("registry:5000/web", "registry:5000/web:latest"),
        ("example.com/a/web@sha256:00", "example.com/a/web@sha256:00"),
    ],
)
def test_names_are_completed_as_containerd_does(name: str, full: str) -> None:
    assert full_name(name) == full


def test_the_command_that_runs_it() -> None:
    assert run_words("localhost/web:1") == "kubectl run web --image=localhost/web:1"
    assert run_words("a_B") == "kubectl run a-b --image=a_B --image-pull-policy=Never"


class Nodes:
    """A cluster of three: one takes the image, one cannot, one is off."""

    name = "x"

    def __init__(self, root: Path) -> None:
        self.directory = SimpleNamespace(root=root)

    def status(self) -> dict[str, Any]:
        return {"nodes": [{"name": f"node{i}", "running": i != 3} for i in (1, 2, 3)]}

    def node(self, name: str) -> Any:
        return SimpleNamespace(name=name)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    taken: dict[str, set[str]] = {"node1": set(), "node2": set()}

    def take(node: Any, _tar: Path) -> None:
        if node.name == "node2":
            raise LabError("node node2: ctr does not import it: no space left on device")
        taken[node.name].add("web:1")

    monkeypatch.setattr(load, "import_image", take)
    monkeypatch.setattr(load, "image_names", lambda node: taken[node.name])
    monkeypatch.setattr(load, "tag", lambda node, _name, other: taken[node.name].add(other))
    return cast(Lab, Nodes(tmp_path))


def test_each_node_that_lacks_it_is_named_with_what_to_do(lab: Lab, tmp_path: Path) -> None:
    path = docker(tmp_path / "web.tar", ["web:1"])
    done = load.load(lab, path)
    assert (done.names, done.nodes) == (("web:1",), ("node1",))
    assert load.render(lab, done, path).splitlines() == [
        "in node1: web:1",
        "run it: `./run cluster --name x kubectl run web --image=web:1`",
        "node3 lacks it: it is off; boot it with `./run lab node reboot --name x node3`",
        "node2 lacks it: node node2: ctr does not import it: no space left on device",
        f"then load it again: `./run cluster --name x load {path}`; nodes that have it keep it",
    ]


def test_a_full_disk_is_said_before_any_node_is_touched(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=10))
    with pytest.raises(LabError, match=r"free, and the image in 2 nodes may take .*TERWAY_LAB_DIR"):
        load.load(lab, docker(tmp_path / "web.tar", ["web:1"]))

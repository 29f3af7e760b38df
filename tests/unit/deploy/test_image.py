"""What goes into the image and what does not; nothing is downloaded here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.image import cache, command, ingredients, stage
from deploy.image.errors import ImageError

BIN = stage.ROOT / "deploy" / "bin"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "product"
    stage.product(path)
    return path


def test_the_product_is_there_and_nothing_else(product: Path) -> None:
    assert {path.name for path in product.iterdir()} == {"bin", "bpf", "cni", "control", "datapath"}
    assert sorted(path.name for path in (product / "bpf/.output").iterdir()) == [
        "eni_egress.bpf.o",
        "eni_ingress.bpf.o",
        "eni_ingress_ct.bpf.o",
        "pod_egress.bpf.o",
        "pod_egress_ct.bpf.o",
        "pod_ingress.bpf.o",
    ]
    assert [path.name for path in (product / "bpf/include").iterdir()] == ["reasons.h"]
    assert os.access(product / "cni/.output/terway", os.X_OK)
    left = {path.suffix for path in product.rglob("*") if path.is_file()}
    assert left == {"", ".h", ".o", ".py", ".pyc", ".so"}


def test_the_agent_starts_from_it_alone(product: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(product)!r}); import control.agent.main, control.cli.main; "
        "import control.agent.main as m, datapath.ebpf.objects as o; "
        "print(m.__cached__, o.path('pod_egress'), any(n.startswith('lab') for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-Ic", code], cwd="/", capture_output=True, text=True, check=True)
    cached, found, lab = done.stdout.split()
    assert cached.startswith(str(product))
    assert Path(cached).is_file()
    assert (found, lab) == (str(product / "bpf/.output/pod_egress.bpf.o"), "False")


def test_byte_code_names_the_place_in_the_image(product: Path) -> None:
    compiled = next((product / "control/agent/__pycache__").glob("main.*.pyc")).read_bytes()
    assert b"/opt/terway/control/agent/main.py" in compiled
    assert str(product).encode() not in compiled


def test_two_stagings_are_the_same_bytes(product: Path, tmp_path: Path) -> None:
    again = tmp_path / "product"
    stage.product(again)
    assert contents(again) == contents(product)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_executable_is_installed_by_rename(product: Path, tmp_path: Path) -> None:
    target = tmp_path / "terway"
    target.write_text("an older one")
    (tmp_path / ".terway.new.7").write_text("half of one")
    held = target.open()
    for said in ("is installed", "is up to date"):
        done = subprocess.run(
            [product / "bin/install-cni", tmp_path], capture_output=True, text=True, check=True
        )
        assert said in done.stdout
    assert held.read() == "an older one"
    held.close()
    assert target.read_bytes() == (product / "cni/.output/terway").read_bytes()
    assert os.access(target, os.X_OK)
    assert [path.name for path in tmp_path.iterdir()] == ["terway"]


def test_what_is_kept_is_made_once_and_replaced_whole(tmp_path: Path) -> None:
    made: list[str] = []

    def make(path: Path) -> None:
        made.append(path.name)
        path.mkdir()

    first, second = tmp_path / "site-1", tmp_path / "site-2"
    assert cache.kept(first, make)
    assert not cache.kept(first, make)
    assert cache.kept(second, make)
    assert made == ["new-site-1", "new-site-2"]
    assert list(tmp_path.iterdir()) == [second]


def test_what_fails_is_not_kept(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.mkdir()
        raise ImageError("no network")

    with pytest.raises(ImageError):
        cache.kept(tmp_path / "site-1", make)
    assert not (tmp_path / "site-1").exists()


def test_digests_tell_the_parts_apart() -> None:
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])
    assert cache.digest(["ab", b"c"]) == cache.digest([b"ab", "c"])


def test_a_program_that_fails_or_is_missing_is_named() -> None:
    with pytest.raises(ImageError, match=r"(?s)sh -c .* ended with 3.*no such thing"):
        command.run(["sh", "-c", "echo no such thing; exit 3"])
    with pytest.raises(ImageError, match="apt-get install"):
        command.run(["no-such-program"])


@pytest.mark.parametrize(
    "changed",
    [
        "deploy/bin/terwayd",
        "deploy/Containerfile",
        "deploy/image/base.Containerfile",
        "deploy/image/buildah.py",
        "requirements/agent.txt",
        "bpf/.output/pod_egress.bpf.o",
        "bpf/include/reasons.h",
        "cni/fields.py",
    ],
)
def test_another_file_is_another_image(changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("requirements", "bpf/.output", "bpf/include", "cni", "control", "datapath", "deploy"):
        shutil.copytree(stage.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(stage.ROOT / name, tmp_path)
    for module in (stage, ingredients):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    before = ingredients.image()
    assert ingredients.image() == before
    path = tmp_path / changed
    path.write_bytes(path.read_bytes() + b"# another\n")
    after = ingredients.image()
    assert after != before


def test_a_file_that_is_gone_is_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(stage.ROOT / "cni", tmp_path / "cni")
    monkeypatch.setattr(stage, "PACKAGES", ("cni",))
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    monkeypatch.setattr(stage, "_BUILT", ())
    monkeypatch.setattr(stage, "_READ", ())
    monkeypatch.setattr(stage, "OBJECTS", ())
    shutil.copytree(BIN, tmp_path / "deploy/bin")
    (tmp_path / "deploy/Containerfile").touch()
    before = stage.product_digest()
    (tmp_path / "cni/fields.py").unlink()
    assert stage.product_digest() != before

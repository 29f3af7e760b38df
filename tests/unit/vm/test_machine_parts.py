"""What a machine of tests.vm is made of, without one."""

from __future__ import annotations

import lzma
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm import kernels, modules
from tests.vm.image import Archive, unpacked_kernel
from tests.vm.kernels import ROOT

HEADER = 64
BUSYBOX = Path("/usr/bin/busybox")


def module(text: bytes) -> bytes:
    """The least ELF64 object that has a section .modinfo."""
    names = b"\0.modinfo\0.shstrtab\0"
    table = HEADER + len(text) + len(names)
    head = bytearray(HEADER)
    head[:4] = b"\x7fELF"
    struct.pack_into("<Q", head, 0x28, table)
    struct.pack_into("<HHH", head, 0x3A, 64, 3, 2)
    sections = (
        (0, 0, 0),
        (names.index(b".modinfo"), HEADER, len(text)),
        (names.index(b".shstrtab"), HEADER + len(text), len(names)),
    )
    packed = [struct.pack("<IIQQQQIIQQ", n, 1, 0, 0, at, size, 0, 0, 1, 0) for n, at, size in sections]
    return bytes(head) + text + names + b"".join(packed)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """deep <- middle <- top; xz is how Debian packs them since 2023."""
    (tmp_path / "kernel").mkdir()
    for name, text in {
        "top-most.ko": b"alias=net-pf-99\0depends=middle\0license=GPL\0",
        "middle.ko": b"depends=\0softdep=pre: deep-er builtin\0",
        "deep-er.ko": b"alias=devname:deep\0alias=pci:v*\0",
    }.items():
        (tmp_path / "kernel" / name).write_bytes(module(text))
    packed = tmp_path / "kernel" / "middle.ko.xz"
    packed.write_bytes(lzma.compress((tmp_path / "kernel" / "middle.ko").read_bytes()))
    (tmp_path / "kernel" / "middle.ko").unlink()
    return tmp_path


def test_modules_tell_what_they_need_and_are_called(tree: Path) -> None:
    found = modules.found_below(tree)
    assert set(found) == {"top_most", "middle", "deep_er"}
    assert found["top_most"].aliases == ("net-pf-99",)
    assert found["deep_er"].aliases == ("devname:deep", "pci:v*")
    assert [one.name for one in modules.with_needs(["top_most"], found)] == ["deep_er", "middle", "top_most"]


def test_the_lists_have_the_deepest_need_last_and_are_loaded_the_other_way_round(tree: Path) -> None:
    modules.write_lists(tree, modules.found_below(tree))
    listed = (tree / "modules.dep").read_text().splitlines()
    assert "kernel/top-most.ko: kernel/middle.ko.xz kernel/deep-er.ko" in listed
    assert "alias net-pf-99 top_most" in (tree / "modules.alias").read_text()
    order = [path.name for path in modules.in_order(tree, ["top_most"])]
    assert order == ["deep-er.ko", "middle.ko.xz", "top-most.ko"]


def test_an_object_without_information_is_none() -> None:
    assert list(modules.information(module(b"").replace(b".modinfo", b".nothing"))) == []


def test_the_first_root_is_a_cpio_archive(tmp_path: Path) -> None:
    if not BUSYBOX.exists():
        pytest.skip("busybox-static is not installed")
    archive = Archive()
    archive.directory("bin")
    archive.file("bin/odd", b"12345")
    archive.file("init", b"#!/bin/sh\n")
    (tmp_path / "root").write_bytes(archive.finished())
    with (tmp_path / "root").open("rb") as packed:
        subprocess.run([BUSYBOX, "cpio", "-i"], stdin=packed, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "bin" / "odd").read_bytes() == b"12345"
    assert (tmp_path / "init").stat().st_mode & 0o111


@pytest.mark.parametrize("xz", [True, False], ids=["xz", "another"])
def test_a_kernel_is_unpacked_where_that_can_be_done(tmp_path: Path, xz: bool) -> None:
    image = b"\x7fELF the kernel"
    payload = lzma.compress(image) if xz else b"\x02!L\x18 lz4"
    packed = bytearray(3 * 512) + payload
    packed[0x1F1] = 1
    struct.pack_into("<II", packed, 0x248, 512, len(payload))
    (tmp_path / "vmlinuz").write_bytes(packed)
    assert unpacked_kernel(tmp_path).read_bytes() == (image if xz else packed)


def test_the_list_names_tests_that_exist() -> None:
    assert list(kernels.listed()) == ["5.10", "6.1", "6.12"]
    assert all((ROOT / path).exists() for path in kernels.paths())


@pytest.mark.parametrize("arguments", [["--help"], ["--kernel", "2.4"]])
def test_the_command_line_says_what_there_is(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.vm.run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "5.10" in done.stdout + done.stderr
    assert done.returncode == (0 if arguments == ["--help"] else 2)

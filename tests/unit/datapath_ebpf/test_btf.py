"""BTF as numpy dtypes, of types that the compiler at hand has just written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from datapath.ebpf.btf import Btf, BtfError
from datapath.ebpf.libbpf import Object

_PRELUDE = """
#include <linux/types.h>
#include <stdbool.h>
"""


def compiled(directory: Path, declarations: str, kind: str) -> Btf:
    """The BTF of an object with one global of the type ``kind``."""
    source = directory / "probe.bpf.c"
    source.write_text(f'{_PRELUDE}{declarations}\n{kind} probe __attribute__((section(".data")));\n')
    target = directory / "probe.bpf.o"
    include = next(iter(Path("/usr/include").glob("*-linux-gnu")), Path("/usr/include"))
    command = ["clang", "-O2", "-g", "-target", "bpf", f"-I{include}", "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    with Object(target) as opened:
        return Btf(opened.btf())


def test_a_struct_of_everything(tmp_path: Path) -> None:
    btf = compiled(
        tmp_path,
        """
        enum colour { RED, GREEN = 7 };
        struct inner { __be32 word[2]; };
        struct sample {
            __u8 mac[6]; __be16 port; __s32 delta; enum colour colour; struct inner inner; __u64 total;
            bool flag; __u8 padding[7];
        };
        """,
        "struct sample",
    )
    found = btf.dtype(btf.type_id("sample"))
    assert found == np.dtype(
        [
            ("mac", "u1", (6,)),
            ("port", ">u2"),
            ("delta", "<i4"),
            ("colour", "<u4"),
            ("inner", [("word", ">u4", (2,))]),
            ("total", "<u8"),
            ("flag", "?"),
            ("padding", "u1", (7,)),
        ]
    )


def test_a_row_reads_as_it_was_written(tmp_path: Path) -> None:
    btf = compiled(tmp_path, "struct pair { __be16 port; __u16 count; };", "struct pair")
    row = np.zeros(1, btf.dtype(btf.type_id("pair")))
    row["port"], row["count"] = 0x0102, 0x0102
    assert row.tobytes() == b"\x01\x02\x02\x01"


def test_a_union_overlaps(tmp_path: Path) -> None:
    btf = compiled(tmp_path, "union both { __u32 whole; __u8 part[4]; };", "union both")
    row = np.zeros(1, btf.dtype(btf.type_id("both")))
    row["whole"] = 0x01020304
    assert row["part"][0].tolist() == [4, 3, 2, 1]


def test_an_enum_has_its_names_in_order(tmp_path: Path) -> None:
    btf = compiled(tmp_path, "enum reason { FINE = 0, LATE = 5, WRONG = -1 };", "enum reason")
    assert list(btf.enum("reason").items()) == [("FINE", 0), ("LATE", 5), ("WRONG", -1)]


@pytest.mark.parametrize(
    ("declaration", "complaint"),
    [
        ("struct bad { __u8 a; __u32 b; };", "hole before b"),
        ("struct bad { __u32 a; __u8 b; };", "ends with 3 unnamed bytes"),
        ("struct bad { __u32 a : 4; __u32 b : 28; };", "bit field"),
        ("struct bad { void *a; };", "no meaning outside"),
    ],
)
def test_what_cannot_be_shared_is_refused(tmp_path: Path, declaration: str, complaint: str) -> None:
    btf = compiled(tmp_path, declaration, "struct bad")
    with pytest.raises(BtfError, match=complaint):
        btf.dtype(btf.type_id("bad"))


def test_a_name_that_is_not_there(tmp_path: Path) -> None:
    btf = compiled(tmp_path, "struct some { __u32 a; };", "struct some")
    with pytest.raises(BtfError, match="'other'"):
        btf.type_id("other")
    with pytest.raises(BtfError, match="not an enum"):
        btf.enum("some")


@pytest.mark.parametrize("raw", [b"", b"\0" * 40])
def test_what_is_no_btf(raw: bytes) -> None:
    with pytest.raises(BtfError):
        Btf(raw)

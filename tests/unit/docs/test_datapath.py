"""docs/datapath.md says what the code says: its tables are the programs', its names and links exist."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from datapath.acceleration.attach import BLOCKS
from datapath.acceleration.layout import MAPS, PROGRAMS, names_of
from datapath.ebpf import objects
from datapath.ebpf.libbpf import MapShape, Object
from docs import generate, tables

PAGE = generate.PAGE.read_text()
SHAPE = MapShape(
    name="things", key_size=4, value_size=8, max_entries=16, per_cpu=False, key_type=0, value_type=0
)
TABLES = 'struct {\n\t__uint(type, BPF_MAP_TYPE_LRU_HASH);\n\t__type(key, __u32);\n} things SEC(".maps");\n'
ROWS = """
/* Room for `things` too. */
int other;
/* Value of `things`, keyed by
 * name: what it is. */
struct thing {};
"""


def prose() -> str:
    """The page without its generated parts."""
    return re.sub(r"<!-- generated.*?<!-- end", "", PAGE, flags=re.DOTALL)


def column(part: str, number: int) -> list[str]:
    lines = part.splitlines()[2:]
    return [line.split("|")[number].strip().strip("`") for line in lines]


def test_the_generated_parts_are_up_to_date() -> None:
    assert generate.renewed(PAGE) == PAGE, "run python -m docs.generate"


def test_the_tables_hold_every_program_map_and_reason() -> None:
    names = names_of(objects.path(PROGRAMS[0]))
    assert column(tables.hooks(), 1) == list(PROGRAMS)
    assert column(tables.maps(), 1) == list(MAPS)
    assert column(tables.reason_rows(), 2) == list(names.reasons)
    assert column(tables.reason_rows(), 1) == [str(number) for number in range(len(names.reasons))]


def test_the_prose_names_what_exists() -> None:
    names = names_of(objects.path(PROGRAMS[0]))
    known = {*names.reasons, *PROGRAMS, *MAPS}
    named = set(re.findall(r"`((?:fast|stack|drop|seen)_\w+)`", prose()))
    assert len(named) > 10
    assert named <= known


def test_numbers_in_the_prose_are_the_programs() -> None:
    with Object(objects.path(PROGRAMS[0])) as opened:
        assert f"room for {opened.map_shape('flows').max_entries:,} flows" in prose()
    assert f"block {BLOCKS.ingress} " in prose()
    assert not re.search(r"/terway/v\d", prose()), "the number of the layout stands in the header alone"


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#([\w-]+))?\)", PAGE)
    assert links
    for path, anchor in links:
        target = generate.HERE / path
        assert target.is_file(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}


def test_paths_in_the_prose_exist() -> None:
    paths = re.findall(r"`((?:bpf|datapath|control)/[\w/.]+)`", prose())
    assert paths
    assert [path for path in paths if not (generate.HERE.parent / path).exists()] == []


def test_the_picture_is_whole_and_names_the_programs() -> None:
    root = ElementTree.parse(Path(generate.HERE / "datapath.svg")).getroot()
    texts = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(PROGRAMS) <= set(texts)
    ways = {one for one in texts if one.isdigit()}
    assert ways == {
        line.split("|")[1].strip() for line in PAGE.splitlines() if re.match(r"\| \d \| [a-z]", line)
    }


def test_a_map_is_told_by_both_headers() -> None:
    (found,) = tables.map_texts(TABLES, ROWS, [SHAPE])
    assert (found.kind, found.key, found.value) == ("LRU_HASH", "__u32", "")
    assert found.row == "Keyed by name: what it is."


@pytest.mark.parametrize(
    ("defined", "rows"), [("", ROWS), (TABLES, "/* Room for `things`. */\nint other;\n")]
)
def test_a_header_that_says_nothing_of_a_map_is_told_so(defined: str, rows: str) -> None:
    with pytest.raises(tables.Unsaid, match="things"):
        tables.map_texts(defined, rows, [SHAPE])


def test_only_what_is_between_the_marks_changes() -> None:
    page = "above\n<!-- generated: one -->\nold\n<!-- end: one -->\nbelow\n"
    new = generate.renewed(page, {"one": lambda: "new\n"})
    assert new == "above\n<!-- generated: one -->\n\nnew\n\n<!-- end: one -->\nbelow\n"
    assert generate.renewed(new, {"one": lambda: "new\n"}) == new


ONE = "<!-- generated: one -->\n<!-- end: one -->\n"


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("nothing", "marks nothing"),
        (ONE + ONE, "marks one, one"),
        (ONE + ONE.replace("one", "two"), "marks one, two"),
        ("<!-- generated: one -->\nold\n", "no end"),
    ],
)
def test_a_page_without_its_marks_is_refused(page: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        generate.renewed(page, {"one": lambda: "new\n"})

"""What was seen, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lab.cli.table import table
from perf.drift.catalogue import CATALOGUE
from perf.drift.item import Item
from perf.drift.traffic import Loss
from perf.drift.trial import Result

HEAD = ("alteration", "object", "as it was after", "longest outage", "of which flows", "lost", "by a restart")
_RIGHT = (2, 3, 5)


def lines(
    where: str,
    results: Sequence[Result],
    failed: Sequence[tuple[str, str]],
    limit: float,
    *,
    markdown: bool,
) -> Iterator[str]:
    order = list(CATALOGUE)
    rows = [row(one, limit) for one in sorted(results, key=lambda r: order.index(r.item.name))]
    yield f"{where[:1].upper()}{where[1:]}." if markdown else where
    yield ""
    if markdown:
        rule = tuple("---:" if i in _RIGHT else "---" for i in range(len(HEAD)))
        for cells in (HEAD, rule, *rows):
            yield f"| {' | '.join(cells)} |"
    else:
        yield table(HEAD, rows)
    yield ""
    back = sum(one.seconds is not None for one in results)
    yield f"{back} of {len(results)} as they were within {limit:.0f} s"
    for name, why in failed:
        yield f"{name}: could not be tried: {' '.join(why.split())}"


def row(result: Result, limit: float) -> tuple[str, ...]:
    lost, asked = (sum(getattr(one, name) for one in result.losses.values()) for name in ("lost", "asked"))
    longest = max((one.outage for one in result.losses.values()), default=0.0)
    restart = "no" if result.after_restart is None else "yes"
    return (
        result.item.name,
        str(result.item.thing),
        _back(result, limit),
        f"{longest:.2f} s" if lost else "none",
        harmed(result.losses),
        f"{lost} of {asked}",
        "" if result.seconds is not None else restart,
    )


def summary(result: Result, limit: float) -> str:
    _, _, back, outage, flows, lost, restart = row(result, limit)
    told = [f"as it was after {back}", f"outage {outage}", flows, f"{lost} lost"]
    return ", ".join(filter(None, [*told, f"by a restart: {restart}" if restart else ""]))


def harmed(losses: Mapping[str, Loss]) -> str:
    """Flows that lost something, shortened: "same node v4" stands for connections old and new."""
    names = [name for name, one in losses.items() if one.lost]
    if names and len(names) == len(losses):
        return "all"
    told = []
    for name in names:
        old = name.removesuffix(", new")
        if old == name and f"{old}, new" not in names:
            told.append(f"{old} (those that last)")
        elif old == name:
            told.append(old)
        elif old not in names:
            told.append(f"{old} (new ones)")
    return ", ".join(told)


def listed(items: Sequence[Item]) -> Iterator[str]:
    yield table(
        ("ALTERATION", "OBJECT", "HARMS", "DONE BY"),
        ((one.name, str(one.thing), one.harms, _done_by(one)) for one in items),
    )


def _done_by(item: Item) -> str:
    """The line for a shell, or that it is a call of bpf(2)."""
    return str(item.alter) if hasattr(item.alter, "text") else "bpf(2)"


def _back(result: Result, limit: float) -> str:
    if result.seconds is None:
        return f"not within {limit:.0f} s"
    told = f"{result.seconds:.1f} s"
    return told if result.flows is not None else f"{told}, its flows not"

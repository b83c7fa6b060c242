"""What is said of upkeep, in words: for the scheduler's logs and artifacts, and for the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flows.summary import number
from pipeline.upkeep import Tended


def lines(tended: Sequence[Tended], *, dry_run: bool = False) -> list[str]:
    """A line for each table, and one for each thing that was left."""
    width = max((len(one.table) for one in tended), default=0)
    out: list[str] = []
    for one in tended:
        said = ", ".join(_parts(one)) or ("nothing is due" if dry_run else "nothing was due")
        took = "" if dry_run or one.idle else f" ({one.seconds:.1f} s)"
        out.append(f"{one.table:<{width}}   {number(one.rows, 'row')}{_bytes(one, dry_run)}: {said}{took}")
        if one.kept:
            out.append(f"{'':<{width}}   {one.kept}")
    return out


def verdict(tended: Sequence[Tended], *, dry_run: bool = False) -> str:
    """All of it in one line."""
    if not tended:
        return "There are no tables yet."
    busy = [one for one in tended if not one.idle]
    if not busy:
        return "Nothing is due." if dry_run else "Nothing was due."
    if dry_run:
        return f"Due: {number(len(busy), 'table')}. `docweave maintain` does it."
    freed = sum((one.bytes_before or 0) - (one.bytes_after or 0) for one in tended)
    size = f", {megabytes(freed)} freed" if freed > 0 else ""
    return f"Looked after {number(len(busy), 'table')} in {sum(one.seconds for one in busy):.1f} s{size}."


def megabytes(count: int) -> str:
    """A number of bytes, for people."""
    return f"{count / 1e6:,.1f} MB"


def _bytes(one: Tended, dry_run: bool) -> str:  # noqa: FBT001 - the caller's own flag
    if one.bytes_before is None:
        return ""
    if dry_run or one.bytes_after is None or one.bytes_after == one.bytes_before:
        return f", {megabytes(one.bytes_before)}"
    return f", {megabytes(one.bytes_before)} → {megabytes(one.bytes_after)}"


def _parts(one: Tended) -> Iterator[str]:
    """What was done, or is due, in words that suit both."""
    if one.dropped:
        yield "dropped: kept for long enough since the rebuild"
    if one.swept:
        yield f"{number(one.swept, 'tomb')} swept"
    if one.compacted:
        yield "compacted"
    if one.extended:
        yield f"indexes extended by {number(one.extended, 'row')}"
    if one.indexed:
        yield f"indexed {', '.join(one.indexed)}"
    if one.unindexed:
        yield f"index dropped of {', '.join(one.unindexed)}"
    if one.versions:
        yield f"{number(one.versions, 'old version')} cleared away"
    if one.orphans:
        yield f"{number(one.orphans, 'orphaned file')} cleared away"

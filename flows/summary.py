"""What is said of a run, in words: for the scheduler's logs and artifacts, and for the command line."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from pipeline.records import JsonValue
from pipeline.report import SourceReport

SHOWN_FAILURES = 100
"""Failed documents that are listed one by one; a report may hold many more."""

WRITTEN = ("added", "changed", "renamed", "rewritten", "removed")
"""The counts of documents that were written, as a report spells them."""

_WORDS = {
    "added": "added",
    "changed": "changed",
    "renamed": "renamed",
    "rewritten": "metadata only",
    "removed": "removed",
}


def counts(report: SourceReport) -> dict[str, JsonValue]:
    """The report as plain values, with the first failures only; `failed` says how many there are."""
    value = report.as_json()
    failures = value["failures"]
    assert isinstance(failures, list)  # noqa: S101 - for the type checker: the report's own field
    value["failures"] = failures[:SHOWN_FAILURES]
    value["failed"] = len(failures)
    value["moved"] = dict(islice(report.moved.items(), SHOWN_FAILURES))
    return value


def outcome(report: SourceReport) -> str:
    """What became of the documents: "36 documents: 34 unchanged, 1 changed, 1 failed"."""
    if report.skipped:
        return "skipped: another run is at it"
    parts = [f"{getattr(report, name):,} {_WORDS[name]}" for name in WRITTEN if getattr(report, name)]
    if report.failures:
        parts.append(f"{len(report.failures):,} failed")
    if report.moved:
        parts.append(f"{len(report.moved):,} moved since the plan")
    if report.left:
        parts.append(f"{report.left:,} left")
    if report.withheld:
        parts.append(f"{number(report.withheld, 'removal')} withheld")
    if not parts:
        parts.append("nothing to do")
    elif same := report.unchanged + report.touched:
        parts.insert(0, f"{same:,} unchanged")
    return f"{number(report.listed, 'document')}: {', '.join(parts)}"


def columns(report: SourceReport) -> list[str]:
    """The source's name and all that a person would want to know of its run, part by part."""
    parts = [report.source, outcome(report)]
    if report.chunks:
        parts.append(number(report.chunks, "chunk"))
    if report.tokens:
        parts += [number(report.tokens, "token"), money(report.cost_usd)]
    if report.retries:
        parts.append(f"asked again {number(report.retries, 'time')}")
    return [*parts, f"{report.seconds:.1f} s"]


def left(report: SourceReport) -> str:
    """What a budget left for another run; empty where none did."""
    if not report.left:
        return ""
    return (
        f"{number(report.left, 'document')} ({number(report.left_tokens, 'token')}) left for the next run: "
        f"more would pass {report.stopped_by}"
    )


def withheld(report: SourceReport) -> str:
    """What waits for a person's approval; empty where nothing does."""
    if not report.withheld:
        return ""
    return (
        f"{number(report.withheld, 'document')} of {report.stored:,} are no longer listed. That is more than "
        f"a run removes without being asked, so they stay; if it is meant: docweave ingest {report.source} "
        f"--approve-removals {report.withheld}"
    )


def progress(report: SourceReport) -> str:
    """Where a run stands: "120 of 300 documents, 2 failed, 48,120 tokens, $0.0004"."""
    parts = [f"{report.done:,} of {number(report.owed, 'document')}"]
    if report.failures:
        parts.append(f"{len(report.failures):,} failed")
    if report.tokens:
        parts += [number(report.tokens, "token"), money(report.cost_usd)]
    return ", ".join(parts)


def markdown(report: SourceReport, error: Exception | None) -> str:
    """The report as a page: why the source failed, a table of its counts, the documents that failed."""
    blocks = [f"# {report.source}"]
    if error:
        blocks.append(
            f"**Failed: {type(error).__name__}.** {_cell(error)}\n\n"
            "What had been committed before stays, and is not paid for again."
        )
    rows = [
        ("documents listed", f"{report.listed:,}"),
        ("unchanged, not read", f"{report.unchanged:,}"),
        ("unchanged, but read to be sure", f"{report.touched:,}"),
        *((_WORDS[name], f"{getattr(report, name):,}") for name in WRITTEN),
        ("failed", f"{len(report.failures):,}"),
        ("moved since the plan", f"{len(report.moved):,}"),
        ("left for the next run", f"{report.left:,}"),
        ("removals withheld", f"{report.withheld:,}"),
        ("chunks written", f"{report.chunks:,}"),
        ("tokens", f"{report.tokens:,}"),
        ("cost", money(report.cost_usd)),
        ("requests", f"{report.requests:,}"),
        ("retries", f"{report.retries:,}"),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    blocks.append(_table(("", "this run"), rows, "|---|---:|"))
    blocks += [_cell(said) for said in (report.skipped, left(report), withheld(report)) if said]
    if report.moved:
        blocks.append("## Moved since the plan, and not touched")
        blocks.append(_table(("key", "how"), islice(report.moved.items(), SHOWN_FAILURES), "|---|---|"))
        if (more := len(report.moved) - SHOWN_FAILURES) > 0:
            blocks.append(f"and {more:,} more")
    if report.failures:
        shown = [(f.key, f.error, f.reason) for f in report.failures[:SHOWN_FAILURES]]
        blocks.append("## Failed documents")
        blocks.append(_table(("key", "error", "reason"), shown, "|---|---|---|"))
        if more := len(report.failures) - len(shown):
            blocks.append(f"and {more:,} more")
    return "\n\n".join(blocks)


def money(usd: float) -> str:
    """Dollars, with as many places as a small amount needs."""
    if not usd:
        return "$0"
    if usd < 0.0001:
        return "<$0.0001"
    return f"${usd:.4f}" if usd < 1 else f"${usd:,.2f}"


def number(count: int, noun: str) -> str:
    """A count with its noun: "1 chunk", "1,200 chunks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], rule: str) -> str:
    lines = [f"| {' | '.join(head)} |", rule]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    """Text that stays in its cell and is not taken for markup."""
    line = " ".join(str(value).split())
    for special in "\\|<`*_[":
        line = line.replace(special, f"\\{special}")
    return line

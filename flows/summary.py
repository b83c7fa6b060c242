"""What is said of a run, in words: for the scheduler's logs and artifacts, and for the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import cast
from urllib.parse import quote

from pipeline.records import Failure, JsonValue
from pipeline.report import SourceReport

SHOWN_FAILURES = 100
"""Failed documents that are listed one by one; a report may hold many more."""

WRITTEN = ("added", "changed", "renamed", "rewritten", "copies", "removed")
"""The counts of documents that were written, as a report spells them."""

SHOWN_WITHHELD = 10
"""Documents whose removal is withheld, that are listed one by one."""

STAGES = ("listing", "reading", "parsing", "embedding", "writing")
"""As a report spells them, in the order in which a document goes through them."""

WORDS = {
    "added": "added",
    "changed": "changed",
    "renamed": "renamed",
    "rewritten": "metadata only",
    "copies": "copies of others",
    "removed": "removed",
}


def counts(report: SourceReport) -> dict[str, JsonValue]:
    """The report as plain values, with the first failures only; `failed` says how many there are."""
    value = report.as_json()
    failures = value["failures"]
    assert isinstance(failures, list)  # noqa: S101 - for the type checker: the report's own field
    value["failures"] = failures[:SHOWN_FAILURES]
    value["withheld_keys"] = list(sorted(report.withheld_keys)[:SHOWN_WITHHELD])
    value["withheld_mark"] = _mark(report.withheld_keys)
    value["failed"] = len(failures)
    value["moved"] = dict(islice(report.moved.items(), SHOWN_FAILURES))
    return value


def outcome(report: SourceReport) -> str:
    """What became of the documents: "36 documents: 34 unchanged, 1 changed, 1 failed"."""
    if report.skipped:
        return "skipped: another run is at it"
    parts = [f"{getattr(report, name):,} {WORDS[name]}" for name in WRITTEN if getattr(report, name)]
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


def held_back(reports: Sequence[Mapping[str, JsonValue]], *, rebuild: bool = False) -> str:
    """Why sources were not brought up to date by a run that did not fail; empty where all were.

    `reports` is what `counts` gives of each source.
    """
    if documents := sum(cast("int", one["left"]) for one in reports):
        when = "; the new tables take over when nothing is left" if rebuild else ""
        return f"a budget was reached: {number(documents, 'document')} left for the next run{when}"
    if skipped := sum(one["skipped"] is not None for one in reports):
        return f"{number(skipped, 'source')} skipped: another run is at it"
    if moved := sum(bool(one["moved"]) for one in reports):
        when = "; the new tables take over after a rebuild of the rest" if rebuild else ""
        return f"{number(moved, 'source')} moved since the plan{when}"
    return ""


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
    blocks = [f"## {_cell(report.source)}"]
    if error:
        blocks.append(
            f"**Failed: {type(error).__name__}.** {_cell(error)}\n\n"
            "What had been committed before stays, and is not paid for again."
        )
    said = (report.skipped, left(report), withheld(report))
    blocks += [_cell(one) for one in said if one]
    rows = [
        ("documents listed", f"{report.listed:,}"),
        ("unchanged, not read", f"{report.unchanged:,}"),
        ("unchanged, but read to be sure", f"{report.touched:,}"),
        *((WORDS[name], f"{getattr(report, name):,}") for name in WRITTEN),
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
    shown = [(name, count) for name, count in rows if count not in _NOTHING]
    blocks.append(_table(("", "this run"), shown, "|---|---:|"))
    blocks += _stages(report)
    blocks += _withheld_keys(report)
    if report.moved:
        blocks.append("## Moved since the plan, and not touched")
        blocks.append(_table(("key", "how"), islice(report.moved.items(), SHOWN_FAILURES), "|---|---|"))
        if (more := len(report.moved) - SHOWN_FAILURES) > 0:
            blocks.append(f"and {more:,} more")
    if report.failures:
        blocks.append("## Failed documents")
        blocks.append(_failures(report.failures[:SHOWN_FAILURES]))
        if (more := len(report.failures) - SHOWN_FAILURES) > 0:
            blocks.append(f"and {more:,} more")
    return "\n\n".join(blocks)


_NOTHING = ("0", "$0")
"""Counts that a page leaves out: what is left fits on a screen."""


def _stages(report: SourceReport) -> list[str]:
    """How long each stage had something to do; nothing where none had."""
    shown = [name for name in STAGES if name in report.stages]
    if not shown:
        return []
    seconds = tuple(f"{report.stages[name]:.1f}" for name in shown)
    rule = f"|{'---:|' * len(shown)}"
    return ["## Seconds in each stage", _table(tuple(shown), [seconds], rule), "Stages go on side by side."]


def _withheld_keys(report: SourceReport) -> list[str]:
    if not report.withheld_keys:
        return []
    return ["## No longer listed, and kept", keys(sorted(report.withheld_keys), len(report.withheld_keys))]


def keys(some: Sequence[str], count: int) -> str:
    """The first of `count` keys, as a list in Markdown."""
    lines = [f"- {_cell(key)}" for key in some[:SHOWN_WITHHELD]]
    if (more := count - len(lines)) > 0:
        lines.append(f"- and {more:,} more")
    return "\n".join(lines)


def _mark(keys: Iterable[str]) -> str:
    """Names exactly these keys, in whatever order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode("utf-8", "backslashreplace")).hexdigest()


def _failures(failures: Iterable[Failure]) -> str:
    """A table, each key of which leads to its document where that has a web address."""
    lines = ["| key | error | reason |", "|---|---|---|"]
    for one in failures:
        key, url = _cell(one.key), one.url or ""
        if url.startswith(("https://", "http://")):
            key = f"[{key.replace(']', '&#93;')}]({quote(url, safe=_IN_LINKS)})"
        lines.append(f"| {key} | {_cell(one.error)} | {_cell(shorten(one.reason))} |")
    return "\n".join(lines)


_IN_LINKS = ":/?#@!$&'*+,;=~%-._"
"""What may stand in the target of a link; a bracket, a bar or a space would end it."""
_REASON = 300
"""Characters of an error that a page has room for, where there may be a hundred."""


def shorten(reason: str) -> str:
    """The beginning of an error's message."""
    return reason if len(reason) <= _REASON else f"{reason[:_REASON]} …"


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

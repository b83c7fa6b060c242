"""What commands say, as lines of plain text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from apps.plain import one_line, table
from apps.rollback import described
from apps.tables import Status
from config.check import Finding
from flows.budgets import Budgets
from flows.summary import columns, left, money, number, withheld
from pipeline.plan import Change, PlannedDocument, SourcePlan
from pipeline.report import SourceReport

LISTED = 20
"""Lines of one kind that are shown; `--json` has all."""

_SIGNS = {
    Change.ADDED: "+",
    Change.CHANGED: "~",
    Change.RENAMED: ">",
    Change.REWRITTEN: "*",
    Change.COPY: "=",
}


def ingest_lines(reports: Sequence[SourceReport]) -> list[str]:
    """A line for each source, and the documents that failed below it."""
    rows = [columns(report) for report in reports]
    out = []
    for line, report in zip(table(rows), reports, strict=True):
        out.append(line)
        out += _listed(_failure(f.key, f.reason) for f in report.failures)
        out += _listed(f"≠ {one_line(key)}: {one_line(how)}" for key, how in report.moved.items())
        out += [f"  {said}" for said in (report.skipped, left(report), withheld(report)) if said]
    return out


def plan_lines(plans: Sequence[SourcePlan], budgets: Budgets | None = None) -> list[str]:
    """What each source would do, document by document, and which budgets it would reach."""
    out: list[str] = []
    for plan in plans:
        out.append(f"{plan.source}   {_planned(plan)}")
        for change, sign in _SIGNS.items():
            chosen = [document for document in plan.documents if document.change == change.value]
            out += _listed(f"{sign} {_document(document)}" for document in chosen)
        out += _listed(f"- {one_line(key)}" for key in plan.removed)
        out += _listed(f"? {one_line(key)}" for key in plan.withheld)
        out += _listed(_failure(key, reason) for key, reason in plan.failures.items())
    if any(plan.documents or plan.removed or plan.withheld for plan in plans):
        out += ["", "+ added   ~ changed   > renamed   * metadata only   - removed   ? withheld   ! failed"]
        if any(plan.count(Change.COPY) for plan in plans):
            out[-1] += "   = copy"
    tokens, cost = sum(plan.tokens for plan in plans), sum(plan.cost_usd for plan in plans)
    out.append(f"To pay: {number(tokens, 'token')}, {money(cost)}. Nothing was paid or written.")
    if budgets:
        wanted = [(budgets.run, tokens, cost)]
        wanted += [(budgets.sources[plan.source], plan.tokens, plan.cost_usd) for plan in plans]
        passed = [budget for budget, tokens, cost in wanted if not budget.holds(tokens, cost)]
        out += [f"More than {budget}: what would pass it is left for the next run." for budget in passed]
    return out


def status_lines(status: Status) -> list[str]:
    """The tables, their space, and each source's share."""
    live = next((one.number for one in status.generations if one.role == "live"), 0)
    suffix = f"_{live}" if live else ""
    head = [
        f"tables    {one_line(status.uri)} (documents{suffix}, chunks{suffix})",
        f"vectors   {status.space or 'none yet: run `docweave ingest`'}",
        "",
    ]
    rows = [["source", "documents", "chunks", ""]]
    rows += [
        [name, f"{documents:,}", f"{chunks:,}", "" if name in status.configured else "not in the settings"]
        for name, (documents, chunks) in sorted(status.counts.items())
    ]
    rows += [[name, "0", "0", "not ingested yet"] for name in status.not_ingested]
    told = [_ABOUT[one.role].format(described(one), one) for one in status.generations if one.role in _ABOUT]
    if status.copies:
        told.append(f"Stored without passages, as copies of others: {number(status.copies, 'document')}.")
    return [*head, *table(rows, right=frozenset({1, 2})), *([""] if told else []), *told]


_ABOUT = {
    "staged": "Being rebuilt, and not yet searched: {0}.",
    "previous": "Kept from before {1.since:%Y-%m-%d %H:%M} UTC: {0}. `docweave rollback` goes back to them.",
}
"""What is said of tables that are not the live ones."""


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """What came of trying each thing."""
    rows = []
    for finding in findings:
        first, *rest = finding.message.splitlines() or [""]
        seconds = f" ({finding.seconds:.1f} s)" if finding.seconds >= 0.1 else ""
        rows.append(["ok" if finding.ok else "FAILED", finding.what, one_line(first) + seconds])
        rows += [["", "", one_line(line)] for line in rest]
    wrong = sum(not finding.ok for finding in findings)
    verdict = f"{number(wrong, 'problem')} found." if wrong else "Everything answers."
    return [*table(rows), "", verdict]


def _planned(plan: SourcePlan) -> str:
    counts = [(plan.unchanged + plan.count(Change.TOUCHED), "unchanged")]
    counts += [(plan.count(Change.ADDED), "added"), (plan.count(Change.CHANGED), "changed")]
    counts += [(plan.count(Change.RENAMED), "renamed"), (plan.count(Change.REWRITTEN), "metadata only")]
    counts += [(plan.count(Change.COPY), "copies of others")]
    counts += [(len(plan.removed), "removed"), (len(plan.withheld), "removals withheld")]
    counts += [(len(plan.failures), "failed")]
    said = ", ".join(f"{count:,} {word}" for count, word in counts if count) or "nothing there"
    reasons = Counter(d.reason for d in plan.documents if d.change == Change.CHANGED.value)
    if len(reasons) > 1:
        said += f" (changed: {', '.join(f'{count:,} {why}' for why, count in reasons.most_common())})"
    return f"{said}   {number(plan.tokens, 'token')}   {money(plan.cost_usd)}"


def _document(document: PlannedDocument) -> str:
    old = f"{one_line(document.renamed_from)} → " if document.renamed_from else ""
    cost = f"   {number(document.tokens, 'token')}" if document.tokens else ""
    told = (Change.CHANGED.value, Change.COPY.value)
    why = f"   {one_line(document.reason)}" if document.change in told and document.reason else ""
    return f"{old}{one_line(document.key)}{cost}{why}"


def _failure(key: str, reason: str) -> str:
    """A failed document; most reasons begin with its key already."""
    reason = one_line(reason)
    return f"! {reason}" if one_line(key) in reason else f"! {one_line(key)}: {reason}"


def _listed(items: Iterable[str]) -> Iterator[str]:
    """The first lines, and how many more there are."""
    count = 0
    for count, item in enumerate(items, start=1):
        if count <= LISTED:
            yield f"  {item}"
    if count > LISTED:
        yield f"    … and {count - LISTED:,} more (--json lists all)"

"""What automations can wait for: events of Docweave's own, beside those that Prefect sends of every run."""

from __future__ import annotations

from itertools import islice

from prefect.events import emit_event

from pipeline.records import Failure, JsonValue
from pipeline.report import SourceReport

INGESTED = "docweave.source.ingested"
WITHHELD = "docweave.removals.withheld"
EXHAUSTED = "docweave.budget.exhausted"
DOCUMENT_FAILED = "docweave.document.failed"

FAILED_DOCUMENTS = 20
"""Failed documents of which a run sends an event each; how many there are, is in that of the source."""
REASON = 500
"""Characters of an error that an event has room for."""


def source_ended(report: SourceReport, *, table: str, asked: bool = False) -> None:
    """Send all that is to be told of a source that was ingested.

    Args:
        report: What became of it.
        table: The key of the asset that was written.
        asked: Whether the run told of what it withholds before: it was resumed.
    """
    if report.skipped:
        return
    related = [{"prefect.resource.id": table, "prefect.resource.role": "table"}]
    source = _source(report.source)
    emit_event(INGESTED, source, related=related, payload=_counts(report))
    if report.withheld and not asked:
        payload = {"withheld": report.withheld, "stored": report.stored}
        emit_event(WITHHELD, source, related=related, payload=payload)
    if report.left:
        spent = {"budget": report.stopped_by, "left": report.left, "left_tokens": report.left_tokens}
        emit_event(EXHAUSTED, source, related=related, payload=spent)
    for failure in islice(report.failures, FAILED_DOCUMENTS):
        _document_failed(report.source, failure)


def _document_failed(source: str, failure: Failure) -> None:
    key = failure.key[:400]
    emit_event(
        DOCUMENT_FAILED,
        {
            "prefect.resource.id": f"docweave.document.{source}/{key}",
            "prefect.resource.name": key,
            "docweave.source": source,
        },
        related=[{**_source(source), "prefect.resource.role": "source"}],
        payload={"key": key, "error": failure.error, "reason": failure.reason[:REASON], "url": failure.url},
    )


def _source(name: str) -> dict[str, str]:
    return {
        "prefect.resource.id": f"docweave.source.{name}",
        "prefect.resource.name": name,
        "docweave.source": name,
    }


def _counts(report: SourceReport) -> dict[str, JsonValue]:
    """The report's numbers: neither keys nor reasons."""
    value: dict[str, JsonValue] = {
        name: count
        for name, count in report.as_json().items()
        if isinstance(count, int | float) and not isinstance(count, bool)
    }
    return {**value, "failed": len(report.failures), "moved": len(report.moved)}

"""Do the tables tell the truth? Every stored document is looked at, in memory that does not grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import anyio

from pipeline.budget import Budget
from pipeline.copies import lost
from pipeline.examine import Examined, Treatment, examine
from pipeline.findings import Finding, Kind
from pipeline.protocols import Reader
from pipeline.records import JsonValue
from pipeline.reembed import Sample, Sampled, embed_again
from pipeline.stored import Stored

MOST_FINDINGS = 10_000
"""Documents with findings that are told; of more they are only counted."""
SETTLING = 1.0
"""Seconds until what was found is looked at again: somebody may just have been writing it. Chunks are
committed before their marks."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was looked at of one source."""

    documents: int = 0
    chunks: int = 0
    groups: int = 0
    proven: int = 0
    """Groups whose texts are proven to be those that their vectors are stored for."""
    other_settings: int = 0
    """Documents made by other settings, or another version: the next ingest reads them anew."""
    dropped: int = 0
    """Documents whose marks a repair took: the next ingest reads them anew."""
    unproven: int = 0
    """Documents of which something can be neither proven nor refuted."""
    configured: bool = True
    """Whether the settings name it."""

    def add(self, stored: Stored, examined: Examined) -> None:
        """Count one document."""
        self.documents += bool(stored.marks)
        self.chunks += len(stored.chunks)
        self.groups += len(stored.groups)
        self.proven += len(examined.proven)
        self.other_settings += examined.other_settings
        self.dropped += examined.dropped
        self.unproven += bool(examined.unproven)


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """What an audit found."""

    sources: dict[str, Tally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[Kind] = field(default_factory=Counter)
    """Of all findings, also of those that are only counted."""
    sampled: Sampled | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing was found, and all of the sample could be embedded."""
        return not self.counts and not (self.sampled and self.sampled.refused)

    def add(self, findings: Sequence[Finding], *, told: bool = True) -> None:
        """Count them, and keep those that are told."""
        self.counts.update(finding.kind for finding in findings)
        self.findings += findings if told else ()

    def as_json(self) -> dict[str, JsonValue]:
        """All of it, for a program to read."""
        return {
            "clean": self.clean,
            "sources": {name: asdict(tally) for name, tally in self.sources.items()},
            "counts": {kind.value: count for kind, count in sorted(self.counts.items())},
            "findings": [finding.as_json() for finding in self.findings],
            "sample": asdict(self.sampled) if self.sampled else None,
        }


Observer = Callable[[AuditReport], None]


async def audit(  # noqa: PLR0913 - what holds for one audit, by name
    reader: Reader,
    treatment: Treatment,
    sources: Sequence[str] = (),
    *,
    sample: Sample | None = None,
    budget: Budget | None = None,
    observe: Observer = lambda _: None,
) -> AuditReport:
    """Look at every stored document of these sources, or of all. Writes nothing; pays for the sample alone.

    Args:
        reader: Reads the tables. Others may write them meanwhile: what is found is looked at twice.
        treatment: What the documents should be like.
        sources: Their names.
        sample: Chooses the groups that are embedded again.
        budget: Is not passed by that.
        observe: Sees the report grow.

    Raises:
        SettingsError: the budget does not hold the sample.
        StoreError: the tables cannot be read.
        EmbedError: the service works for nothing.
    """
    report = AuditReport()
    chosen = sample or Sample(0, 0)
    doubtful: dict[str, list[str]] = {}
    snapshot = await reader.snapshot()
    for source in sources or await snapshot.sources():
        tally = report.sources[source] = Tally(configured=source in treatment.recipes)
        async for stored in snapshot.stored(source):
            examined = examine(stored, treatment)
            tally.add(stored, examined)
            for one in examined.proven:
                chosen.offer(source, stored.key, one.key)
            if examined.findings and sum(map(len, doubtful.values())) < MOST_FINDINGS:
                doubtful.setdefault(source, []).append(stored.key)
            else:
                report.add(examined.findings, told=False)
            observe(report)
    await _look_again(reader, treatment, doubtful, report)
    for state in await lost(snapshot):
        if state.source in report.sources:
            reason = "a copy, and no document has the passages of its text: the next ingest stores them"
            report.add([Finding(kind=Kind.MISSING, source=state.source, key=state.key, reason=reason)])
    if chosen.size:
        report.sampled = Sampled()
        spends = budget or Budget(name="this audit")
        now = await reader.snapshot()
        async for finding in embed_again(chosen, now, treatment, spends, report.sampled):
            report.add([finding])
    return report


async def _look_again(
    reader: Reader, treatment: Treatment, doubtful: dict[str, list[str]], report: AuditReport
) -> None:
    """Report what is wrong with these documents still."""
    if not doubtful:
        return
    await anyio.sleep(SETTLING)
    snapshot = await reader.snapshot()
    for source, keys in doubtful.items():
        async for stored in snapshot.stored(source, keys):
            report.add(examine(stored, treatment).findings)

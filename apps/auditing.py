"""An audit by the settings: what it is made of, and what a person is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from apps.plain import one_line, table
from config.build import build_pipeline, connectors, patience, removal_guard
from config.problems import nearest
from config.settings import Settings
from flows.budgets import Budgets
from flows.summary import money, number
from pipeline import digest
from pipeline.audit import AuditReport, Tally, audit
from pipeline.errors import SettingsError
from pipeline.examine import Treatment
from pipeline.findings import Kind
from pipeline.prepare import Pipeline
from pipeline.protocols import Reader
from pipeline.reembed import Sample, Sampled
from pipeline.repair import Repaired, repair

LISTED = 20
"""Findings of one kind that are shown; `--json` has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    sources: Sequence[str] = ()
    sample: int = 0
    seed: int = 0
    repair: bool = False
    approved: int | None = None
    """How many documents a person lets a repair take out of a source."""


async def audited(
    settings: Settings, asked: Asked, tell: Callable[[str], None]
) -> tuple[AuditReport, Mapping[str, Repaired]]:
    """Audit the tables, and mend what was found if that is asked for.

    Args:
        settings: Say what the stored documents should be like.
        asked: What is asked for.
        tell: Hears which other run a repair waits for.

    Raises:
        SettingsError: neither the settings nor the tables know a source; or the budget does not hold the
            sample.
        DocweaveError: as `pipeline.audit.audit` and `pipeline.repair.repair`.
    """
    async with build_pipeline(settings) as pipeline:
        store = pipeline.store
        await _check_names(store, asked.sources, settings.sources)
        treatment = _treatment(settings, pipeline)
        report = await audit(
            store,
            treatment,
            asked.sources,
            sample=Sample(asked.sample, asked.seed),
            budget=Budgets.of(settings).run,
        )
        if not (asked.repair and report.findings):
            return report, {}
        guards = {name: removal_guard(settings, name, approved=asked.approved) for name in settings.sources}
        async with store.lease("repairing", wait=patience(settings), tell=tell):
            repaired = await repair(store, treatment, report.findings, guards, journal=pipeline.journal)
            await store.upkeep()
        return report, repaired


def _treatment(settings: Settings, pipeline: Pipeline) -> Treatment:
    return Treatment(
        embedder=pipeline.embedder,
        grouping=pipeline.grouping,
        recipes={
            connector.source: digest.recipe(
                pipeline.parser.recipe,
                pipeline.chunker.recipe,
                pipeline.embedder,
                pipeline.grouping,
                metadata,
                connector,
                copies_once=pipeline.copies_once,
            )
            for connector, metadata in connectors(settings)
        },
    )


async def _check_names(reader: Reader, names: Sequence[str], configured: Iterable[str]) -> None:
    known = list(dict.fromkeys([*configured, *await reader.sources()]))
    for name in names:
        if name not in known:
            raise SettingsError(
                f"no source is called {name!r}; valid: {', '.join(known)}{nearest(name, known)}"
            )


def lines(report: AuditReport, repaired: Mapping[str, Repaired], asked: Asked) -> list[str]:
    """What a person is told."""
    rows = [[name, *_tally(tally)] for name, tally in report.sources.items()]
    out = table(rows, right=frozenset({1, 2, 3}))
    for name, tally in report.sources.items():
        out += [f"  {one_line(name)}: {note}" for note in _notes(tally)]
    for kind in Kind:
        told = [finding for finding in report.findings if finding.kind is kind]
        out += [
            f"! {kind.value:<9} {one_line(one.source)}/{one_line(one.key)}: {one_line(one.reason)}"
            for one in told[:LISTED]
        ]
        if report.counts[kind] > LISTED:
            out.append(f"  … and {report.counts[kind] - LISTED:,} more of this kind (--json lists them)")
    if report.sampled:
        out += _sample_lines(report.sampled, asked)
    for name, one in repaired.items():
        out += [f"  {one_line(name)}: {said}" for said in _mended(one)]
    return [*out, "", _verdict(report, asked)]


def _tally(tally: Tally) -> list[str]:
    proven = f"{tally.proven:,} of {number(tally.groups, 'group')} proven"
    return [number(tally.documents, "document"), number(tally.chunks, "chunk"), proven]


def _notes(tally: Tally) -> Iterator[str]:
    """What is no finding."""
    if not tally.configured:
        yield "not in the settings: its documents were checked, and no digest of theirs"
    elif tally.other_settings:
        documents = number(tally.other_settings, "document")
        yield f"{documents} made by other settings or another version: the next ingest reads them anew"
    if tally.dropped:
        yield f"{number(tally.dropped, 'document')} repaired, and waiting for the next ingest"
    if tally.unproven:
        yield f"{number(tally.unproven, 'document')} of which something can be neither proven nor refuted"


def _sample_lines(sampled: Sampled, asked: Asked) -> list[str]:
    paid = f"{number(sampled.tokens, 'token')}, {money(sampled.cost_usd)}"
    alike = f"{sampled.alike:,} came out bit for bit"
    out = [f"{number(sampled.groups, 'group')} embedded again (seed {asked.seed}): {alike}; {paid}"]
    if sampled.alike < sampled.groups:
        out.append("  A service may not give the same bits twice: a cosine very near 1 is its unsteadiness.")
    return out + [f"  not embedded: {one_line(why)}" for why in sampled.refused]


def _mended(one: Repaired) -> Iterator[str]:
    kept = f" ({number(one.kept_vectors, 'vector')} kept for them)" if one.kept_vectors else ""
    if one.removed:
        yield f"rows of {number(len(one.removed), 'document')} taken out{kept}"
    if one.dropped:
        marks = f"marks of {number(len(one.dropped), 'document')}"
        yield f"{marks} dropped; their rows are found until the next ingest"
    if one.unsteady:
        yield f"{number(len(one.unsteady), 'document')} left: nearly the same vectors came again"
    if one.withheld:
        count = len(one.withheld)
        yield f"{number(count, 'document')} not taken out, as so many: --approve-removals {count} allows it"


def _verdict(report: AuditReport, asked: Asked) -> str:
    if not report.counts:
        return "Nothing is wrong." if report.clean else "Nothing is wrong; not all could be embedded again."
    found = ", ".join(f"{count:,} {kind.value}" for kind, count in report.counts.items())
    total = number(report.counts.total(), "finding")
    then = "`docweave ingest` reads anew what was repaired" if asked.repair else "`docweave audit --repair`"
    return f"{total}: {found}. Next: {then}."

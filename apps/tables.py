"""What the commands that only look ask of the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from apps.desk import desk_of
from apps.rollback import generation_json
from config.build import (
    build_pipeline,
    connectors,
    open_reader,
    open_store,
    patience,
    removal_guard,
)
from config.problems import nearest
from config.settings import Settings
from pipeline.clauses import both
from pipeline.copies import settle
from pipeline.errors import DocweaveError, SettingsError
from pipeline.plan import SourcePlan
from pipeline.query import Mode, Question
from pipeline.query_desk import Desk
from pipeline.query_named import SIGN, full_name
from pipeline.records import EmbeddingSpace, Generation, Hit, JsonValue
from pipeline.report import Observer
from pipeline.where import parse_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the tables hold, beside what the settings name."""

    uri: str
    space: EmbeddingSpace | None
    counts: Mapping[str, tuple[int, int]]
    """Documents and chunks of each source that has any."""
    generations: Sequence[Generation]
    """The live tables, those that a rebuild is writing, and those that it took the place of."""
    configured: Sequence[str]
    copies: int = 0
    """Documents without passages: another one has those of their text."""

    @property
    def not_ingested(self) -> list[str]:
        """Sources of the settings that the tables know nothing of."""
        return [name for name in self.configured if name not in self.counts]

    @property
    def not_configured(self) -> list[str]:
        """Sources of the tables that the settings do not name."""
        return [name for name in self.counts if name not in self.configured]

    def as_json(self) -> dict[str, JsonValue]:
        """All of it, for a program to read."""
        return {
            "store": self.uri,
            "space": asdict(self.space) if self.space else None,
            "sources": {
                name: {"documents": documents, "chunks": chunks}
                for name, (documents, chunks) in self.counts.items()
            },
            "copies": self.copies,
            "not_ingested": [*self.not_ingested],
            "not_configured": [*self.not_configured],
            "generations": [generation_json(one) for one in self.generations],
        }


async def status(settings: Settings) -> Status:
    """What the tables hold.

    Raises:
        StoreError: they cannot be read.
    """
    reader = await open_reader(settings)
    return Status(
        uri=settings.store.uri,
        space=await reader.space(),
        counts=await reader.counts(),
        generations=await reader.generations(),
        configured=list(settings.sources),
        copies=len(await reader.copies()),
    )


async def forget(settings: Settings, source: str, *, tell: Callable[[str], None]) -> int:
    """Remove all that the tables hold of a source that the settings no longer name.

    `tell` is told which other run is waited for.

    Returns:
        How many documents that were.

    Raises:
        SettingsError: as `check_forgettable`.
        StoreBusy: another run writes them, for longer than the settings wait.
        StoreError: the tables cannot be read or written.
    """
    store = await open_store(settings, await check_forgettable(settings, source))
    async with store.lease(f"forgetting {source}", wait=patience(settings), tell=tell):
        keys = list(await store.marks(source))
        await store.remove(source, keys)
        await settle(store)
        await store.upkeep()
    return len(keys)


async def check_forgettable(settings: Settings, source: str) -> EmbeddingSpace:
    """The space of the tables, where they hold a source that the settings no longer name.

    Raises:
        SettingsError: the settings name it still, or the tables know nothing of it.
        StoreError: the tables cannot be read.
    """
    if source in settings.sources:
        raise SettingsError(
            f"the settings still name {source!r}, and the next ingest would bring it back: take it out of "
            "sources first"
        )
    reader = await open_reader(settings)
    counts = await reader.counts()
    space = await reader.space()
    if source not in counts or space is None:
        gone = [name for name in counts if name not in settings.sources]
        known = ", ".join(gone) or "none: every source of the tables is in the settings"
        raise SettingsError(
            f"the tables hold nothing of {source!r}; can be forgotten: {known}{nearest(source, gone)}"
        )
    return space


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTarget:
    """Where a plan is to be saved."""

    path: Path
    force: bool
    """Whether a file that is there is overwritten."""


async def plan(
    settings: Settings,
    names: Sequence[str],
    *,
    rebuild: bool,
    observe: Observer,
    target: PlanTarget | None = None,
) -> tuple[list[SourcePlan], dict[str, Exception]]:
    """What an ingest of the named sources, or of all, would do; and why sources could not be looked at.

    Raises:
        SettingsError: the embedder cannot be built, or the plan cannot be saved.
        StoreError: the tables cannot be read, or hold another space.
    """
    from pipeline.ingest import plan_source  # noqa: PLC0415 - brings parsers and splitters: not for a search

    if target:
        from flows import plan_file  # noqa: PLC0415 - as above

        plan_file.check_target(target.path, force=target.force)
    plans: list[SourcePlan] = []
    errors: dict[str, Exception] = {}
    async with build_pipeline(settings, rebuild=rebuild) as pipeline:
        for connector, metadata in connectors(settings, names):
            guard = removal_guard(settings, connector.source)
            try:
                plans.append(
                    await plan_source(connector, pipeline, metadata=metadata, guard=guard, observe=observe)
                )
            except DocweaveError as error:
                errors[connector.source] = error
        if target:
            space = pipeline.embedder.space
            plan_file.save(
                target.path, plans, settings=settings, space=space, rebuild=rebuild, force=target.force
            )
    return plans, errors


async def check_plan(settings: Settings, names: Sequence[str], path: Path, *, rebuild: bool) -> list[str]:
    """Refuse a saved plan that cannot be applied with these settings.

    Returns:
        The sources to apply it to, by name; none for a rebuild, which is about all.

    Raises:
        SettingsError: it is no plan, or one of other settings, tables or sources.
        StoreError: the tables cannot be read.
    """
    from flows import plan_file  # noqa: PLC0415 - brings parsers and splitters: not for a search

    chosen = plan_file.chosen(path, names, settings, rebuild=rebuild)
    await plan_file.check_settings(path, chosen, settings)
    return [] if rebuild else chosen


async def search(
    settings: Mapping[str, Settings], question: Question, conditions: Sequence[str] = ()
) -> list[Hit]:
    """The chunks that answer best, best first.

    Args:
        settings: Of the tables that are asked, by their names.
        question: Its filter is added to.
        conditions: Must all hold: each is a filter, as `pipeline.where` has it.

    Raises:
        SettingsError: neither the settings nor the tables know a source that the question names; or a
            condition is none.
        DocweaveError: as `Desk.search`.
    """
    desk = desk_of(settings, by_words=question.mode is Mode.TEXT)
    try:
        return (await desk.search(await checked(desk, settings, question, conditions))).hits
    finally:
        await desk.aclose()


async def checked(
    desk: Desk, settings: Mapping[str, Settings], question: Question, conditions: Sequence[str]
) -> Question:
    """The question, with these conditions in its filter.

    Raises:
        SettingsError: as `search`.
        StoreError: the tables cannot be read.
    """
    await check_sources(desk, settings, question.where.sources)
    clause = parse_all(conditions, await desk.columns(question.where.sources) if conditions else ())
    return replace(question, where=replace(question.where, clause=both(question.where.clause, clause)))


async def check_sources(desk: Desk, settings: Mapping[str, Settings], names: Sequence[str]) -> None:
    """Refuse sources that neither the settings nor the tables know.

    Raises:
        SettingsError: there is one.
        StoreError: the tables cannot be read.
    """
    known = {full_name(name, source): None for name, one in settings.items() for source in one.sources}
    if set(names) - set(known):
        known |= dict.fromkeys(await desk.counts(access=None))
        # Of several tables, a source may be named without its own.
        if unknown := set(names) - set(known) - {source.rpartition(SIGN)[2] for source in known}:
            raise SettingsError(f"no source is called {min(unknown)!r}; valid: {', '.join(known)}")

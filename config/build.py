"""Settings to live objects: the one place where classes are chosen.

What is heavy to import is imported in the function that needs it: a search must not wait for what only an
ingest uses.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pydantic import SecretStr

from config.columns import columns_of
from config.embedding import LocalEmbedding, OpenRouterEmbedding, PerplexityEmbedding, ServiceEmbedding
from config.problems import nearest
from config.settings import Settings
from connectors.registry import connect
from pipeline.errors import SettingsError
from pipeline.plan import RemovalGuard
from pipeline.protocols import Connector, Embedder, Reader, Store
from pipeline.records import EmbeddingSpace, Metadata

if TYPE_CHECKING:
    from pipeline.embedders._pace import Pace
    from pipeline.parse import DocumentParser
    from pipeline.prepare import Pipeline
    from pipeline.shards import Boards
    from pipeline.upkeep import Tended

_SMALL_SECTION = 48
"""Tokens below which a section is joined with the next: at most a quarter of a chunk."""


def build_embedder(settings: Settings) -> Embedder:
    """What computes the vectors. Opens no connection yet; `aclose` it when done.

    Raises:
        SettingsError: the service asks for a key, and there is none.
    """
    match settings.embedding:
        case LocalEmbedding() as chosen:
            from pipeline.embedders.local import LocalEmbedder

            return LocalEmbedder(contextual=chosen.contextual)
        case PerplexityEmbedding() as chosen:
            from pipeline.embedders.perplexity import PerplexityEmbedder

            return PerplexityEmbedder(
                model=chosen.model,
                dimensions=chosen.width,
                encoding_format=chosen.encoding_format,
                contextual=chosen.contextual,
                usd_per_million_tokens=chosen.usd_per_million_tokens,
                api_key=_api_key(chosen),
                key_name=_key_name(chosen),
                base_url=chosen.base_url,
                timeout_seconds=chosen.timeout_seconds,
                pace=_pace(chosen),
            )
        case OpenRouterEmbedding() as chosen:
            from pipeline.embedders.openrouter import OpenRouterEmbedder

            return OpenRouterEmbedder(
                model=chosen.model,
                dimensions=chosen.width,
                limits=chosen.limits,
                options=chosen.options,
                usd_per_million_tokens=chosen.usd_per_million_tokens,
                api_key=_api_key(chosen),
                key_name=_key_name(chosen),
                base_url=chosen.base_url,
                timeout_seconds=chosen.timeout_seconds,
                pace=_pace(chosen),
            )


def build_parser(settings: Settings) -> DocumentParser:
    """What reads documents. Starts no process yet.

    Raises:
        SettingsError: scanned pages are to be read, and Tesseract's data is not there.
    """
    from pipeline.parse import DocumentParser, ParseLimits

    chosen = settings.parsing
    limits = ParseLimits(
        seconds=chosen.seconds,
        memory_bytes=chosen.memory,
        input_bytes=chosen.max_bytes,
        output_chars=chosen.max_characters,
        contained_documents=chosen.max_contained,
        contained_bytes=chosen.max_bytes,
    )
    return DocumentParser(limits, processes=chosen.processes, ocr=chosen.ocr, tessdata=chosen.tessdata)


async def open_reader(settings: Settings) -> Reader:
    """The query side of the store, without what only writing needs.

    Raises:
        StoreError: the store cannot be reached or read.
    """
    from pipeline.stores.lance_reader import LanceReader

    return await LanceReader.open(settings.store.uri, store_options(settings))


async def open_store(
    settings: Settings, space: EmbeddingSpace, *, rebuild: bool = False, generation: int | None = None
) -> Store:
    """The store for vectors of one space; what is not there yet is made.

    Args:
        settings: Say where it is.
        space: Of the vectors that will be written.
        rebuild: Write beside the live tables, to take their place when it is published.
        generation: For a rebuild in several steps: what `Store.stage` gave for the first of them.

    Raises:
        SpaceMismatch: it holds vectors of another space, and is not to be rebuilt.
        StoreError: it cannot be reached, read or written.
    """
    from pipeline.stores.lance import LanceStore

    return await LanceStore.open(
        settings.store.uri,
        store_options(settings),
        space=space,
        rebuild=rebuild,
        generation=generation,
        journal_bytes=settings.store.journal if _is_paid(settings) else 0,
        columns=columns_of(settings.columns),
        policy=settings.store.upkeep.policy,
    )


async def open_boards(settings: Settings, lease: str) -> Boards:
    """Where what is worked off under this lease is put up for several workers.

    Raises:
        StoreError: the store cannot be reached or read.
    """
    from pipeline.stores.lance_shards import boards

    return await boards(settings.store.uri, store_options(settings), lease)


async def roll_back(settings: Settings, *, tell: Callable[[str], None]) -> None:
    """Search the tables again that were live before the last rebuild.

    `tell` is told which run is waited for.

    Raises:
        StoreRefused: there are none.
        StoreBusy: another run writes the tables, for longer than the settings wait.
        StoreError: the tables cannot be read or written.
    """
    from pipeline.stores import lance_rollback

    await lance_rollback.roll_back(
        settings.store.uri, store_options(settings), wait=patience(settings), tell=tell
    )


async def maintain(settings: Settings, *, tell: Callable[[str], None], dry_run: bool = False) -> list[Tended]:
    """Do what is due for each table, or give what is due.

    `tell` is told which run is waited for, and what is begun.

    Raises:
        StoreBusy: another run writes the tables, for longer than the settings wait.
        StoreError: the tables cannot be read or written.
    """
    from pipeline.stores import lance_maintain

    return await lance_maintain.maintain(
        settings.store.uri,
        store_options(settings),
        policy=settings.store.upkeep.policy,
        wait=patience(settings),
        tell=tell,
        dry_run=dry_run,
    )


@asynccontextmanager
async def build_pipeline(
    settings: Settings,
    *,
    rebuild: bool = False,
    generation: int | None = None,
    store: Callable[[EmbeddingSpace], Store] | None = None,
) -> AsyncIterator[Pipeline]:
    """All that an ingest is made of, closed at the end.

    Args:
        settings: Say what it is made of.
        rebuild: As `open_store`.
        generation: As `open_store`.
        store: Makes another store, in place of the settings' own.

    Raises:
        SettingsError: as `build_embedder`.
        StoreError: as `open_store`.
    """
    from pipeline.chunk import Chunker
    from pipeline.prepare import Pipeline
    from pipeline.telemetry import Stage
    from pipeline.telemetry_stages import traced

    parsing = Stage("parse")
    most = settings.chunking.max_tokens
    embedder = build_embedder(settings)
    try:
        pipeline = Pipeline(
            parser=build_parser(settings),
            chunker=Chunker(max_tokens=most, merge_below=min(_SMALL_SECTION, most // 4)),
            embedder=embedder,
            store=store(embedder.space)
            if store
            else await open_store(settings, embedder.space, rebuild=rebuild, generation=generation),
            grouping=settings.embedding.grouping,
            concurrency=settings.embedding.concurrency,
            journal=_is_paid(settings),
            copies_once=settings.copies == "once",
        )
        yield traced(pipeline, parsing)
    finally:
        parsing.end()
        await embedder.aclose()


def connectors(settings: Settings, names: Iterable[str] = ()) -> list[tuple[Connector, Metadata]]:
    """The connectors of the named sources, or of all, each with the metadata for its documents.

    Raises:
        SettingsError: a name is none of the sources'.
    """
    chosen = list(dict.fromkeys(names)) or list(settings.sources)
    if unknown := [name for name in chosen if name not in settings.sources]:
        known = ", ".join(settings.sources)
        raise SettingsError(
            "\n".join(
                f"no source is called {name!r}; valid: {known}{nearest(name, settings.sources)}"
                for name in unknown
            )
        )
    return [(connect(name, settings.sources[name]), settings.sources[name].metadata) for name in chosen]


def removal_guard(settings: Settings, source: str, *, approved: int | None = None) -> RemovalGuard:
    """How much a run may remove from a source. `approved` is what a person allowed for this run."""
    chosen = settings.sources[source].removals
    return RemovalGuard(documents=chosen.max_documents, percent=chosen.max_percent, approved=approved)


def patience(settings: Settings) -> float:
    """Seconds for which to wait while another run writes the tables."""
    return settings.store.wait_minutes * 60 if settings.store.when_busy == "wait" else 0


def store_options(settings: Settings) -> Mapping[str, str]:
    """The store's options in the clear."""
    return {
        key: value.get_secret_value() if isinstance(value, SecretStr) else value
        for key, value in settings.store.options.items()
    }


def _is_paid(settings: Settings) -> bool:
    """Whether vectors cost money, or the time of a server: then none is asked for twice."""
    return not isinstance(settings.embedding, LocalEmbedding)


def _pace(chosen: ServiceEmbedding) -> Pace:
    from pipeline.embedders._pace import Pace

    return Pace(chosen.concurrency, chosen.requests_per_minute, chosen.tokens_per_minute)


def _key_name(chosen: ServiceEmbedding) -> str:
    """Where the user keeps the key."""
    return "embedding.api_key" if chosen.api_key else chosen.key_name


def _api_key(chosen: ServiceEmbedding) -> str:
    key = chosen.api_key.get_secret_value() if chosen.api_key else os.environ.get(chosen.key_name, "")
    if not key and chosen.official:
        missing = "embedding.api_key is empty" if chosen.api_key else f"{chosen.key_name} is not set"
        raise SettingsError(
            f"{missing}, and {chosen.base_url} asks for a key. Set it (export {chosen.key_name}=…), or use "
            "`provider: local`, which needs none"
        )
    return key

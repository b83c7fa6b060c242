"""Try all that a YAML file names, and say everything that does not work at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import anyio
import anyio.to_thread

from config.build import build_embedder, connectors, open_reader, store_options
from config.embedding import ServiceEmbedding
from config.load import examine
from config.settings import OBJECT_STORES, Settings
from pipeline.errors import DocweaveError, ItemUnreadable, SettingsError, SpaceMismatch, StoreRefused
from pipeline.protocols import Connector
from pipeline.records import EmbeddingSpace, ItemRef
from pipeline.stores._conditional_put import check_conditional_put
from pipeline.stores._place import Place

_LISTED = 100
"""Items that are listed of a source."""
_TRIED = 3
"""Items that are tried until one can be read."""
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of trying one thing."""

    what: str
    """The key in the YAML file: `settings`, `sources.NAME`, `store` or `embedding`."""
    ok: bool
    message: str
    seconds: float = 0.0


async def check(path: Path) -> list[Finding]:
    """Every problem of the file; or, if it has none, what came of trying all that it names.

    Each source, the store and the embedder are tried whatever becomes of the others. A paid embedder is asked
    one short question. Nothing is raised, and nothing written that stays.
    """
    settings, problems = await anyio.to_thread.run_sync(examine, path)
    if settings is None:
        return [Finding(what="settings", ok=False, message=str(problem)) for problem in problems]
    trials: dict[str, Callable[[], Awaitable[str]]] = {
        f"sources.{connector.source}": partial(_source, connector) for connector, _ in connectors(settings)
    }
    trials["store"] = partial(_store, settings)
    trials["embedding"] = partial(_embedding, settings)
    findings: dict[str, Finding] = {}
    async with anyio.create_task_group() as tasks:
        for what, trial in trials.items():
            tasks.start_soon(_try, what, trial, findings)
    read = Finding(what="settings", ok=True, message=f"{path} holds what it may")
    return [read, *(findings[what] for what in trials)]


async def _try(what: str, trial: Callable[[], Awaitable[str]], findings: dict[str, Finding]) -> None:
    started = time.monotonic()
    ok = False
    try:
        with anyio.fail_after(_PATIENCE_SECONDS):
            message = await trial()
        ok = True
    except TimeoutError:
        message = f"no answer within {_PATIENCE_SECONDS:.0f} s"
    except DocweaveError as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 - whatever breaks here must not hide what the others found
        # Its own words may hold a secret: nobody here chose them.
        message = f"failed in a way that was not foreseen: {type(error).__name__}"
    findings[what] = Finding(what=what, ok=ok, message=message, seconds=time.monotonic() - started)


async def _source(connector: Connector) -> str:
    """List the first items and read one."""
    refs = await _first(connector)
    if not refs:
        raise SettingsError(f"sources.{connector.source} lists nothing: see its path, include and exclude")
    listed = "1 item" if len(refs) == 1 else f"{len(refs)} items"
    listed += " or more" if len(refs) == _LISTED else ""
    unreadable: list[ItemUnreadable] = []
    for ref in islice(refs, _TRIED):
        try:
            raw = await connector.load(ref)
        except ItemUnreadable as error:
            unreadable.append(error)
        else:
            return f"lists {listed}; read {ref.key} ({len(raw.content):,} bytes)"
    raise unreadable[0]


async def _first(connector: Connector) -> list[ItemRef]:
    items = connector.list_items()
    refs = []
    async for ref in items:
        refs.append(ref)
        if len(refs) == _LISTED:
            break
    if isinstance(items, AsyncGenerator):
        await items.aclose()
    return refs


async def _store(settings: Settings) -> str:
    """Compare the store's space with the embedder's, and try whether it can be written.

    AWS, Google and Azure are only read: what they would be tried for, they promise.
    """
    uri = settings.store.uri
    local = not uri.startswith(tuple(f"{scheme}://" for scheme in OBJECT_STORES))
    if local:
        await anyio.to_thread.run_sync(_write_near, Path(uri))
    # Opening a folder makes it.
    there = not local or await anyio.Path(uri).exists()
    stored = await (await open_reader(settings)).space() if there else None
    wanted = await wanted_space(settings)
    if stored and wanted and stored != wanted:
        raise SpaceMismatch(
            f"{uri} holds vectors of {stored}; the settings ask for {wanted}. Change the settings back, name "
            "another store.uri, or rebuild"
        )
    holds = f"holds vectors of {stored}" if stored else "is empty so far"
    if local:
        return f"{uri} can be written, and {holds}"
    if await check_conditional_put(Place.at(uri, store_options(settings))):
        return f"{uri} can be written, honours conditional writes, and {holds}"
    return f"{uri} can be read, and {holds}"


async def wanted_space(settings: Settings) -> EmbeddingSpace | None:
    """The space that the settings ask for; None where the embedder cannot be built, as its trial will say."""
    try:
        embedder = build_embedder(settings)
    except DocweaveError:
        return None
    await embedder.aclose()
    return embedder.space


def _write_near(folder: Path) -> None:
    """Write where the store is, or where it would be made, and leave nothing."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except NotADirectoryError as error:
        raise StoreRefused(f"store.uri: {there} is a file; the store needs a folder") from error
    except OSError as error:
        raise StoreRefused(f"store.uri: {there} cannot be written to: {error.strerror}") from error


async def _embedding(settings: Settings) -> str:
    """Embed one question."""
    embedder = build_embedder(settings)
    try:
        vector = await embedder.embed_query("Does this work?")
    finally:
        await embedder.aclose()
    paid = " (one paid call of a few tokens)" if isinstance(settings.embedding, ServiceEmbedding) else ""
    return f"{embedder.space}: embedded a question as {vector.nbytes:,} bytes{paid}"

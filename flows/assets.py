"""The tables as assets, with the sources that they are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext

from config.settings import Settings
from flows.addresses import bare
from pipeline.errors import StoreError
from pipeline.protocols import Store
from pipeline.records import JsonValue

_NOT_ALLOWED = re.compile(r"""[\s\0#?&%"'<>\[\]{}|\\^`]""")
"""In an asset's key, by Prefect's own rules."""
_LONGEST = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the live tables hold when a source has been ingested."""

    documents: int
    rows: int
    generation: int
    space: str

    def metadata(self, source: str) -> dict[str, JsonValue]:
        """For the asset, with the source that it was brought up to date with."""
        return {
            "source": source,
            "documents": self.documents,
            "rows": self.rows,
            "version": self.generation,
            "space": self.space,
        }


async def stored(store: Store, generation: int | None = None) -> Stored | None:
    """What the store holds, over all sources; None where it cannot say.

    `generation` is that of a rebuild.
    """
    try:
        counts = (await store.counts()).values()
        generations = await store.generations()
        space = await store.space()
    except StoreError:
        return None
    live = generations[0].number if generations else 0
    return Stored(
        documents=sum(documents for documents, _ in counts),
        rows=sum(chunks for _, chunks in counts),
        generation=live if generation is None else generation,
        space=str(space or ""),
    )


def table(settings: Settings) -> Asset:
    """The passages of the settings' store."""
    address = urlsplit(settings.store.uri)
    place = (
        f"/{address.scheme}/{address.netloc.rpartition('@')[2]}{address.path}"
        if address.netloc
        else settings.store.uri
    )
    return Asset(
        key=_key("lance", f"{place.rstrip('/')}/chunks"),
        properties=AssetProperties(
            name="chunks", description="Passages with their vectors, and the documents that they are of."
        ),
    )


def source(settings: Settings, name: str) -> Asset:
    """One of the settings' sources."""
    chosen = settings.sources[name]
    kind = str(getattr(chosen, "type", "source"))
    address = next(
        (str(value) for field in ("url", "base_url") if (value := getattr(chosen, field, None))), ""
    )
    where = bare(address) if address.startswith("http") else None
    return Asset(
        key=_key(re.sub("[^a-z0-9]", "", kind.lower()) or "source", name),
        properties=AssetProperties(name=name, url=where, description=f"A source of type {kind}."),
    )


def materializes(settings: Settings, name: str) -> None:
    """Have the task that goes on here be the one that makes the table of the source."""
    context = AssetContext.get()
    if context:
        context.downstream_assets.add(table(settings))
        context.direct_asset_dependencies.add(source(settings, name))
        context.materialized_by = "docweave"


def describe(settings: Settings, name: str, holds: Stored | None) -> None:
    """Tell what is in the table when the task has ended."""
    context = AssetContext.get()
    if context and holds:
        context.add_asset_metadata(table(settings).key, holds.metadata(name))


def leaves_alone() -> None:
    """Have the task that goes on here make nothing after all: another run is at it."""
    context = AssetContext.get()
    if context:
        context.downstream_assets.clear()


def _key(scheme: str, place: str) -> str:
    return f"{scheme}://{_NOT_ALLOWED.sub('_', place)}"[:_LONGEST]

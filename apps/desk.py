"""What answers questions, by the settings: one for every face, so that all give the same hits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from config.build import build_embedder, open_reader
from config.load import load_settings
from config.rerank import reranker_of
from config.settings import Settings
from pipeline.errors import SettingsError
from pipeline.query_desk import Desk, Tables
from pipeline.telemetry_stages import traced_embedder

USUAL = "docweave"
"""The name of a settings file that says nothing of what it is about."""


def desk_of(settings: Settings | Mapping[str, Settings], *, by_words: bool = False) -> Desk:
    """What answers. Opens nothing yet; `aclose` it when done.

    Args:
        settings: Those of the tables, or of several by their names. The first say which reranker is asked.
        by_words: Whether it is asked by words alone, so that nothing is embedded.

    Raises:
        SettingsError: as `build_embedder`.
    """
    named = {"": settings} if isinstance(settings, Settings) else settings
    tables = [
        Tables(
            name=name,
            open_reader=partial(open_reader, one),
            embedder=None if by_words else traced_embedder(build_embedder(one)),
        )
        for name, one in named.items()
    ]
    return Desk(tables=tables, reranker=reranker_of(next(iter(named.values())).rerank))


def named_settings(configs: Sequence[Path]) -> dict[str, Settings]:
    """What these files hold, by what their tables are called. The only ones have no name.

    Raises:
        SettingsError: one cannot be meant; or two are of the same name, or about the same tables.
    """
    found: dict[str, Settings] = {}
    places: dict[str, Path] = {}
    for config in configs:
        settings = load_settings(config)
        if len(configs) == 1:
            return {"": settings}
        name = settings.store.name or name_of(config)
        if not name:
            raise SettingsError(f"{config}: give its tables a name: store.name")
        if name in found:
            raise SettingsError(
                f"the tables of two settings are called {name!r}; give those of {config} another name: "
                "store.name"
            )
        if settings.store.uri in places:
            raise SettingsError(
                f"{places[settings.store.uri]} and {config} are about the same tables, {settings.store.uri}"
            )
        found[name] = settings
        places[settings.store.uri] = config
    return found


def name_of(config: Path) -> str:
    """What the tables of a settings file are called that does not say so; empty where it has no letters."""
    path = config.absolute()
    said = path.parent.name if path.stem == USUAL else path.stem
    return re.sub(r"[^a-z0-9_-]+", "-", said.lower()).strip("-_")

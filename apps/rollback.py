"""`docweave rollback`: back to the tables that the last rebuild took the place of."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it needs

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from apps.exits import ending, print_json, tell
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from apps.plain import one_line
from apps.suggested import copyable
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.records import EmbeddingSpace, Generation, JsonValue


def rollback(*, config: Config = Path(SETTINGS_FILE), as_json: AsJson = False) -> None:
    """Go back to the tables from before the last rebuild.

    They are kept until the next rebuild is complete, or `docweave maintain` lets them go. The switch is one
    commit, and searches follow it at once. What is live now is kept in its turn: to roll back once more goes
    forth again.

    \b
    docweave status                   are there any, and since when?
    docweave rollback
    docweave ingest                   brings them up to date with the documents
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        (live, *others), wanted = asyncio.run(_rolled_back(settings))
        if as_json:
            print_json({"generations": [generation_json(one) for one in (live, *others)]})
            return
        typer.echo(f"Live again: {described(live)}.")
        if wanted and wanted != live.space:
            typer.echo(
                f"The settings ask for {wanted}: set `embedding` back to what these tables were made with, "
                "or searches and ingests are refused."
            )
        else:
            typer.echo(copyable("Bring them up to date with `docweave ingest`.", config))


def described(generation: Generation) -> str:
    """What its tables hold."""
    from flows.summary import number

    return f"{number(generation.documents, 'document')}, vectors of {one_line(str(generation.space))}"


def generation_json(generation: Generation) -> dict[str, JsonValue]:
    """All of it, for a program to read."""
    since = generation.since.isoformat() if generation.since else None
    return {**asdict(generation), "since": since}


async def _rolled_back(settings: Settings) -> tuple[Sequence[Generation], EmbeddingSpace | None]:
    """The generations as they are then, and the space that the settings ask for.

    Raises:
        SettingsError: there are no tables to go back to.
        StoreError: as `config.build.roll_back`.
    """
    from config.build import open_reader, roll_back
    from config.check import wanted_space

    standing = await (await open_reader(settings)).generations()
    if not any(one.role == "previous" for one in standing):
        raise SettingsError(
            f"{settings.store.uri} keeps no tables from before a rebuild: there is nothing to go back to"
        )
    await roll_back(settings, tell=tell)
    return await (await open_reader(settings)).generations(), await wanted_space(settings)

"""`docweave columns`: which values of the metadata have a column, and how many documents have them."""

# ruff: noqa: PLC0415 - every command reads this module, and must not wait for what it needs

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.exits import ending, print_json, tell
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from apps.plain import one_line, table
from apps.suggested import copyable
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.records import Column, JsonValue


def columns(
    *,
    config: Config = Path(SETTINGS_FILE),
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="NAME", help="Drop this column; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the columns over the metadata, and how many documents fill them.

    The settings declare them under `columns:`, and the next ingest adds them, to the rows that are there
    too. One that they declare no longer stays, and is filled, until it is dropped here. The metadata itself
    stays as it is, and nothing is embedded.

    \b
    docweave columns
    docweave columns --json | jq '.columns[] | select(.unfit > 0)'
    docweave columns --drop year
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        from config.columns import columns_of

        declared = {column.name: column for column in columns_of(settings.columns)}
        if drop:
            asyncio.run(_dropped(settings, drop, declared))
        stored, filled = asyncio.run(_read(settings))
        if as_json:
            names = {column.name for column in stored}
            print_json(
                {
                    "columns": [_json(one, filled, declared) for one in stored],
                    "to_add": [name for name in declared if name not in names],
                }
            )
        else:
            for line in _lines(stored, filled, declared):
                typer.echo(copyable(line, config))


async def _read(settings: Settings) -> tuple[Sequence[Column], Mapping[str, tuple[int, int]]]:
    """The columns of the tables, and how many documents fill each, and do not fit."""
    from config.build import open_reader

    reader = await open_reader(settings)
    return await reader.columns(), await reader.filled()


async def _dropped(settings: Settings, names: Sequence[str], declared: Mapping[str, Column]) -> None:
    """Drop the columns of these names.

    Raises:
        SettingsError: the settings declare one, or the tables have not all of them.
    """
    from config.build import open_reader, open_store, patience
    from config.problems import nearest

    reader = await open_reader(settings)
    stored, space = [column.name for column in await reader.columns()], await reader.space()
    for name in names:
        if name in declared:
            raise SettingsError(
                f"the settings still declare the column {name!r}, and the next ingest would bring it back: "
                "take it out of `columns:` first"
            )
        if name not in stored:
            gone = [one for one in stored if one not in declared]
            known = ", ".join(gone) or "none"
            raise SettingsError(
                f"the tables have no column {name!r}; can be dropped: {known}{nearest(name, gone)}"
            )
    if space:
        # With those that are declared it would add and remake these as well, which is the next ingest's.
        store = await open_store(settings.model_copy(update={"columns": {}}), space)
        async with store.lease(f"dropping {', '.join(names)}", wait=patience(settings), tell=tell):
            await store.drop_columns(names)


def _lines(
    stored: Sequence[Column], filled: Mapping[str, tuple[int, int]], declared: Mapping[str, Column]
) -> list[str]:
    rows = [["column", "type", "from", "documents", "do not fit", ""]]
    for column in stored:
        have, unfit = filled.get(column.name, (0, 0))
        rows.append([*_about(column), f"{have:,}", f"{unfit:,}", _note(column, declared)])
    names = {column.name for column in stored}
    rows += [
        [*_about(column), "", "", "the next ingest adds it"]
        for column in declared.values()
        if column.name not in names
    ]
    if len(rows) == 1:
        return ["No columns: declare some under `columns:` in the settings."]
    return table(rows, right=frozenset({3, 4}))


def _about(column: Column) -> list[str]:
    return [column.name, column.type, one_line(".".join(column.path))]


def _note(column: Column, declared: Mapping[str, Column]) -> str:
    now = declared.get(column.name)
    if now is None:
        return f"not in the settings: docweave columns --drop {column.name}"
    if (now.type, now.path) != (column.type, column.path):
        return f"the next ingest makes it anew: {now.type} from {one_line('.'.join(now.path))}"
    return ""


def _json(
    column: Column, filled: Mapping[str, tuple[int, int]], declared: Mapping[str, Column]
) -> dict[str, JsonValue]:
    have, unfit = filled.get(column.name, (0, 0))
    return {
        "name": column.name,
        "type": column.type,
        "from": [*column.path],
        "index": column.indexed,
        "filled": have,
        "unfit": unfit,
        "declared": column.name in declared,
    }

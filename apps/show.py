"""`docweave show`: a document as it is stored."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it reads with

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from apps.exits import ending, print_json
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from apps.suggested import copyable


def show(
    key: Annotated[
        str,
        typer.Argument(metavar="KEY", help="The document's key, or SOURCE/KEY, as a hit or a plan names it."),
    ],
    *,
    config: Config = Path(SETTINGS_FILE),
    source: Annotated[
        str | None, typer.Option("--source", "-s", metavar="NAME", help="Only in this source.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="All of each chunk's text.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a document as it is stored: chunks, offsets, headings, groups, marks, history.

    Reads the tables alone, and not the source. The history goes back as far as the tables keep their
    versions.

    \b
    docweave show leave.md
    docweave show leave.md --source handbook --full
    docweave show leave.md --json | jq '.documents[0].chunks[].text'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        from apps import showing

        found = asyncio.run(showing.documents(settings, key, source))
        if as_json:
            print_json({"documents": [one.as_json() for one in found]})
            return
        for line in showing.lines(found, full=full):
            typer.echo(copyable(line, config))

"""`docweave embed`: the vectors of a file or of texts, as an ingest would have them."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it embeds with

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.exits import ending, print_json
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from apps.vectors import Vectored
    from config.settings import Settings


def embed(  # noqa: PLR0913 - a command's options
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Several are the chunks of one document, in their order."),
    ] = None,
    *,
    config: Config = Path(SETTINGS_FILE),
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="PATH", help="A document in place of texts.")
    ] = None,
    query: Annotated[
        bool, typer.Option("--query", "-q", help="The texts are questions, each by itself.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Save the vectors: .npy, .jsonl or .parquet."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --out overwrite a file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Embed a text or a file, and print or save the vectors.

    With the settings' embedder, as an ingest would: a file is parsed, chunked and grouped; a text is one
    chunk. A service is paid, and what it cost is told. Nothing is written into the tables.

    \b
    docweave embed "The warranty is three years."
    docweave embed --query "How long is the warranty?"
    docweave embed --file handbook/fern.md --out fern.parquet
    docweave embed --file handbook/fern.md --json | jq '.chunks[].tokens'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        if bool(texts) == bool(file):
            raise SettingsError("name a TEXT to embed, or a --file PATH, and not both")
        if query and file:
            raise SettingsError("--query takes questions as TEXT, and no --file")
        settings = settings_in(config)
        from apps import vectors

        if out:
            from apps.vector_files import check

            check(out, force=force)
        vectored = asyncio.run(_embedded(settings, texts or [], file, query=query))
        if out:
            from apps.vector_files import save

            save(vectored, out)
        if as_json:
            print_json(vectored.as_json(whole=out is None))
            return
        for line in vectors.lines(vectored, saved=out):
            typer.echo(line)


async def _embedded(settings: Settings, texts: list[str], file: Path | None, *, query: bool) -> Vectored:
    from apps import vectors

    if file:
        return await vectors.of_file(settings, file)
    return await (vectors.of_questions if query else vectors.of_texts)(settings, texts)

"""`docweave maintain`: compact the tables, index them, and clear away what nobody needs any more."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it needs

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from apps.exits import ending, print_json, tell
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from apps.suggested import copyable
from pipeline.errors import StoreBusy


def maintain(
    *,
    config: Config = Path(SETTINGS_FILE),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due, and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compact the tables, make and extend their indexes, and clear away what nobody needs any more.

    To be run now and then, at night for instance. Each ingest does the light part by itself, by need. What is
    found by a search stays the same, and nobody who searches has to wait. While it works it has the tables'
    lease: an ingest waits for it, and it waits for an ingest, as store.when_busy says.

    \b
    docweave maintain --dry-run       what is due?
    docweave maintain
    docweave maintain --json | jq '.tables[] | select(.indexed != [])'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        from config.build import maintain as maintained
        from flows.upkeep_words import lines, verdict

        skipped = ""
        try:
            tended = asyncio.run(maintained(settings, tell=tell, dry_run=dry_run))
        except StoreBusy as error:
            if settings.store.when_busy != "skip":
                raise
            tended, skipped = [], str(error)
        if as_json:
            tables = [one.as_json() for one in tended]
            print_json({"dry_run": dry_run, "skipped": skipped or None, "tables": tables})
        elif skipped:
            typer.echo(f"Skipped: {skipped}")
        else:
            for line in [*lines(tended, dry_run=dry_run), verdict(tended, dry_run=dry_run)]:
                typer.echo(copyable(line, config))

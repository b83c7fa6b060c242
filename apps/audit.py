"""`docweave audit`: is what the tables hold true? And what is not, is it to be mended?"""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it checks with

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from apps.exits import ExitCode, ending, print_json, tell
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from apps.suggested import copyable
from pipeline.errors import SettingsError


def audit(  # noqa: PLR0913 - a command's options
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Names; all of the tables if left out.")
    ] = None,
    *,
    config: Config = Path(SETTINGS_FILE),
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=0, help="Embed N groups again and compare.")
    ] = 0,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Another seed, another sample; the same, the same.")
    ] = 0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take out what is damaged, for the next ingest to read anew.")
    ] = False,
    approve_removals: Annotated[
        int | None,
        typer.Option(
            "--approve-removals",
            metavar="N",
            min=0,
            help="Let --repair take up to N documents out of a source, where the settings withhold so many.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that the tables are true, without reading the sources.

    Every group's digest is made anew from the texts that are stored; the two tables are compared row by row.
    With --sample, groups are embedded again and compared bit for bit: a service is paid for that, and may not
    give the same bits twice; the cosine tells how far it is off. Ends with 1 if anything is found.

    \b
    docweave audit
    docweave audit handbook --sample 50
    docweave audit --repair; docweave ingest
    docweave audit --json | jq '.findings[] | select(.kind == "text").key'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        if approve_removals is not None and not repair:
            raise SettingsError("--approve-removals is about --repair")
        settings = settings_in(config)
        from apps import auditing

        asked = auditing.Asked(
            sources=sources or [], sample=sample, seed=seed, repair=repair, approved=approve_removals
        )
        report, repaired = asyncio.run(auditing.audited(settings, asked, tell))
        if as_json:
            mended = {name: one.as_json() for name, one in repaired.items()} if repair else None
            print_json({**report.as_json(), "repaired": mended})
        else:
            for line in auditing.lines(report, repaired, asked):
                typer.echo(copyable(line, config))
        if not report.clean:
            raise typer.Exit(ExitCode.DOCUMENTS_FAILED)

"""`docweave up`: schedules, a Prefect server if none is configured, and the search API, in one command."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for prefect

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.exits import ending
from apps.options import SETTINGS_FILE, Config, settings_in
from apps.plain import printable
from flows.environment import prefer_quiet

if TYPE_CHECKING:
    from flows.deploying import Deployed


def up(
    *,
    config: Config = Path(SETTINGS_FILE),
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Where the search API listens.", show_default="serve.host"
        ),
    ] = "",
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="PORT", min=0, max=65_535, help="Its port.", show_default="serve.port"
        ),
    ] = None,
    api: Annotated[bool, typer.Option("--api/--no-api", help="Whether to answer searches.")] = True,
    prefect_port: Annotated[
        int,
        typer.Option(
            "--prefect-port",
            metavar="PORT",
            min=1,
            max=65_535,
            help="Of the Prefect server, if one is started.",
        ),
    ] = 4200,
) -> None:
    """Run the schedules and the search API on this machine, until it is stopped.

    Starts a Prefect server on this machine's own address, unless PREFECT_API_URL names one; does what
    `docweave deploy --prune` does; runs a worker, which starts the runs when they are due; and answers
    searches, as `docweave serve` does. Ctrl-C or SIGTERM ends all of it within seconds. Runs that were
    missed meanwhile are made up at the next start, once for each schedule.

    \b
    docweave up
    docweave up --no-api --config production.yaml
    docweave up --port 8080 --prefect-port 4201
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=False, config=config):
        settings = settings_in(config)
        if api:
            from apps.http.server import listening_at

            listening_at(settings.serve, host, port).close()  # refused before anything is deployed
        prefer_quiet()
        import anyio

        from flows.up import Wanted
        from flows.up import up as brought_up

        path = Path(os.path.abspath(config))  # noqa: PTH100 - links stay: they are what somebody meant
        listen = [*(["--host", host] if host else []), *(["--port", str(port)] if port is not None else [])]
        wanted = Wanted(
            config=path,
            settings=settings,
            prefect_port=prefect_port,
            api=("apps", "serve", "--config", str(path), *listen) if api else None,
            deployed=_deployed,
            tell=_tell,
        )
        anyio.run(partial(brought_up, wanted))


def _deployed(done: Deployed) -> None:
    from apps.deploy import lines

    for line in lines(done, dry_run=False)[: len(done.steps)]:
        _tell(line)


def _tell(line: str) -> None:
    typer.echo(printable(line))

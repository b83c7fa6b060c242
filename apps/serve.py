"""`docweave serve`: the search API, in the foreground."""

# ruff: noqa: PLC0415 - `--help` must not wait for a web server

from __future__ import annotations

from typing import Annotated

import typer

from apps.exits import ending, tell
from apps.options import USUAL_CONFIGS, Configs


def serve(
    *,
    config: Configs = USUAL_CONFIGS,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Where to listen.", show_default="serve.host, or 127.0.0.1"
        ),
    ] = "",
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="PORT", min=0, max=65_535, help="0: any.", show_default="serve.port, or 8321"
        ),
    ] = None,
) -> None:
    """Answer questions over HTTP, until it is stopped.

    On this machine's own address nobody needs a key. To listen at another, or to let keys see different
    documents, make some: `docweave keys create`. Of several settings, the first say how it is served.

    \b
    docweave serve
    docweave serve --host 0.0.0.0 --port 80
    curl 'http://127.0.0.1:8321/v1/search?question=parental+leave'
    curl http://127.0.0.1:8321/openapi.json
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=False, config=config):
        from apps.http.server import serve as answer

        answer(config, host, port, tell=tell)

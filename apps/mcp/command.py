"""`docweave mcp`: the tables for an assistant on this machine."""

# ruff: noqa: PLC0415 - `--help` must not wait for what answers

from __future__ import annotations

import asyncio

from apps.exits import ending
from apps.options import USUAL_CONFIGS, Configs, SeenAs, all_settings_in, need


def mcp(
    *,
    config: Configs = USUAL_CONFIGS,
    access: SeenAs = None,
) -> None:
    """Answer an assistant over standard input and output, by the Model Context Protocol.

    The assistant starts it: see docs/mcp.md for Claude, Cursor, VS Code and others. Its tools are search,
    fetch and list_sources. `docweave serve` has the same at /mcp, for assistants elsewhere.

    \b
    docweave mcp --config /home/ada/notes/docweave.yaml
    claude mcp add docweave -- docweave mcp --config /home/ada/notes/docweave.yaml
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=False, config=config):
        settings = all_settings_in(config)
        need("mcp", "mcp", command="mcp", extra="mcp")
        from apps.desk import desk_of
        from apps.mcp.server import build

        labels = tuple(access) if access else None

        async def answer() -> None:
            desk = desk_of(settings)
            try:
                await build(desk, lambda _asking: labels).run_stdio_async()
            finally:
                await desk.aclose()

        asyncio.run(answer())

"""`docweave copies`: which documents have the same text, over all sources."""

# ruff: noqa: PLC0415 - every command reads this module, and must not wait for what it needs

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from apps.exits import ending, print_json
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from apps.plain import one_line, table

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.records import JsonValue
    from pipeline.stored import StoredMarks

LISTED = 20
"""Texts that are shown; `--json` has all."""
NAMED = 5
"""Documents of one text that are named; of more it is told how many."""


def copies(*, config: Config = Path(SETTINGS_FILE), as_json: AsJson = False) -> None:
    """List the documents whose text is the same, over all sources.

    With `copies: once` in the settings, one of them is stored with passages, and the others are known to be
    its copies; with `copies: keep`, each is found. Nothing is paid twice either way. What only looks the
    same (another title, where that is embedded; another version of a text) is not listed.

    \b
    docweave copies
    docweave copies --json | jq '.texts[].documents[].key'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        groups = asyncio.run(_read(settings))
        if as_json:
            print_json({"copies": settings.copies, "texts": [_json(group) for group in groups]})
            return
        for line in lines(groups):
            typer.echo(line)


async def _read(settings: Settings) -> list[list[StoredMarks]]:
    from config.build import open_reader
    from pipeline.copies import alike

    reader = await (await open_reader(settings)).snapshot()
    return alike([one async for one in reader.every()])


def lines(groups: Sequence[Sequence[StoredMarks]]) -> list[str]:
    """What a person is told."""
    from flows.summary import number

    if not groups:
        return ["No two documents have the same text."]
    out: list[str] = []
    for group in groups[:LISTED]:
        out += _text(group)
    if len(groups) > LISTED:
        out.append(f"… and {len(groups) - LISTED:,} more (--json lists all)")
    chunks, tokens = _spare(groups)
    said = [*out, f"Every one of these texts stands in several documents: {number(len(groups), 'text')}."]
    if chunks:
        said.append(
            f"`copies: once` would store {number(chunks, 'passage')} ({number(tokens, 'token')}) less."
        )
    return said


def _text(group: Sequence[StoredMarks]) -> Iterator[str]:
    from flows.summary import number
    from pipeline.digest import copy_of

    rows = []
    for one in group[:NAMED]:
        held = "a copy" if copy_of(one.state.row_key) else number(one.chunk_count, "chunk")
        labels = ", ".join(one.about.access)
        rows.append([one_line(f"{one.state.source}/{one.state.key}"), held, one_line(labels)])
    yield from table(rows)
    if len(group) > NAMED:
        yield f"  … and {len(group) - NAMED:,} more"
    yield ""


def _spare(groups: Sequence[Sequence[StoredMarks]]) -> tuple[int, int]:
    """Passages and tokens of which there are more than one for the same people."""
    chunks = tokens = 0
    for group in groups:
        seen: set[tuple[str, ...]] = set()
        for one in group:
            if one.about.access in seen:
                chunks, tokens = chunks + one.chunk_count, tokens + one.tokens
            seen.add(one.about.access)
    return chunks, tokens


def _json(group: Sequence[StoredMarks]) -> JsonValue:
    from pipeline.digest import copy_of

    return {
        "documents": [
            {
                "source": one.state.source,
                "key": one.state.key,
                "title": one.about.title,
                "url": one.about.url,
                "access": [*one.about.access],
                "chunks": one.chunk_count,
                "tokens": one.tokens,
                "is_copy": copy_of(one.state.row_key) is not None,
            }
            for one in group
        ]
    }

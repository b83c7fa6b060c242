"""`docweave context`: the best context for a question, to be put before a language model."""

# ruff: noqa: PLC0415 - `--help` must not wait for what only a command uses

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from apps.exits import ending, print_json
from apps.options import (
    USUAL_CONFIGS,
    AsJson,
    Configs,
    Fused,
    Matched,
    OfSources,
    SeenAs,
    TextWeight,
    VectorWeight,
    Where,
    all_settings_in,
    fused_by,
    question_of,
)
from apps.plain import printable

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.query import Question
    from pipeline.query_context import Cited, Context


def context(  # noqa: PLR0913 - a command's options
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="A question, or words.")],
    *,
    config: Configs = USUAL_CONFIGS,
    tokens: Annotated[
        int, typer.Option("--tokens", "-t", metavar="N", min=50, max=1_000_000, help="The most it may have.")
    ] = 4_000,
    mode: Matched = "hybrid",
    fusion: Fused = "scores",
    vector_weight: VectorWeight = None,
    text_weight: TextWeight = None,
    around: Annotated[
        Literal["nothing", "chunks", "section", "page"],
        typer.Option(
            "--around",
            metavar="UNIT",
            help="What a hit brings, if it fits: nothing, chunks (one to each side), section or page.",
        ),
    ] = "nothing",
    source: OfSources = None,
    where: Where = None,
    access: SeenAs = None,
    as_json: AsJson = False,
) -> None:
    """Print the best context for a question that fits in so many tokens.

    The best passages, none twice, in the order of their documents, each with a number to cite it by, its
    headings and where it stands. Tokens are counted as the embedding models do; others count some 20 % more
    or less.

    \b
    docweave context "how many days of leave do I have?" --tokens 2000
    docweave context "notice period" --around section --where 'source = handbook'
    docweave context "notice period" --json | jq '.passages[].where'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        asked = question_of(question, mode=mode, source=source, access=access)
        asked = fused_by(asked, fusion, vector_weight, text_weight)
        settings = all_settings_in(config)
        from pipeline.query import Around

        asked = replace(asked, around=Around(unit=around))
        made = asyncio.run(_made(settings, asked, where or [], tokens))
        if as_json:
            passages = [_told(one) for one in made.passages]
            print_json({"question": question, "tokens": made.tokens, "passages": passages, "text": made.text})
        elif made.passages:
            typer.echo("\n".join(printable(line) for line in made.text.splitlines()))
        else:
            typer.echo("Nothing that answers fits: ask with more --tokens, or otherwise.", err=True)


async def _made(settings: Mapping[str, Settings], asked: Question, where: list[str], tokens: int) -> Context:
    from apps.desk import desk_of
    from apps.tables import checked
    from pipeline.query import Mode

    desk = desk_of(settings, by_words=asked.mode is Mode.TEXT)
    try:
        return await desk.context(await checked(desk, settings, asked, where), most=tokens)
    finally:
        await desk.aclose()


def _told(cited: Cited) -> dict[str, object]:
    first, last = cited.chunks[0], cited.chunks[-1]
    return {
        "number": cited.number,
        "source": first.source,
        "key": first.key,
        "heading": cited.heading,
        "where": cited.where,
        "url": first.url,
        "page": first.page,
        "start": first.start,
        "end": last.end,
        "text": cited.text,
    }

"""`docweave models`: the models that can be used, and what is known of each."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it asks with

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from apps.exits import ending, print_json
from apps.options import AsJson
from apps.plain import one_line, table
from pipeline.errors import EmbedError, ServiceUnavailable, SettingsError

if TYPE_CHECKING:
    from pipeline.embedders.models import ModelInfo

PATIENCE_SECONDS = 8.0
"""How long somebody who asked for a list waits for OpenRouter's."""


def models(
    *,
    provider: Annotated[
        Literal["local", "perplexity", "openrouter"] | None,
        typer.Option(
            "--provider", "-p", metavar="NAME", help="local, perplexity or openrouter; left out: all."
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A server like OpenRouter's, to be asked in its place."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that the settings may name, and what they cost.

    Needs no settings. With --provider openrouter it asks OpenRouter what is offered today; where that does
    not answer, it says so, and lists what is known here.

    \b
    docweave models
    docweave models --provider openrouter
    docweave models --json | jq '.models[] | select(.contextual)'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json):
        if base_url and provider != "openrouter":
            raise SettingsError("--base-url is about --provider openrouter")
        from pipeline.embedders.models import known_models

        listed: Sequence[ModelInfo] = [one for one in known_models() if provider in {None, one.provider}]
        unanswered = None
        if provider == "openrouter":
            try:
                listed = asyncio.run(_live(base_url))
            except EmbedError as error:
                unanswered = str(error)
                typer.echo(f"{one_line(unanswered)}\nThese are the models that are known here:", err=True)
        if as_json:
            live = provider == "openrouter" and unanswered is None
            print_json({"models": [asdict(one) for one in listed], "live": live, "unanswered": unanswered})
            return
        for line in lines(listed):
            typer.echo(line)


def lines(listed: Sequence[ModelInfo]) -> list[str]:
    """A line a model. What is not known stays blank."""
    rows = [["provider", "model", "context", "dimensions", "tokens", "USD per million"]]
    for one in listed:
        price = one.usd_per_million_tokens
        rows.append(
            [
                one.provider,
                one_line(one.name),
                "the document" if one.contextual else "none",
                _dimensions(one),
                f"{one.max_tokens:,}" if one.max_tokens else "",
                "" if price is None else f"{price:g}",
            ]
        )
    return table(rows, right=frozenset({3, 4, 5}))


def _dimensions(one: ModelInfo) -> str:
    if not one.most_dimensions:
        return ""
    if one.least_dimensions in {0, one.most_dimensions}:
        return f"{one.most_dimensions}"
    return f"{one.least_dimensions}-{one.most_dimensions}"


async def _live(base_url: str | None) -> list[ModelInfo]:
    """What is offered today.

    Raises:
        EmbedError: OpenRouter does not tell.
    """
    import anyio

    from pipeline.embedders.openrouter import list_models

    key = os.environ.get("OPENROUTER_API_KEY", "")
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            return await (list_models(base_url, api_key=key) if base_url else list_models(api_key=key))
    except TimeoutError:
        raise ServiceUnavailable(f"OpenRouter did not answer within {PATIENCE_SECONDS:g} s") from None

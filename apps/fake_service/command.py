"""`docweave fake-service`: the stand-in from the command line."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it serves with

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from apps.exits import ending
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from apps.fake_service.faults import Faults
    from apps.fake_service.service import EmbeddingService

DEFAULT_KEY = "test-key"


def fake_service(  # noqa: PLR0913 - a command's options
    *,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Of the loopback interface; 0: any free one.")
    ] = 8901,
    api_key: Annotated[
        str, typer.Option(metavar="KEY", help="The key that it takes. Not a real one.")
    ] = DEFAULT_KEY,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the order of the items in a reply.")] = 0,
    delay_ms: Annotated[
        float, typer.Option(metavar="MS", min=0, help="How long an answer takes at the least.")
    ] = 0.0,
    delay_us_per_token: Annotated[
        float, typer.Option(metavar="US", min=0, help="How much longer for each token, in microseconds.")
    ] = 0.0,
    max_in_flight: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Requests at a time; 429 beyond it.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="429 beyond it.")
    ] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(metavar="N", min=1, help="429 beyond it.")] = None,
    retry_after: Annotated[
        Literal["none", "seconds", "date"],
        typer.Option(metavar="FORM", help="How these 429 say when to ask again: none, seconds or date."),
    ] = "none",
    count: Annotated[
        Literal["exact", "bytes"],
        typer.Option(metavar="HOW", help="exact: with the models' vocabulary; bytes: one for every five."),
    ] = "exact",
    count_factor: Annotated[
        float, typer.Option(metavar="X", min=0.1, max=10, help="Tokens that it tells for one that it counts.")
    ] = 1.0,
    fault_rate: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="The share of requests that go wrong.")
    ] = 0.0,
    fault_seed: Annotated[int, typer.Option(metavar="N", help="Of the plan of what goes wrong.")] = 0,
    fault_kinds: Annotated[
        str, typer.Option(metavar="A,B,C", help="Which kinds; left out: all that a client can get over.")
    ] = "",
    most_faults: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="After so many nothing goes wrong any more.")
    ] = None,
    slow_seconds: Annotated[
        float, typer.Option(metavar="S", min=0, help="How much longer a slow answer takes.")
    ] = 2.0,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append a line of JSON for each request, without texts and keys."),
    ] = None,
) -> None:
    """Serve vectors without meaning on this machine, as the embedding services would.

    Answers like Perplexity's and OpenRouter's endpoints, is as strict as their documentation, and fails when
    told to. For tests, benchmarks and for trying Docweave without a key: what is ingested with it is
    complete, but searching by meaning finds nothing sensible. Ctrl-C stops it, and tells what it saw.

    \b
    docweave fake-service
    docweave fake-service --delay-ms 40 --delay-us-per-token 2 --max-in-flight 16
    docweave fake-service --fault-rate 0.2 --fault-seed 7 --log requests.jsonl
    docweave fake-service --fault-rate 1 --fault-kinds 429-seconds,truncated --most-faults 50
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=False), ExitStack() as stack:
        from apps.fake_service.counting import by_bytes
        from apps.fake_service.pace import Pace
        from apps.fake_service.seen import line_writer
        from apps.fake_service.service import EmbeddingService
        from pipeline import tokens

        counted = by_bytes if count == "bytes" else tokens.count
        counted("The vocabulary is loaded before anybody waits for it.")
        service = EmbeddingService(
            api_key=api_key,
            seed=seed,
            faults=_faults(fault_rate, fault_seed, fault_kinds, most_faults, slow_seconds),
            pace=Pace(
                max_in_flight=max_in_flight,
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                retry_after=retry_after,
            ),
            delay=lambda tokens: delay_ms / 1e3 + tokens * delay_us_per_token / 1e6,
            count=counted,
            count_factor=count_factor,
            log=line_writer(stack.enter_context(_opened(log))) if log else lambda _seen: None,
        )
        _serve(service, port, api_key)


def _faults(rate: float, seed: int, kinds: str, most: int | None, slow_seconds: float) -> Faults:
    from apps.fake_service.faults import USUAL, Faults

    named = [name.strip() for name in kinds.split(",") if name.strip()]
    try:
        return Faults(rate=rate, seed=seed, kinds=named or USUAL, most=most, slow_seconds=slow_seconds)
    except ValueError as error:
        raise SettingsError(f"--fault-kinds: {error}") from None


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--log: {path} cannot be written: {error.strerror}") from error


def _serve(service: EmbeddingService, port: int, api_key: str) -> None:
    """Until Ctrl-C or SIGTERM."""
    from apps.fake_service.seen import summary
    from apps.fake_service.server import serving

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with serving(service, port=port) as base_url:
            typer.echo(_told(base_url, api_key), err=True)
            stopped.wait()
    except OSError as error:
        raise SettingsError(
            f"--port: {port} cannot be had: {error.strerror}; --port 0 takes any that is free"
        ) from error
    typer.echo(summary(service.requests))


def _told(base_url: str, api_key: str) -> str:
    """How to use it."""
    return f"""\
Serving {base_url} until Ctrl-C. A stand-in: its vectors have no meaning. What it saw: {base_url}/stats

  export PERPLEXITY_API_KEY={api_key} OPENROUTER_API_KEY={api_key}

and in the settings:

  embedding:
    provider: perplexity
    base_url: {base_url}
    model: pplx-embed-context-v1-0.6b

or `provider: openrouter` with base_url: {base_url}/api/v1
"""

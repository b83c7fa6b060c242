"""How a command ends: its exit code, and what it says when it does not end well."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import typer

from apps.plain import printable
from apps.suggested import copyable
from pipeline.errors import DocweaveError, SettingsError


class ExitCode(IntEnum):
    """What a program that calls the command line may rely on."""

    DONE = 0
    DOCUMENTS_FAILED = 1
    USAGE = 2
    FAILED = 3
    INTERRUPTED = 130


EXIT_CODES = """\
0    done
1    done, but not all of it: documents failed, or were left or withheld, or moved since the plan;
     or an audit or the doctor found something
2    wrong usage, or settings that cannot be meant
3    a source, a service or the store failed; other sources may have been ingested
130  interrupted; what was committed stays"""
"""As `--help` and docs/cli.md tell them."""

INTERRUPTED = "Interrupted. What was committed stays, and is not paid for again."


@contextmanager
def ending(*, as_json: bool, config: Path | Sequence[Path] | None = None) -> Iterator[None]:
    """Say what went wrong in the block, once and clearly, and end with its exit code.

    With `as_json` the error is the one document on standard output as well. An error that is nobody's but
    ours keeps its traceback. Commands that an error suggests read the settings `config`.
    """
    try:
        yield
    except DocweaveError as error:
        report(error, config=config)
        if as_json:
            print_json({"error": error_json(error, config)})
        raise typer.Exit(code_of(error)) from None
    except KeyboardInterrupt:
        typer.echo(INTERRUPTED, err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output has enough of it (`docweave search … | head`).
        sys.stderr.close()
        raise typer.Exit(ExitCode.DONE) from None
    except Exception as error:
        if isinstance(error, typer.Exit | typer.BadParameter):
            raise
        report(error)
        if as_json:
            print_json({"error": error_json(error)})
        raise typer.Exit(ExitCode.FAILED) from None


def code_of(error: Exception) -> ExitCode:
    """The exit code of a command that ended with this error."""
    return ExitCode.USAGE if isinstance(error, SettingsError) else ExitCode.FAILED


def report(error: Exception, where: str = "", config: Path | Sequence[Path] | None = None) -> None:
    """Print an error to standard error: one block if it was foreseen, its traceback if not."""
    if _is_logged(error, where, config):
        return
    if not isinstance(error, DocweaveError):
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        typer.echo(f"{_head('error')} {where}this was not foreseen: the lines above say where", err=True)
        return
    first, *rest = copyable(str(error), config).splitlines() or [type(error).__name__]
    typer.echo(f"{_head('error')} {where}{printable(first)}", err=True)
    for line in rest:
        typer.echo(f"       {printable(line)}", err=True)


def _is_logged(error: Exception, where: str, config: Path | Sequence[Path] | None) -> bool:
    """Whether it was told by a log line, because these are JSON, and nothing else is to stand among them."""
    from config.logging_lines import is_json  # noqa: PLC0415 - only where something went wrong

    if is_json():
        foreseen = isinstance(error, DocweaveError)
        told = copyable(str(error), config)
        message = f"{where}{told}" if foreseen else f"{where}{type(error).__name__}: this was not foreseen"
        logging.getLogger("apps").error(message, exc_info=None if foreseen else error)
        return True
    return False


def tell(line: str) -> None:
    """Say something beside the result, on standard error: as a log line, where these are JSON."""
    from config.logging_lines import is_json  # noqa: PLC0415 - most commands tell nothing

    if is_json():
        logging.getLogger("apps").info(line)
    else:
        typer.echo(line, err=True)


def error_json(error: Exception, config: Path | Sequence[Path] | None = None) -> dict[str, str]:
    """An error for a program to read, spelled as a document's failure is."""
    reason = (
        copyable(str(error), config)
        if isinstance(error, DocweaveError)
        else "not foreseen: see standard error"
    )
    return {"error": type(error).__name__, "reason": reason}


def print_json(value: object) -> None:
    """Print the one document on standard output. ASCII, so that no terminal's encoding spoils it."""
    typer.echo(json.dumps(value, indent=2))


def _head(word: str) -> str:
    return typer.style(f"{word}:", fg="red", bold=True)

"""`docweave keys`: who may ask the search API, and what they may see."""

# ruff: noqa: PLC0415 - `--help` must not wait for what only a command uses

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.exits import ending, print_json
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from apps.plain import one_line, table
from apps.suggested import copyable
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from config.keys import Key

keys = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Make, list and revoke the keys of the search API (`docweave serve`).

    \b
    docweave keys create intranet --access staff
    docweave keys list
    docweave keys revoke intranet
    """,
)


@keys.command()
def create(  # noqa: PLR0913 - a command's options
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: to list and to revoke it by.")],
    *,
    access: Annotated[
        list[str] | None,
        typer.Option(
            "--access", "-a", metavar="LABEL", help="It sees documents with this label; may be repeated."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="It sees every document, whatever its labels.")
    ] = False,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, max=36_500, help="It expires after N days.")
    ] = None,
    config: Config = Path(SETTINGS_FILE),
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once; only its digest is kept.

    Whatever labels it has, it sees the documents that have none. A server that runs takes it at once.

    \b
    docweave keys create intranet                     sees what has no labels
    docweave keys create hr-bot --access hr --access everybody
    docweave keys create admin --everything --days 30
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        if everything and access:
            raise SettingsError("--everything needs no --access: leave one of them out")
        file = _file(config)
        from config.keys import create as make

        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None
        secret, key = make(file, name, None if everything else access or (), expires=expires)
        if as_json:
            print_json({"key": secret, **_told(key)})
        else:
            typer.echo(secret)
            typer.echo(f"It {_sees(key)}. It is not shown again; {file} holds its digest.", err=True)


@keys.command("list")
def list_keys(*, config: Config = Path(SETTINGS_FILE), as_json: AsJson = False) -> None:
    """List the keys, without the keys.

    \b
    docweave keys list
    docweave keys list --json | jq -r '.keys[].name'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        from config.keys import read

        found = read(_file(config))
        if as_json:
            print_json({"keys": [_told(key) for key in found]})
        elif not found:
            typer.echo(copyable("There are no keys: `docweave keys create NAME` makes one.", config))
        else:
            rows = [["name", "sees", "made", "expires"]]
            now = datetime.now(UTC)
            for key in found:
                until = "" if key.expires is None else f"{key.expires:%Y-%m-%d}"
                until += " (over)" if key.is_over(now) else ""
                rows.append([one_line(key.name), _labels(key), f"{key.created:%Y-%m-%d}", until])
            for line in table(rows):
                typer.echo(line)


@keys.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `docweave keys list` names it.")],
    *,
    config: Config = Path(SETTINGS_FILE),
    as_json: AsJson = False,
) -> None:
    """Revoke a key. A server that runs refuses it from the next request on.

    \b
    docweave keys revoke intranet
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        from config.keys import revoke as take

        take(_file(config), name)
        if as_json:
            print_json({"revoked": name})
        else:
            typer.echo(f"Revoked {one_line(name)}.")


def _file(config: Path) -> Path:
    return Path(settings_in(config).serve.keys)


def _told(key: Key) -> dict[str, object]:
    return key.model_dump(mode="json", exclude={"sha256"})


def _labels(key: Key) -> str:
    if key.access is None:
        return "everything"
    return ", ".join(map(one_line, key.access)) or "what has no labels"


def _sees(key: Key) -> str:
    if key.access is None:
        return "sees every document"
    if not key.access:
        return "sees the documents that have no labels"
    return f"sees the documents that have no labels, and those that have one of {_labels(key)}"

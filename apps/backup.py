"""`docweave backup` and `docweave restore`: the tables as they are at one moment, and back."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it needs

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.exits import ending, print_json, tell
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in

if TYPE_CHECKING:
    from pipeline.stores.lance_backup import Copied


def backup(
    target: Annotated[
        str, typer.Argument(metavar="DEST", help="A folder, or s3://bucket/prefix, gs://… or az://…")
    ],
    *,
    config: Config = Path(SETTINGS_FILE),
    as_json: AsJson = False,
) -> None:
    """Copy the tables as they are at one moment.

    While it copies, ingests go on writing and searches go on reading. To copy to the same place again copies
    only what is new. The settings, their secrets and the keys of `docweave serve` are not copied.

    \b
    docweave backup /backups/handbook
    docweave backup s3://backups/handbook         with the options of the store, where that is on S3 too
    docweave backup /backups/handbook --json | jq .bytes
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        from config import backup as copying

        copied, counts = asyncio.run(copying.back_up(settings, target, tell=tell))
        _report(copied, counts, as_json=as_json, what=f"Backed up {settings.store.uri} to {target}")


def restore(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Where a backup is: a folder, or s3://bucket/prefix …")
    ],
    *,
    config: Config = Path(SETTINGS_FILE),
    as_json: AsJson = False,
) -> None:
    """Bring the tables of a backup back.

    To where store.uri says, which must hold no tables: move those that are there away, or name another place.
    Nothing is embedded anew. The next ingest brings what has changed since the backup up to date.

    \b
    mv .docweave/lancedb .docweave/lancedb.broken
    docweave restore /backups/handbook
    docweave audit                    is all of it true?
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        from config import backup as copying

        copied, counts = asyncio.run(copying.restore(settings, source, tell=tell))
        _report(copied, counts, as_json=as_json, what=f"Restored {settings.store.uri} from {source}")


def _report(copied: Copied, counts: Mapping[str, tuple[int, int]], *, as_json: bool, what: str) -> None:
    from flows.summary import number
    from flows.upkeep_words import megabytes

    kept = copied.backup
    if as_json:
        sources = {name: {"documents": docs, "chunks": chunks} for name, (docs, chunks) in counts.items()}
        print_json(
            {
                "taken_at": kept.taken_at,
                "tables": kept.tables,
                "files": len(kept.files),
                "bytes": kept.bytes,
                "copied": {"files": copied.files, "bytes": copied.bytes},
                "sources": sources,
            }
        )
        return
    documents, chunks = (sum(pair[place] for pair in counts.values()) for place in (0, 1))
    typer.echo(f"{what}, as of {kept.taken_at}: {number(documents, 'document')}, {number(chunks, 'chunk')}.")
    copied_now = f"{number(copied.files, 'file')}, {megabytes(copied.bytes)}"
    typer.echo(f"{number(len(kept.files), 'file')}, {megabytes(kept.bytes)}; copied: {copied_now}.")

"""`docweave doctor`: are this machine, all that the settings name, and the tables well?"""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it needs

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from apps.exits import ExitCode, ending, print_json
from apps.options import SETTINGS_FILE, AsJson, Config, require
from apps.suggested import copyable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.doctor import Diagnosis


def doctor(*, config: Config = Path(SETTINGS_FILE), as_json: AsJson = False) -> None:
    """Look at all that a run depends on, and say what to do about what is wrong.

    Versions, temporary files, limits, the disk, clocks, the Prefect server; the settings, the sources, the
    store and the embedder, as `docweave check` tries them; and how the tables are. Nothing is changed. Ends
    with 1 if something fails; what may become a failure is a warning.

    \b
    docweave doctor
    docweave doctor --json | jq '.diagnoses[] | select(.state != "ok")'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        require(config)
        found = asyncio.run(_look(config))
        failed = any(one.state == "fail" for one in found)
        if as_json:
            print_json({"ok": not failed, "diagnoses": [asdict(one) for one in found]})
        else:
            for line in _lines(found):
                typer.echo(copyable(line, config))
        if failed:
            raise typer.Exit(ExitCode.DOCUMENTS_FAILED)


async def _look(config: Path) -> list[Diagnosis]:
    from config import doctor as looking
    from config.check import check
    from config.load import examine
    from flows.doctor import scheduler

    found = [*await looking.machine(), *await scheduler()]
    found += [looking.of_finding(finding) for finding in await check(config)]
    settings, _ = examine(config)
    if settings is not None:
        found += await looking.surroundings(settings)
    return found


def _lines(found: Sequence[Diagnosis]) -> list[str]:
    from apps.plain import one_line, table

    rows = []
    for one in found:
        first, *rest = one.message.splitlines() or [""]
        word = one.state if one.state != "fail" else "FAILED"
        rows.append([word, one.what, one_line(first)])
        rows += [["", "", one_line(line)] for line in rest]
        rows += [["", "", f"→ {one_line(one.todo)}"]] if one.todo else []
    count = {state: sum(one.state == state for one in found) for state in ("fail", "warn")}
    verdict = "All is well."
    if any(count.values()):
        verdict = f"{count['fail']} failed, {count['warn']} to be looked at."
    return [*table(rows), "", verdict]

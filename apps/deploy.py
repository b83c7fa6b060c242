"""`docweave deploy`: hand the schedules of the settings to Prefect."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for prefect

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.exits import ending, print_json
from apps.options import SETTINGS_FILE, AsJson, Config, settings_in
from apps.plain import one_line, table
from apps.suggested import copyable
from flows.environment import prefer_quiet

if TYPE_CHECKING:
    from flows.deploying import Deployed
    from flows.deployments import Step

SIGNS = {"created": "+", "updated": "~", "unchanged": "=", "removed": "-", "no longer wanted": "?"}


def deploy(
    *,
    config: Config = Path(SETTINGS_FILE),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what these settings had deployed and no longer name.")
    ] = False,
    pool: Annotated[
        str | None,
        typer.Option("--pool", metavar="NAME", help="The work pool, in place of the settings' deploy.pool."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hand the schedules of the settings to Prefect, as deployments that its workers run.

    Needs a server: PREFECT_API_URL names it. Each schedule becomes one deployment, which ingests the sources
    that go by it. What is there already and equal is left alone, so it may be called as often as you like;
    nothing that other settings or people have deployed is touched.

    \b
    docweave deploy --dry-run         what would be done?
    docweave deploy
    docweave deploy --prune           remove too what is no longer in the settings
    docweave deploy --json | jq '.deployments[] | select(.done == "updated")'
    prefect worker start --pool docweave
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        prefer_quiet()
        from config.schedule import unused
        from flows.deploying import deploy as deployed

        path = Path(os.path.abspath(config))  # noqa: PTH100 - links stay: they are what somebody meant
        done = asyncio.run(deployed(path, settings, pool=pool, prune=prune, dry_run=dry_run))
        left = unused(settings)
        if as_json:
            print_json(_json(done, left, dry_run=dry_run))
            return
        for line in lines(done, dry_run=dry_run):
            typer.echo(copyable(line, config))
        for name in left:
            typer.echo(f"schedules.{name}: nothing goes by it")


def lines(done: Deployed, *, dry_run: bool) -> list[str]:
    """What was done or would be, deployment by deployment, with what differs."""
    from flows.deployments import schedules_in_words

    names = table(
        [
            [
                SIGNS[step.kind],
                step.deployment.full_name,
                one_line(schedules_in_words(step.deployment.schedules))
                + (", paused" * bool(step.deployment.paused)),
                _about(step),
            ]
            for step in done.steps
        ]
    )
    out = []
    for line, step in zip(names, done.steps, strict=True):
        out += [line, *_differences(step)]
    return [*out, "", *_verdict(done, dry_run=dry_run)]


def _about(step: Step) -> str:
    names = step.deployment.parameters.get("sources")
    if not isinstance(names, list):
        return "the tables' upkeep"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(str, names[:4])) + more


def _differences(step: Step) -> Iterator[str]:
    for name, (before, after) in step.differences.items():
        yield f"      {name}: {one_line(before)} → {one_line(after)}"


def _verdict(done: Deployed, *, dry_run: bool) -> Iterator[str]:
    counts = Counter(step.kind for step in done.steps)
    said = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    yield f"{'Would be' if dry_run else 'At ' + done.server}: {said}." + (" Nothing was changed." * dry_run)
    if counts["no longer wanted"]:
        yield "? is no longer in the settings: `docweave deploy --prune` removes it."
    if done.pool_made:
        made = "would be made" if dry_run else "was made"
        yield f"The work pool {done.pool!r} was not there, and {made} (type process)."
    if not dry_run:
        yield f"Its workers run them: prefect worker start --pool {done.pool}"


def _json(done: Deployed, unused: Sequence[str], *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "server": done.server,
        "pool": done.pool,
        "pool_made": done.pool_made,
        "unused_schedules": list(unused),
        "deployments": [
            {
                "name": step.deployment.full_name,
                "done": step.kind,
                "version": step.deployment.version,
                "schedules": [dict(one) for one in step.deployment.schedules],
                "sources": step.deployment.parameters.get("sources"),
                "tags": list(step.deployment.tags),
                "differences": {name: list(pair) for name, pair in step.differences.items()},
            }
            for step in done.steps
        ],
    }

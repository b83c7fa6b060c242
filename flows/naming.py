"""Names and tags by which runs are told apart: "handbook · 12 changed"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import anyio
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.runtime import flow_run

from flows.summary import WORDS, WRITTEN
from pipeline.records import JsonValue

SHOWN_SOURCES = 3
"""Sources that a name has room for; more are counted."""
TAGGED_SOURCES = 20
"""Sources that a run is tagged with."""
PATIENCE = 10.0
"""Seconds that a name is worth."""


def begun(names: Sequence[str], *, rebuild: bool = False) -> str:
    """The name of a run while it goes on: "handbook, wiki"."""
    shown = ", ".join(names[:SHOWN_SOURCES])
    if more := len(names) - SHOWN_SOURCES:
        shown = f"{shown} and {more} more" if more > 0 else shown
    return f"{'rebuild ' if rebuild else ''}{shown}"[:200]


def ended(begun: str, reports: Sequence[Mapping[str, JsonValue]], failed: int = 0) -> str:
    """Its name when it has ended, from what `summary.counts` gives of each source.

    `failed` is how many sources failed.
    """
    if failed and not reports:
        return f"{begun} · failed"
    sums = {name: sum(cast("int", one[name]) for one in reports) for name in (*WRITTEN, *_BESIDE)}
    said = [f"{sums[name]:,} {WORDS[name]}" for name in WRITTEN if sums[name]]
    said += [f"{sums[name]:,} {word}" for name, word in _BESIDE.items() if sums[name]]
    if failed:
        said.append(f"{failed} of {failed + len(reports)} sources failed")
    if not said:
        skipped = reports and all(one["skipped"] is not None for one in reports)
        said.append("skipped" if skipped else "no change")
    return f"{begun} · {', '.join(said)}"[:200]


_BESIDE = {"failed": "failed", "left": "left", "withheld": "withheld"}


def name_task(report: Mapping[str, JsonValue] | None, source: str) -> None:
    """Give the task that goes on here the name that it is to have when it has ended."""
    context = TaskRunContext.get()
    if context:
        # The server takes the name from what it is told of the task's last state.
        context.task_run.name = ended(source, [report] if report else [], failed=0 if report else 1)


async def name_run(reports: Sequence[Mapping[str, JsonValue]], failed: int) -> None:
    """Give the flow run that goes on here the name that it is to have when it has ended."""
    context = FlowRunContext.get()
    if context and context.flow_run:
        name = ended(context.flow_run.name.partition(" · ")[0], reports, failed)
        await _update(context, name=name)


def doing(what: str) -> str:
    """What a lease says of the run that goes on here: "ingesting wiki (flow run …)"."""
    run = f" (flow run {flow_run.id})" if flow_run.id else ""
    return f"ingesting {what}{run}"


async def tag_run(tags: Sequence[str]) -> None:
    """Tag the flow run that goes on here, beside the tags that it has."""
    context = FlowRunContext.get()
    if context and context.flow_run and not set(tags) <= set(context.flow_run.tags):
        context.flow_run.tags = list(dict.fromkeys([*context.flow_run.tags, *tags]))
        await _update(context, tags=context.flow_run.tags)


async def untag_run(tags: Sequence[str]) -> None:
    """Take tags from the flow run that goes on here."""
    context = FlowRunContext.get()
    if context and context.flow_run and tags:
        context.flow_run.tags = [tag for tag in context.flow_run.tags if tag not in tags]
        await _update(context, tags=context.flow_run.tags)


async def _update(context: FlowRunContext, *, name: str | None = None, tags: list[str] | None = None) -> None:
    assert context.flow_run  # noqa: S101 - for the type checker: both callers looked
    with anyio.move_on_after(PATIENCE):
        try:
            async with get_client() as client:
                await client.update_flow_run(context.flow_run.id, name=name, tags=tags)
        except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises: it is only shown
            get_run_logger().warning("the run could not be named: %s", type(error).__name__)

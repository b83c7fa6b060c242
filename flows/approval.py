"""Removals that wait for a person: the run is suspended, and its form in Prefect's UI asks for them.

A suspended run is no process. Resumed, it begins anew, which costs little: what it did before is unchanged.
What is withheld then is removed if it is what was asked about; if not, the run asks again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from pydantic import Field, create_model

from config.settings import Settings
from flows import assets, naming, summary
from pipeline.plan import RemovalGuard
from pipeline.records import JsonValue
from pipeline.report import SourceReport

TAG = "removals-withheld"
"""What every run is tagged with that waits for an answer."""
PREFIX = "withheld-"
"""How the tag begins that says for which."""


@dataclass(slots=True)
class Approvals:
    """Of one run: what was withheld, and what of it a person approved."""

    withheld: dict[str, frozenset[str]] = field(default_factory=dict)
    approved: dict[str, frozenset[str]] = field(default_factory=dict)


approvals: ContextVar[Approvals | None] = ContextVar("approvals", default=None)
"""Of the run that goes on here. No parameter of a task: these may be many keys."""


def note(report: SourceReport) -> None:
    """Keep what is withheld of a source."""
    if kept := approvals.get():
        kept.withheld[report.source] = frozenset(report.withheld_keys)


def limited(guard: RemovalGuard, source: str) -> RemovalGuard:
    """The guard, letting through no other documents than those that were asked about, if any were."""
    kept = approvals.get()
    keys = kept.approved.get(source) if kept else None
    return guard if keys is None else replace(guard, approved=len(keys), keys=keys)


def resumed() -> bool:
    """Whether the run that goes on here has asked before."""
    context = FlowRunContext.get()
    policy = context.flow_run.empirical_policy if context and context.flow_run else None
    return bool(policy and policy.pause_keys)


async def granted(settings: Settings, ended: Sequence[Mapping[str, JsonValue]]) -> list[str]:
    """Ask for the removals that are withheld, where the settings want it so.

    Only a run of a deployment can be suspended; nobody is asked in another.

    Args:
        settings: Say of which sources is asked.
        ended: What `summary.counts` gives of each source.

    Returns:
        The sources whose removals may go.

    Raises:
        Pause: the run is suspended until somebody answers. Prefect's own, and no Exception.
    """
    asked = [one for one in ended if one["withheld"] and _asks(settings, str(one["source"]))]
    context = FlowRunContext.get()
    if not (asked and context and context.flow_run and context.flow_run.deployment_id):
        return []
    logger, mark = get_run_logger(), _mark(assets.table(settings).key, asked)
    hours = min(settings.sources[str(one["source"])].removals.ask_hours for one in asked)
    try:
        if other := await _asked_by(mark, context.flow_run.id):
            logger.info("the run %s asks already for what is withheld here", other)
            return []
        await naming.name_run(ended, 0)
        await naming.tag_run([TAG, mark])
        seconds = max(1, round(hours * 3600))
        answer = await asuspend_flow_run(wait_for_input=_form(asked), timeout=seconds, key=mark)
    except Exception as error:  # noqa: BLE001 - whatever Prefect raises: what is withheld stays
        logger.warning("nobody could be asked for what is withheld: %s", type(error).__name__)
        return []
    await naming.untag_run([tag for tag in context.flow_run.tags if tag.startswith((TAG, PREFIX))])
    return _approved(asked, answer.model_dump())


def _asks(settings: Settings, source: str) -> bool:
    return settings.sources[source].removals.when_withheld == "ask"


def _mark(table: str, asked: Sequence[Mapping[str, JsonValue]]) -> str:
    """Names exactly these documents of these sources, in this table."""
    lines = [table, *sorted(f"{one['source']} {one['withheld_mark']}" for one in asked)]
    return f"{PREFIX}{hashlib.sha256('|'.join(lines).encode()).hexdigest()[:12]}"


async def _asked_by(mark: str, this: UUID) -> str | None:
    """The name of another run that waits for the same answer."""
    paused = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[mark]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])),
    )
    async with get_client() as client:
        others = [run for run in await client.read_flow_runs(flow_run_filter=paused) if run.id != this]
    return others[0].name if others else None


def _form(asked: Sequence[Mapping[str, JsonValue]]) -> type[RunInput]:
    """A question for each source."""
    fields: dict[str, Any] = {
        _field(number): (
            bool,
            Field(
                default=False,
                title=f"{one['source']}: remove {summary.number(cast('int', one['withheld']), 'document')}",
                description=f"On: just these go. Off: they stay, and all {one['stored']:,} are searched.",
            ),
        )
        for number, one in enumerate(asked)
    }
    form: type[RunInput] = create_model("Approval", __base__=RunInput, **fields)
    return form.with_initial_data(description=_question(asked))


def _question(asked: Sequence[Mapping[str, JsonValue]]) -> str:
    """In Markdown: which documents would go, the first of them by name."""
    blocks = ["More documents are no longer listed than a run removes without being asked."]
    for one in asked:
        keys, count = cast("list[str]", one["withheld_keys"]), cast("int", one["withheld"])
        blocks.append(f"**{one['source']}**: {count:,} of {one['stored']:,}")
        blocks.append(summary.keys(keys, count))
    return "\n\n".join(blocks)


def _field(number: int) -> str:
    return f"remove_{number}"


def _approved(asked: Sequence[Mapping[str, JsonValue]], answer: Mapping[str, Any]) -> list[str]:
    names = [str(one["source"]) for number, one in enumerate(asked) if answer[_field(number)]]
    if kept := approvals.get():
        kept.approved.update({name: kept.withheld.get(name, frozenset()) for name in names})
    return names

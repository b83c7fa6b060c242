"""/v1/freshness, /v1/spending and /v1/map: what the page shows beside the search, of what the key sees."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, BaseModel, Field

from apps.http.answers import SourceModel
from apps.http.asking import TheCaller, TheDesk
from apps.http.errors import ApiError
from apps.page.survey import SourceSeen, Surveys
from pipeline.query_desk import web_link
from pipeline.records import Spending
from pipeline.report import FAILURES_KEPT

router = APIRouter(tags=["overview"])

LATEST_RUNS = 100


class FailureModel(BaseModel):
    """A document that could not be read, and why."""

    key: str
    reason: str
    url: Annotated[str | None, AfterValidator(web_link)] = Field(description="A link of the web.")


class RunModel(BaseModel):
    """The latest run over a source."""

    at: datetime = Field(description="When it ended.")
    seconds: float
    error: str | None = Field(description="What ended it before its time.")
    succeeded_at: datetime | None = Field(
        description="When the last one ended that neither an error nor a budget cut short."
    )
    counts: dict[str, int] = Field(
        description="Documents by what became of them; removals that wait for approval (withheld); documents "
        "that a budget left for the next (left); passages and requests."
    )
    failed: int = Field(description="Documents that failed in it.")
    failures: list[FailureModel] = Field(description=f"The first {FAILURES_KEPT} of them.")


class FreshModel(SourceModel):
    """How a source stands."""

    tokens: int
    newest: datetime | None = Field(description="When rows of it were last written.")
    oldest: datetime | None = Field(description="When the rows of its oldest document were.")
    paid_at: datetime | None = Field(
        description="When a run last paid for vectors of it. For a key that sees everything."
    )
    run: RunModel | None = Field(description="For a key that sees everything.")


class ChangedModel(BaseModel):
    """A document that was written lately."""

    source: str
    key: str
    title: str
    updated_at: datetime | None


class FreshnessAnswer(BaseModel):
    """The sources of which the key sees any document, and what was written last of them.

    A key that sees everything is told of those, too, of which there is nothing because their last run failed
    or stopped for its budget.
    """

    sources: list[FreshModel]
    latest: list[ChangedModel] = Field(description="The last written first.")
    runs_known: bool = Field(description="Whether the key may see how runs went.")


class CostModel(BaseModel):
    """What a model was paid for a source's vectors."""

    source: str
    model: str
    requests: int
    tokens: int
    cost_usd: float


class SpentModel(CostModel):
    """By the runs of one day."""

    day: date = Field(description="In UTC.")
    runs: int


class PaidModel(CostModel):
    """By one run."""

    at: datetime


class SpendingAnswer(BaseModel):
    """What was paid for vectors. What the embedded default computes costs nothing, and is not noted."""

    days: list[SpentModel] = Field(description="Oldest first.")
    runs: list[PaidModel] = Field(description=f"The last {LATEST_RUNS}, the last first.")


class PointModel(BaseModel):
    """A document on the map."""

    source: str
    key: str
    title: str
    x: float = Field(ge=-1, le=1)
    y: float = Field(ge=-1, le=1)


class MapAnswer(BaseModel):
    """Documents that the key sees, near each other where their vectors are."""

    documents: int = Field(description="That there are: the points may be a sample.")
    points: list[PointModel]
    explained: tuple[float, float] = Field(
        description="What the two directions hold of all that the vectors differ by: 0 … 1."
    )


def _surveys(request: Request) -> Surveys:
    surveys: Surveys = request.app.state.surveys
    return surveys


TheSurveys = Annotated[Surveys, Depends(_surveys)]


@router.get("/freshness")
async def freshness(desk: TheDesk, caller: TheCaller, surveys: TheSurveys) -> FreshnessAnswer:
    """How fresh each source is, and which documents were written last."""
    reader = await desk.snapshot()
    seen = await surveys.survey(reader, caller.access)
    runs: dict[str, RunModel] = {}
    paid: dict[str, datetime] = {}
    if caller.access is None:
        paid = {one.source: one.at for one in await reader.spending()}
        runs = {one.source: RunModel.model_validate(one, from_attributes=True) for one in await reader.runs()}
    failing = [name for name, run in runs.items() if run.error or run.failed or run.counts.get("left")]
    return FreshnessAnswer(
        sources=[
            FreshModel(
                name=name,
                documents=one.documents,
                chunks=one.chunks,
                tokens=one.tokens,
                newest=one.newest,
                oldest=one.oldest,
                paid_at=paid.get(name),
                run=runs.get(name),
            )
            for name, one in (dict.fromkeys(failing, SourceSeen()) | seen.sources).items()
        ],
        latest=[
            ChangedModel(
                source=one.state.source, key=one.state.key, title=one.about.title, updated_at=one.updated_at
            )
            for one in seen.newest
        ],
        runs_known=caller.access is None,
    )


@router.get("/spending")
async def spending(desk: TheDesk, caller: TheCaller) -> SpendingAnswer:
    """What was paid for vectors, day by day. For a key that sees everything."""
    if caller.access is not None:
        raise ApiError(403, "what was spent is told to a key that sees everything")
    paid = await (await desk.snapshot()).spending()
    return SpendingAnswer(
        days=_by_day(paid),
        runs=[PaidModel.model_validate(one, from_attributes=True) for one in reversed(paid[-LATEST_RUNS:])],
    )


def _by_day(paid: Sequence[Spending]) -> list[SpentModel]:
    days: dict[tuple[date, str, str], SpentModel] = {}
    for one in paid:
        key = one.at.date(), one.source, one.model
        if key not in days:
            days[key] = SpentModel(
                day=key[0], source=one.source, model=one.model, runs=0, requests=0, tokens=0, cost_usd=0.0
            )
        day = days[key]
        day.runs += 1
        day.requests += one.requests
        day.tokens += one.tokens
        day.cost_usd += one.cost_usd
    return list(days.values())


@router.get("/map")
async def corpus_map(desk: TheDesk, caller: TheCaller, surveys: TheSurveys) -> MapAnswer:
    """Where documents lie, by their vectors: at most 1,500 of them."""
    if len({space for space in (await desk.spaces()).values() if space}) > 1:  # empty tables are of none
        raise ApiError(400, "the vectors of these tables cannot be compared: there is no map of them all")
    found = await surveys.map(await desk.snapshot(), caller.access)
    return MapAnswer(
        documents=found.documents,
        points=[PointModel.model_validate(one, from_attributes=True) for one in found.points],
        explained=found.explained,
    )

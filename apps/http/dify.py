"""/retrieval: Dify's external knowledge API.

https://docs.dify.ai/en/use-dify/knowledge/external-knowledge-api
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, JsonValue

from apps.http.answers import document_path
from apps.http.asking import TheCaller, TheDesk
from apps.http.models import LONGEST_QUESTION, MOST_HITS, QUESTION
from apps.http.other_filters import of_dify
from apps.http.scope import relevance, sources_of
from apps.http.shapes import DIFY
from pipeline.query import Question
from pipeline.records import Filter, Hit

router = APIRouter(tags=["other apps"])


class DifySetting(BaseModel):
    """How much is wanted."""

    top_k: int = Field(default=5, ge=1, le=MOST_HITS)
    score_threshold: float | None = Field(default=0.0, ge=0, le=1, description="Of the similarity; 0: none.")


class DifyCondition(BaseModel):
    """What a document's metadata must hold."""

    name: str | list[str] = Field(description="A column, a name of the metadata, source, path, title …")
    comparison_operator: str = Field(max_length=40)
    value: str | int | float | list[str | int | float] | None = None


class DifyConditions(BaseModel):
    """All or any of these."""

    logical_operator: Literal["and", "or"] | None = "and"
    conditions: list[DifyCondition] = Field(default=[], max_length=50)


class DifyRequest(BaseModel):
    """What Dify asks."""

    knowledge_id: str = Field(
        min_length=1, max_length=200, description="A source's name, or `all`.", examples=["all"]
    )
    query: str = Field(min_length=1, max_length=LONGEST_QUESTION, pattern=r"\S", examples=[QUESTION])
    retrieval_setting: DifySetting = DifySetting()
    metadata_condition: DifyConditions | None = None


class DifyRecord(BaseModel):
    """A hit as Dify reads it."""

    content: str
    score: float = Field(ge=0, le=1, description="The similarity, or the reranker's score.")
    title: str
    metadata: dict[str, JsonValue]


class DifyAnswer(BaseModel):
    """The hits, best first."""

    records: list[DifyRecord]


class DifyError(BaseModel):
    """Why there is no answer, as Dify reads it."""

    error_code: int = Field(description="1002: not let in; 2001: no such knowledge; others are the status.")
    error_msg: str


@router.post(
    DIFY,
    responses={
        "4XX": {"model": DifyError, "description": "The request cannot be answered as it is."},
        "5XX": {"model": DifyError, "description": "It cannot be answered just now."},
    },
)
async def retrieval(asked: DifyRequest, desk: TheDesk, caller: TheCaller) -> DifyAnswer:
    """The passages that answer best, as Dify's external knowledge API has them."""
    sources = await sources_of(asked.knowledge_id, desk, caller)
    wanted = asked.metadata_condition
    clause = None
    if wanted and wanted.conditions:
        clause = of_dify(wanted.conditions, wanted.logical_operator or "and", await desk.columns(sources))
    question = Question(
        text=asked.query,
        limit=asked.retrieval_setting.top_k,
        min_score=asked.retrieval_setting.score_threshold or None,
        where=Filter(sources=sources, clause=clause, access=caller.access),
    )
    found = await desk.search(question)
    return DifyAnswer(records=[_record(hit) for hit in found.hits])


def _record(hit: Hit) -> DifyRecord:
    about: dict[str, JsonValue] = {
        "source": hit.source,
        "path": hit.key,
        "ordinal": hit.ordinal,
        "url": hit.url,
        "document": document_path(hit.source, hit.key),
        "headings": [*hit.heading_path],
        "page": hit.page,
        "start": hit.start,
        "end": hit.end,
    }
    return DifyRecord(
        content=hit.text, score=relevance(hit), title=hit.title, metadata={**hit.metadata, **about}
    )

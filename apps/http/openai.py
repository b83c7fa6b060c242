"""/v1/vector_stores/{id}/search: as OpenAI's API has it.

https://platform.openai.com/docs/api-reference/vector-stores/search
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from apps.http.asking import TheCaller, TheDesk
from apps.http.models import LONGEST_QUESTION, QUESTION
from apps.http.other_filters import of_openai
from apps.http.scope import relevance, sources_of
from apps.http.shapes import OPENAI
from pipeline.query import Question
from pipeline.records import Filter, Hit

router = APIRouter(tags=["other apps"])

Scalar = str | int | float | bool
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_QUESTION, pattern=r"\S")]


class Comparison(BaseModel):
    """What an attribute must be."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str = Field(min_length=1, max_length=200)
    value: Scalar | Annotated[list[Scalar], Field(min_length=1, max_length=500)]


class Compound(BaseModel):
    """All or any of these."""

    type: Literal["and", "or"]
    filters: list[Comparison | Compound] = Field(min_length=1, max_length=50)


class Ranking(BaseModel):
    """What is wanted of the hits' scores."""

    ranker: str | None = Field(default=None, description="Is not looked at.")
    score_threshold: float | None = Field(default=0.0, ge=0, le=1, description="Of the similarity; 0: none.")


class VectorStoreRequest(BaseModel):
    """A search, as OpenAI's clients ask it."""

    query: Text | Annotated[list[Text], Field(min_length=1, max_length=10)] = Field(examples=[QUESTION])
    max_num_results: int = Field(default=10, ge=1, le=50)
    filters: Comparison | Compound | None = None
    ranking_options: Ranking | None = None
    rewrite_query: bool = Field(default=False, description="Is not looked at: no question is rewritten.")


class Content(BaseModel):
    """A text."""

    type: Literal["text"] = "text"
    text: str


class VectorStoreHit(BaseModel):
    """A hit."""

    file_id: str = Field(description="Source and key, with a slash between them.")
    filename: str = Field(description="The key.")
    score: float = Field(ge=0, le=1, description="The similarity, or the reranker's score.")
    attributes: dict[str, Scalar] = Field(description="Where it stands, and the metadata's plain values.")
    content: list[Content]


class VectorStoreAnswer(BaseModel):
    """The hits, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[VectorStoreHit]
    has_more: bool
    next_page: None = None


@router.post(OPENAI + "{vector_store_id}/search")
async def search_vector_store(
    vector_store_id: Annotated[str, Path(max_length=200, description="A source's name, or `all`.")],
    asked: VectorStoreRequest,
    desk: TheDesk,
    caller: TheCaller,
) -> VectorStoreAnswer:
    """The passages that answer best, as OpenAI's vector-store search has them."""
    sources = await sources_of(vector_store_id, desk, caller)
    queries = asked.query if isinstance(asked.query, list) else [asked.query]
    clause = of_openai(asked.filters, await desk.columns(sources)) if asked.filters else None
    ranking = asked.ranking_options or Ranking()
    question = Question(
        text="\n".join(queries),
        limit=asked.max_num_results,
        min_score=ranking.score_threshold or None,
        where=Filter(sources=sources, clause=clause, access=caller.access),
    )
    found = await desk.search(question)
    return VectorStoreAnswer(
        search_query=queries, data=[_hit(hit) for hit in found.hits], has_more=found.more
    )


def _hit(hit: Hit) -> VectorStoreHit:
    plain = {name: one for name, one in hit.metadata.items() if isinstance(one, str | int | float | bool)}
    about = {"source": hit.source, "path": hit.key, "ordinal": hit.ordinal, "title": hit.title}
    about |= {"url": hit.url, "page": hit.page, "start": hit.start, "end": hit.end}
    attributes = plain | {name: one for name, one in about.items() if one is not None}
    return VectorStoreHit(
        file_id=f"{hit.source}/{hit.key}",
        filename=hit.key,
        score=relevance(hit),
        attributes=attributes,
        content=[Content(text=hit.text)],
    )

"""/v1/search and /v1/context."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query

from apps.http.answers import ContextAnswer, Page, SearchAnswer, context_answer, hit_models
from apps.http.asking import TheCaller, TheDesk
from apps.http.guard import Caller
from apps.http.models import ContextRequest, QuestionRequest, SearchRequest
from pipeline.query import Question
from pipeline.query_desk import Desk

router = APIRouter(tags=["search"])


@router.get("/search")
async def search_by_address(
    asked: Annotated[SearchRequest, Query()], desk: TheDesk, caller: TheCaller
) -> SearchAnswer:
    """The passages that answer best, best first: as POST /v1/search, in an address."""
    return await search(asked, desk, caller)


@router.post("/search")
async def search(asked: SearchRequest, desk: TheDesk, caller: TheCaller) -> SearchAnswer:
    """The passages that answer best, best first."""
    question = replace(
        await question_of(asked, desk, caller),
        limit=asked.limit,
        offset=asked.offset,
        deduplicate=asked.deduplicate,
    )
    found = await desk.search(question)
    page = Page(question=asked.question, offset=asked.offset, highlights=asked.highlights)
    return SearchAnswer.model_construct(
        question=asked.question,
        mode=asked.mode,
        hits=hit_models(found, page),
        more=found.more,
        reranked=found.reranked,
    )


@router.get("/context")
async def context_by_address(
    asked: Annotated[ContextRequest, Query()], desk: TheDesk, caller: TheCaller
) -> ContextAnswer:
    """As much of what answers best as fits in so many tokens: as POST /v1/context, in an address."""
    return await context(asked, desk, caller)


@router.post("/context")
async def context(asked: ContextRequest, desk: TheDesk, caller: TheCaller) -> ContextAnswer:
    """As much of what answers best as fits in so many tokens, in the documents' order, to be cited."""
    found = await desk.context(await question_of(asked, desk, caller), most=asked.tokens)
    return context_answer(asked.question, found)


async def question_of(asked: QuestionRequest, desk: Desk, caller: Caller) -> Question:
    """What is asked of the tables, by somebody who may not see all of them.

    Raises:
        SettingsError: the filter cannot be meant.
        StoreError: the tables cannot be read.
    """
    columns = await desk.columns() if asked.where.strip() else ()
    return asked.asked(columns, caller.access)

"""/v1/search and /v1/context."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from apps.http.answers import ContextAnswer, Page, SearchAnswer, context_answer, hit_models
from apps.http.asking import TheCaller, TheDesk
from apps.http.models import ContextRequest, SearchRequest

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
    found = await desk.search(await asked.put_to(desk, caller.access))
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
    found = await desk.context(await asked.put_to(desk, caller.access), most=asked.tokens)
    return context_answer(asked.question, found)

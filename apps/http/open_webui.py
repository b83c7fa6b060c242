"""/open_webui/search: what Open WebUI asks of its web search engine "external".

https://docs.openwebui.com/features/chat-conversations/web-search/providers/external
"""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from apps.http.asking import TheCaller, TheDesk
from apps.http.models import LONGEST_QUESTION, MOST_HITS, QUESTION
from pipeline.query import Question
from pipeline.records import Filter, Hit

router = APIRouter(tags=["other apps"])


class WebSearchRequest(BaseModel):
    """What Open WebUI asks."""

    query: str = Field(min_length=1, max_length=LONGEST_QUESTION, pattern=r"\S", examples=[QUESTION])
    count: int = Field(default=10, ge=1, le=MOST_HITS)


class WebSearchResult(BaseModel):
    """A hit as Open WebUI reads it: what has no link it leaves out."""

    link: str = Field(description="Where a person can open the document; else this server's page of it.")
    title: str
    snippet: str = Field(description="The passage.")


@router.post("/open_webui/search")
async def search_for_open_webui(
    asked: WebSearchRequest, desk: TheDesk, caller: TheCaller, request: Request
) -> list[WebSearchResult]:
    """The passages that answer best, best first, as Open WebUI has the results of a web search."""
    question = Question(text=asked.query, limit=asked.count, where=Filter(access=caller.access))
    found = await desk.search(question)
    page = str(request.base_url)
    return [
        WebSearchResult(link=_link(hit, page), title=hit.title or hit.key, snippet=hit.text)
        for hit in found.hits
    ]


def _link(hit: Hit, page: str) -> str:
    return hit.url or f"{page}#/document/{quote(hit.source, safe='')}/{quote(hit.key)}?chunk={hit.ordinal}"

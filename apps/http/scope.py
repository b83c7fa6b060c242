"""What other APIs call a store, a collection or a knowledge base: one of our sources, or all of them."""

from __future__ import annotations

from apps.http.errors import ApiError
from apps.http.guard import Caller
from pipeline.query_desk import Desk
from pipeline.records import Hit

ALL = "all"


async def sources_of(name: str, desk: Desk, caller: Caller) -> tuple[str, ...]:
    """The sources that are meant; none means all.

    Raises:
        ApiError: there is no such source, or none of which the caller may see anything.
    """
    known = await desk.counts(access=caller.access)
    if name in known:
        return (name,)
    if name == ALL:
        return ()
    raise ApiError(404, f"nothing of that name; there is {', '.join([ALL, *known])}")


def relevance(hit: Hit) -> float:
    """0 … 1, on one scale for all questions: the reranker's score, or the similarity."""
    given = hit.similarity if hit.rerank_score is None else hit.rerank_score
    return min(1.0, max(0.0, given or 0.0))

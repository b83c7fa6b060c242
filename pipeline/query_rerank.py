"""Reranking over HTTP, in the form that Cohere gave it, and Jina, OpenRouter, vLLM and others took up.

POST {base_url}/rerank with {"model", "query", "documents", "top_n"}; the answer has {"results": [{"index",
"relevance_score"}]}, best first. https://docs.cohere.com/reference/rerank, https://jina.ai/reranker
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    import httpx

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Answers after which the same may be asked again later."""
LONGEST = 20_000
"""Characters of one text that are sent: no reranker reads more."""


class HttpReranker:
    """Asks a service. Satisfies `pipeline.query.Reranker`. Opens no connection before it is asked."""

    def __init__(self, *, base_url: str, model: str, api_key: str, timeout_seconds: float) -> None:
        self._address = f"{base_url.rstrip('/')}/rerank"
        self._model = model
        self._key = api_key
        self._timeout = timeout_seconds
        self._client: httpx.AsyncClient | None = None

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers, 0 … 1 where the service keeps to that.

        Raises:
            ServiceUnavailable: it does not answer, or not as it should.
            ServiceRefused: it turns us away.
        """
        import httpx  # noqa: PLC0415 - only who reranks waits for it

        if self._client is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            self._client = httpx.AsyncClient(timeout=self._timeout, headers=headers)
        documents = [text[:LONGEST] for text in texts]
        asked = {"model": self._model, "query": question, "documents": documents, "top_n": len(documents)}
        try:
            answer = await self._client.post(self._address, json=asked)
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"the reranker does not answer: {type(error).__name__}") from None
        if answer.status_code in RETRIED:
            raise ServiceUnavailable(f"the reranker answers {answer.status_code}")
        if not answer.is_success:
            raise ServiceRefused(
                f"the reranker answers {answer.status_code}: look at rerank.base_url, model and api_key"
            )
        try:
            return _scores(answer.json(), len(documents))
        except (ValueError, TypeError, KeyError) as error:
            raise ServiceUnavailable("the reranker's answer is not as it should be") from error

    async def aclose(self) -> None:
        """Give back the connection."""
        if self._client is not None:
            await self._client.aclose()


def _scores(answer: Mapping[str, Sequence[Mapping[str, float]]], expected: int) -> list[float]:
    """By the texts' order.

    Raises:
        ValueError, TypeError, KeyError: a text is missing, named twice, or has no number.
    """
    scores: dict[int, float] = {}
    for result in answer["results"]:
        index, score = result["index"], float(result["relevance_score"])
        if not isinstance(index, int) or index in scores or not math.isfinite(score):
            raise ValueError(index)
        scores[index] = score
    if sorted(scores) != list(range(expected)):
        raise ValueError(expected)
    return [scores[index] for index in range(expected)]

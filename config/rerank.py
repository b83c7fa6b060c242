"""What the YAML may say of a reranker."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from connectors.settings import Secret, StrictModel

if TYPE_CHECKING:
    from pipeline.query_rerank import HttpReranker


class RerankSettings(StrictModel):
    """A service that orders the best hits anew, by reading question and passage together."""

    base_url: str = Field(
        description="Of the service: /rerank is added to it.",
        examples=["https://api.cohere.com/v2", "https://api.jina.ai/v1", "https://openrouter.ai/api/v1"],
    )
    model: str = Field(min_length=1, description="As the service names it.", examples=["rerank-v3.5"])
    api_key: Secret | None = Field(
        default=None,
        description="Written as ${NAME}, file:PATH or prefect://secret/NAME. Left out: none is sent.",
    )
    timeout_seconds: float = Field(
        default=5,
        gt=0,
        le=120,
        allow_inf_nan=False,
        description="For one question. If the service does not answer by then, the hits stay as they were.",
    )

    @field_validator("base_url")
    @classmethod
    def _address(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise ValueError("must be an address as https://api.jina.ai/v1, without a key in it")
        return base_url.rstrip("/")


def reranker_of(chosen: RerankSettings | None) -> HttpReranker | None:
    """The reranker that is chosen; None where there is none. Opens no connection yet."""
    if chosen is None:
        return None
    from pipeline.query_rerank import HttpReranker  # noqa: PLC0415 - only who reranks waits for it

    return HttpReranker(
        base_url=chosen.base_url,
        model=chosen.model,
        api_key=chosen.api_key.get_secret_value() if chosen.api_key else "",
        timeout_seconds=chosen.timeout_seconds,
    )

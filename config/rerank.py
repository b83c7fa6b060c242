"""What the YAML may say of a reranker."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from connectors.one_of import OneOf
from connectors.settings import LocalPath, Secret, StrictModel
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.query import Reranker


Patience: TypeAlias = Annotated[
    float,
    Field(
        gt=0,
        le=120,
        allow_inf_nan=False,
        description="For one question. If there is no answer by then, the hits stay as they were.",
    ),
]


class HttpRerank(StrictModel):
    """A service that orders the best hits anew, by reading question and passage together."""

    provider: Literal["http"] = Field(default="http", description="A service with an endpoint like Cohere's.")
    base_url: str = Field(
        description="Of the service: /rerank is added to it.",
        examples=["https://api.cohere.com/v2", "https://api.jina.ai/v1", "https://openrouter.ai/api/v1"],
    )
    model: str = Field(min_length=1, description="As the service names it.", examples=["rerank-v3.5"])
    api_key: Secret | None = Field(
        default=None,
        description="Written as ${NAME}, file:PATH or prefect://secret/NAME. Left out: none is sent.",
    )
    timeout_seconds: Patience = 5

    @field_validator("base_url")
    @classmethod
    def _address(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise ValueError("must be an address as https://api.jina.ai/v1, without a key in it")
        return base_url.rstrip("/")


class LocalRerank(StrictModel):
    """A cross-encoder that reads question and passage together in this process."""

    provider: Literal["local"] = Field(
        description="A model of your own, in this process; needs docweave[rerank]."
    )
    path: LocalPath = Field(
        description="The folder with its tokenizer.json and its model.onnx (or onnx/model.onnx)."
    )
    longest_tokens: int = Field(
        default=512, ge=16, le=8192, description="Of question and passage together; the rest is not read."
    )
    timeout_seconds: Patience = 5


RerankSettings: TypeAlias = Annotated[HttpRerank | LocalRerank, OneOf("provider", default="http")]
"""The settings of any reranker, told apart by `provider`."""


def reranker_of(chosen: HttpRerank | LocalRerank | None) -> Reranker | None:
    """The reranker that is chosen; None where there is none. Opens nothing yet.

    Raises:
        SettingsError: what it needs is not installed, or not in its folder.
    """
    match chosen:
        case None:
            return None
        case HttpRerank():
            from pipeline.query_rerank import HttpReranker  # noqa: PLC0415 - only who reranks waits for it

            return HttpReranker(
                base_url=chosen.base_url,
                model=chosen.model,
                api_key=chosen.api_key.get_secret_value() if chosen.api_key else "",
                timeout_seconds=chosen.timeout_seconds,
            )
        case LocalRerank():
            if find_spec("onnxruntime") is None:
                raise SettingsError(
                    "rerank: provider local needs the package onnxruntime: pip install 'docweave[rerank]'"
                )
            from pipeline.query_rerank_local import LocalReranker  # noqa: PLC0415 - as above

            return LocalReranker(
                chosen.path, longest_tokens=chosen.longest_tokens, timeout_seconds=chosen.timeout_seconds
            )

"""What the YAML may say of `provider: perplexity`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from config.any_embedding import ServiceEmbedding, key_from, ranges
from connectors.settings import Secret
from pipeline.embedders import models, perplexity
from pipeline.records import EmbedLimits, Grouping, Lead


class PerplexityEmbedding(ServiceEmbedding):
    """Perplexity's embeddings, contextualized or standard, or a compatible server."""

    documented = perplexity.MODELS
    key_name = perplexity.KEY_NAME

    provider: Literal["perplexity"] = Field(description="Perplexity, or a compatible server at base_url.")
    base_url: str = Field(
        default=perplexity.URL, description="The service's address, without /v1/contextualizedembeddings."
    )
    model: str = Field(
        default="pplx-embed-context-v1-0.6b",
        min_length=1,
        description=f"One of {', '.join(perplexity.MODELS)}; at another base_url, any that the server knows.",
        examples=list(perplexity.MODELS),
    )
    dimensions: int | None = Field(
        default=None, ge=1, validate_default=True, description=ranges(perplexity.MODELS)
    )
    api_key: Secret | None = Field(default=None, description=key_from(perplexity.KEY_NAME))
    lead: Lead | None = Field(
        default=None,
        description="What is said of its document in front of a part of it: none, title, headings (title and "
        "headings) or opening (title and first words). Left out: opening for contextual models, headings for "
        "standard ones, which embed each chunk by itself.",
    )
    contextual: bool = Field(
        default=True,
        description="For a model that is known to the server at base_url alone: whether it reads the chunks "
        "of a document together, at /v1/contextualizedembeddings.",
    )
    encoding_format: Literal["base64_int8", "base64_binary"] = Field(
        default="base64_int8",
        description="base64_int8: a byte a dimension. base64_binary: a bit, for an eighth of the room, "
        "compared by Hamming distance.",
    )
    overlap_tokens: int = Field(
        default=1000,
        ge=0,
        le=8000,
        description="How much a part of a document that is over the model's limit sees of its neighbours, on "
        "each side. For contextual models.",
    )

    @property
    def official(self) -> bool:
        """Whether it is Perplexity's own service."""
        return self.base_url == perplexity.URL

    @property
    def is_contextual(self) -> bool:
        """Whether the model reads the chunks of a document together."""
        return self.known.contextual if self.known else self.contextual

    @property
    def limits(self) -> EmbedLimits:
        """What one request may hold."""
        return models.limits(contextual=self.is_contextual)

    @property
    def grouping(self) -> Grouping:
        """How documents are divided into what is embedded together."""
        return Grouping(
            overlap_tokens=self.overlap_tokens if self.is_contextual else 0,
            lead=self.lead or (Lead.OPENING if self.is_contextual else Lead.HEADINGS),
            lead_tokens=self.lead_tokens,
        )

    @field_validator("model")
    @classmethod
    def _theirs(cls, model: str, info: ValidationInfo) -> str:
        if model not in perplexity.MODELS and info.data.get("base_url") == perplexity.URL:
            raise PydanticCustomError(
                "unknown_name",
                "is no embedding model of Perplexity's",
                {"given": model, "known": list(perplexity.MODELS)},
            )
        return model

    @field_validator("contextual")
    @classmethod
    def _only_if_unknown(cls, contextual: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - as pydantic calls it
        if model := cls.documented.get(info.data.get("model", "")):
            is_contextual = "contextual" if model.contextual else "not contextual"
            raise ValueError(f"does nothing: {model.name} is known to be {is_contextual}; delete this")
        return contextual

    @field_validator("encoding_format")
    @classmethod
    def _whole_bytes(cls, encoding_format: str, info: ValidationInfo) -> str:
        dimensions = info.data.get("dimensions")
        if encoding_format == "base64_binary" and dimensions and dimensions % 8:
            raise ValueError(f"packs eight dimensions to a byte, and {dimensions} cannot be divided by 8")
        return encoding_format

    @field_validator("overlap_tokens")
    @classmethod
    def _only_in_context(cls, overlap_tokens: int, info: ValidationInfo) -> int:
        name = info.data.get("model", "")
        model = cls.documented.get(name)
        if not (model.contextual if model else info.data.get("contextual", True)):
            raise ValueError(f"does nothing: {name} embeds each chunk by itself; delete this")
        return overlap_tokens

"""What the YAML may say of the embedder."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from config.any_embedding import AnyEmbedding, ServiceEmbedding
from config.openrouter import OpenRouterEmbedding
from config.perplexity import PerplexityEmbedding
from connectors.one_of import OneOf
from pipeline.embedders import models
from pipeline.records import EmbedLimits, Grouping, Lead

__all__ = [
    "EmbeddingSettings",
    "LocalEmbedding",
    "OpenRouterEmbedding",
    "PerplexityEmbedding",
    "ServiceEmbedding",
]


class LocalEmbedding(AnyEmbedding):
    """The embedded default: in process, without a key or a server."""

    provider: Literal["local"] = Field(default="local", description="Embeds in this process; takes no model.")
    contextual: bool = Field(
        default=True,
        description="Whether a passage is embedded in view of its document. False, each by its own text: to "
        "see what context brings.",
    )
    overlap_tokens: int = Field(
        default=1000,
        ge=0,
        le=8000,
        description="How much a part of a very long document sees of its neighbours, on each side.",
    )

    @property
    def limits(self) -> EmbedLimits:
        """The services'."""
        return models.limits(contextual=self.contextual)

    @property
    def grouping(self) -> Grouping:
        """Without a lead: the embedder reads the title anyway."""
        return Grouping(overlap_tokens=self.overlap_tokens, lead=Lead.NONE)


EmbeddingSettings: TypeAlias = Annotated[
    LocalEmbedding | PerplexityEmbedding | OpenRouterEmbedding, OneOf("provider", default="local")
]
"""The settings of any embedder, told apart by `provider`."""

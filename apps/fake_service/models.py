"""The models that the stand-in serves, and the limits of the endpoint that each is served at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

CONTEXTUAL = "/v1/contextualizedembeddings"
STANDARD = "/v1/embeddings"
OPENROUTER = "/api/v1/embeddings"
OPENROUTER_MODELS = "/api/v1/embeddings/models"
STATS = "/stats"

MOST_DOCUMENTS = 512
"""Of one request: documents for the contextual endpoint, texts for the others."""
MOST_CHUNKS = 16_000
MOST_DOCUMENT_TOKENS = 32_000
"""What "32K" is at the least."""
MOST_TOKENS = 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model, as its service documents it."""

    name: str
    path: str
    """The endpoint that serves it."""
    least_dimensions: int = 128
    most_dimensions: int
    """Also what it gives when not asked for fewer."""
    context_tokens: int = MOST_DOCUMENT_TOKENS
    """The most that one document, or one text, may have."""
    usd_per_million_tokens: float


MODELS = (
    Model(
        name="pplx-embed-context-v1-0.6b", path=CONTEXTUAL, most_dimensions=1024, usd_per_million_tokens=0.008
    ),
    Model(
        name="pplx-embed-context-v1-4b", path=CONTEXTUAL, most_dimensions=2560, usd_per_million_tokens=0.05
    ),
    Model(name="pplx-embed-v1-0.6b", path=STANDARD, most_dimensions=1024, usd_per_million_tokens=0.004),
    Model(name="pplx-embed-v1-4b", path=STANDARD, most_dimensions=2560, usd_per_million_tokens=0.03),
    Model(
        name="perplexity/pplx-embed-v1-4b",
        path=OPENROUTER,
        most_dimensions=2560,
        usd_per_million_tokens=0.03,
    ),
    Model(
        name="qwen/qwen3-embedding-4b",
        path=OPENROUTER,
        least_dimensions=32,  # its model card: any number from 32 to 2560
        most_dimensions=2560,
        context_tokens=32_768,
        usd_per_million_tokens=0.02,
    ),
)
"""https://docs.perplexity.ai/docs/embeddings and https://openrouter.ai/models, 2026."""


def by_name(models: tuple[Model, ...], path: str) -> Mapping[str, Model]:
    """Those that one endpoint serves."""
    return MappingProxyType({model.name: model for model in models if model.path == path})

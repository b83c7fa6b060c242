"""What the services document of their embedding models, and the limits that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.records import EmbedLimits

LOCAL, PERPLEXITY, OPENROUTER = "local", "perplexity", "openrouter"
"""The providers, as the settings name them."""

REQUEST_TOKENS = 120_000
"""In all, of one request."""
REQUEST_TEXTS = 512
"""Documents of one request where the model is contextual, texts where it is not."""
REQUEST_CHUNKS = 16_000
"""In all, of one request to a contextual model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of a model."""

    provider: str
    name: str
    contextual: bool
    """Whether it reads the chunks of a document together."""
    least_dimensions: int
    most_dimensions: int
    """Also what it gives when not asked for fewer. Both 0 if not told."""
    max_tokens: int
    """Of a document, or of a text if it is not contextual. 0 where a listing does not tell."""
    usd_per_million_tokens: float | None
    """None where a listing does not tell."""


LOCAL_MODEL = ModelInfo(
    provider=LOCAL,
    name="docweave-static-1",
    contextual=True,
    least_dimensions=1024,
    most_dimensions=1024,
    max_tokens=32_000,
    usd_per_million_tokens=0.0,
)
"""The model's number goes up with whatever changes a vector: weights, words, how its parts are weighed."""


def _perplexity(name: str, most_dimensions: int, usd_per_million_tokens: float) -> ModelInfo:
    return ModelInfo(
        provider=PERPLEXITY,
        name=name,
        contextual="-context-" in name,
        least_dimensions=128,
        most_dimensions=most_dimensions,
        max_tokens=32_000,  # "32K", which is not said to be 32,768
        usd_per_million_tokens=usd_per_million_tokens,
    )


_KNOWN = (
    LOCAL_MODEL,
    # https://docs.perplexity.ai/docs/embeddings, 2026
    _perplexity("pplx-embed-context-v1-0.6b", 1024, 0.008),
    _perplexity("pplx-embed-context-v1-4b", 2560, 0.05),
    _perplexity("pplx-embed-v1-0.6b", 1024, 0.004),
    _perplexity("pplx-embed-v1-4b", 2560, 0.03),
    # https://openrouter.ai/models?output_modalities=embeddings, 2026
    ModelInfo(
        provider=OPENROUTER,
        name="perplexity/pplx-embed-v1-4b",
        contextual=False,
        least_dimensions=128,
        most_dimensions=2560,
        max_tokens=32_000,
        usd_per_million_tokens=0.03,
    ),
    ModelInfo(
        provider=OPENROUTER,
        name="qwen/qwen3-embedding-4b",
        contextual=False,
        least_dimensions=32,  # https://huggingface.co/Qwen/Qwen3-Embedding-4B
        most_dimensions=2560,
        max_tokens=32_768,
        usd_per_million_tokens=0.02,
    ),
)


def known_models() -> tuple[ModelInfo, ...]:
    """Every model whose dimensions, limits and price are known here."""
    return _KNOWN


def models_of(provider: str) -> Mapping[str, ModelInfo]:
    """Those of one provider, by name."""
    return MappingProxyType({model.name: model for model in _KNOWN if model.provider == provider})


def others_than(name: str) -> frozenset[str]:
    """What other known models are called, as `bare` has it: none of them makes vectors of this one."""
    return frozenset(bare(model.name) for model in _KNOWN) - {bare(name)}


def bare(name: str) -> str:
    """The model's name without its maker's, in lower case: a router may tell it as the upstream spells it."""
    return name.rpartition("/")[2].lower()


def limits(
    *,
    contextual: bool,
    max_tokens: int = 32_000,
    request_tokens: int = REQUEST_TOKENS,
    request_texts: int = REQUEST_TEXTS,
) -> EmbedLimits:
    """The limits to keep to by our own count: about 3 % below what is documented.

    The service's count need not be ours (the samples in Perplexity's documentation differ). What is refused
    all the same comes back as RequestTooLarge.

    Args:
        contextual: Whether the model reads the chunks of a document together.
        max_tokens: The most that a document, or a text, may have by the service's count.
        request_tokens: The most that a request may have.
        request_texts: Documents, or texts, in a request.
    """
    request = request_tokens * 23 // 24
    return EmbedLimits(
        group_tokens=min(max_tokens * 31 // 32, request),
        group_chunks=REQUEST_CHUNKS if contextual else 1,
        request_tokens=request,
        request_groups=request_texts,
        # A lead counts as a part; without context it is sent in front of its chunk, in one text.
        request_chunks=REQUEST_CHUNKS if contextual else 2 * request_texts,
    )

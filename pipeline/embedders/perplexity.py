"""Perplexity's contextualized embeddings, and compatible servers under the same path.

https://docs.perplexity.ai/api-reference/contextualized-embeddings-post
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import InputRefused, ServiceUnavailable
from pipeline.records import (
    EmbeddingSpace,
    EmbedGroup,
    EmbedLimits,
    EmbedReply,
    EmbedRequest,
    JsonValue,
    Vector,
    Vectors,
)

if TYPE_CHECKING:
    import httpx

    from pipeline.embedders._http import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """What the service documents of a model."""

    name: str
    least_dimensions: int
    most_dimensions: int
    """Also what it gives when not asked for fewer."""
    usd_per_million_tokens: float


MODELS: Mapping[str, KnownModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            KnownModel(
                name="pplx-embed-context-v1-0.6b",
                least_dimensions=128,
                most_dimensions=1024,
                usd_per_million_tokens=0.008,
            ),
            KnownModel(
                name="pplx-embed-context-v1-4b",
                least_dimensions=128,
                most_dimensions=2560,
                usd_per_million_tokens=0.05,
            ),
        )
    }
)
"""The contextual models by name (https://docs.perplexity.ai/docs/embeddings, 2026)."""

LIMITS = EmbedLimits(
    group_tokens=31_000,
    group_chunks=16_000,
    request_tokens=115_000,
    request_groups=512,
    request_chunks=16_000,
)
"""Below the documented 32K tokens a document and 120,000 a request.

The service's own count need not be ours (the samples in its documentation differ), and it does not say
whether 32K is 32,000 or 32,768. What is refused all the same comes back as RequestTooLarge.
"""

_PATH = "/v1/contextualizedembeddings"
_QUESTION_SECONDS = 20.0  # somebody is waiting

_SEPARATOR = "<|endoftext|>"
_HARMLESS = "<| endoftext |>"


class PerplexityEmbedder:
    """Embeds the chunks of a group in view of each other. Vectors are int8 codes, not normalised."""

    def __init__(  # noqa: PLR0913 - what the settings say, by name
        self,
        *,
        model: str,
        dimensions: int,
        api_key: str,
        base_url: str = "https://api.perplexity.ai",
        timeout_seconds: float = 120,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Opens no connection yet.

        Args:
            model: One of `MODELS`, or what a compatible server calls its own (then without a price).
            dimensions: Within the model's range.
            api_key: May be empty, for a server that asks for none.
            base_url: Of the service, without the path.
            timeout_seconds: How long the fullest request may take to be answered; a small one a quarter.
            transport: In place of the network, for tests.
            patience: How long to retry.

        Raises:
            SettingsError: the address is none, or the key cannot stand in a header.
        """
        # httpx takes 0.2 s to import; the settings read MODELS without it.
        from pipeline.embedders._http import Account, JsonService  # noqa: PLC0415

        account = Account(
            service="Perplexity", base_url=base_url, api_key=api_key, key_name="PERPLEXITY_API_KEY"
        )
        self._service = JsonService(
            account, timeout_seconds=timeout_seconds, transport=transport, patience=patience
        )
        self._space = EmbeddingSpace(
            provider="perplexity", model=model, dimensions=dimensions, encoding="int8"
        )

    @property
    def space(self) -> EmbeddingSpace:
        """What its vectors may be compared with."""
        return self._space

    @property
    def limits(self) -> EmbedLimits:
        """What one request may hold."""
        return LIMITS

    @property
    def usd_per_million_tokens(self) -> float:
        """The list price; 0 for a model that has none."""
        known = MODELS.get(self._space.model)
        return known.usd_per_million_tokens if known else 0.0

    @property
    def recipe(self) -> str:
        """Nothing beside space and limits."""
        return ""

    def reads(self, group: EmbedGroup) -> list[str]:
        """The strings that are sent for the group: its chunks' texts, without what cannot be sent.

        A literal separator would end the chunk for the model, and shift every vector after it; NUL and lone
        surrogates do not pass through JSON or tokenizers. Both are replaced by what reads alike. What is
        stored keeps them.
        """
        return [_sendable(chunk.text) for chunk in group.chunks]

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        """One int8 array of shape (chunks, dimensions) for each group, in order.

        Raises:
            InputRefused: a chunk is blank (nothing was sent), or the service will not embed what was sent.
            EmbedError: as `JsonService.post`.
        """
        for group in request.groups:
            _check(group)
        return await self._embed([self.reads(group) for group in request.groups], request.tokens)

    async def embed_query(self, text: str) -> Vector:
        """The question as a document of one chunk, by the same contextual model: int8, (dimensions,).

        Raises:
            InputRefused: the question is blank.
            EmbedError: as `JsonService.post`.
        """
        if not text.strip():
            raise InputRefused("the question is blank: there is nothing to embed")
        reply = await self._embed([[_sendable(text)]], 0, within=_QUESTION_SECONDS)
        vector: Vector = reply.vectors[0][0]
        return vector

    async def aclose(self) -> None:
        """Close the connections."""
        await self._service.aclose()

    async def _embed(self, texts: list[list[str]], tokens: int, *, within: float | None = None) -> EmbedReply:
        """`tokens` is our own count of them, for a service that does not tell its own."""
        space = self._space
        body: dict[str, JsonValue] = {
            "input": [list(group) for group in texts],
            "model": space.model,
            "dimensions": space.dimensions,
            "encoding_format": "base64_int8",
        }
        shape = [len(group) for group in texts]
        (vectors, usage), retries = await self._service.post(
            _PATH,
            body,
            lambda reply: _read(reply, shape, space),
            fullness=tokens / LIMITS.request_tokens,
            within=within,
        )
        tokens = usage.tokens or tokens
        cost = tokens * self.usd_per_million_tokens / 1e6 if usage.cost_usd is None else usage.cost_usd
        return EmbedReply(vectors=vectors, tokens=tokens, cost_usd=cost, retries=retries)


def _check(group: EmbedGroup) -> None:
    if not group.chunks:
        raise InputRefused(f"{group.title!r} has a group without chunks: there is nothing to embed")
    for chunk in group.chunks:
        if not chunk.text.strip():
            raise InputRefused(
                f"chunk {chunk.ordinal} of {group.title!r} is blank: there is nothing to embed"
            )


def _sendable(text: str) -> str:
    text = text.replace(_SEPARATOR, _HARMLESS).replace("\x00", "\ufffd")
    # There and back: pairs of surrogates become their character, lone ones U+FFFD.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Usage:
    tokens: int | None
    cost_usd: float | None


def _read(
    reply: JsonValue, shape: Sequence[int], space: EmbeddingSpace
) -> tuple[tuple[Vectors, ...], _Usage]:
    """The vectors of a reply: every document and chunk in its place, none missing.

    Every field of the reply is optional by its documentation, so nothing is taken for granted.

    Raises:
        ServiceUnavailable: it does not add up.
    """
    fields = _fields(reply)
    model = fields.get("model")
    if isinstance(model, str) and model in MODELS and model != space.model:
        raise _mismatch("vectors", f"model {space.model}", f"model {model}")
    documents = _placed(fields.get("data"), len(shape), "the reply")
    vectors = tuple(
        _document(document, chunks, f"document {place}", space.dimensions)
        for place, (document, chunks) in enumerate(zip(documents, shape, strict=True))
    )
    return vectors, _usage(fields.get("usage"))


def _document(document: Mapping[str, JsonValue], chunks: int, where: str, dimensions: int) -> Vectors:
    vectors = np.empty((chunks, dimensions), dtype=np.int8)
    for place, item in enumerate(_placed(document.get("data"), chunks, where)):
        vectors[place] = _codes(item.get("embedding"), dimensions, f"chunk {place} of {where}")
    zeros = np.flatnonzero(~vectors.any(axis=1))
    if len(zeros):
        raise _mismatch(f"chunk {zeros[0]} of {where}", "a vector", "all zeros")
    return vectors


def _placed(items: JsonValue, count: int, where: str) -> list[Mapping[str, JsonValue]]:
    """The items in the order of their `index`, each place taken once."""
    if not isinstance(items, list) or len(items) != count:
        came = f"{len(items)}" if isinstance(items, list) else "none"
        raise _mismatch(where, f"{count} items", came)
    places: dict[int, Mapping[str, JsonValue]] = {}
    for item in map(_fields, items):
        index = item.get("index")
        if index is None and count == 1:
            index = 0  # there is one place to take
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count or index in places:
            shown = repr(index) if isinstance(index, int) else type(index).__name__
            raise _mismatch(
                where, f"each index from 0 to {count - 1} once", f"{shown} after {len(places)} items"
            )
        places[index] = item
    return [places[index] for index in range(count)]


def _codes(embedding: JsonValue, dimensions: int, where: str) -> Vector:
    if not isinstance(embedding, str):
        raise _mismatch(where, "base64", type(embedding).__name__)
    try:
        data = binascii.a2b_base64(embedding, strict_mode=True)
    except ValueError as error:
        raise _mismatch(where, "base64", str(error)) from error
    if len(data) != dimensions:
        raise _mismatch(where, f"{dimensions} bytes", f"{len(data)} bytes")
    return np.frombuffer(data, dtype=np.int8)


def _usage(usage: JsonValue) -> _Usage:
    fields = _fields(usage)
    tokens = _amount(fields.get("prompt_tokens")) or _amount(fields.get("total_tokens"))
    cost = _fields(fields.get("cost"))
    in_usd = cost.get("currency", "USD") == "USD"
    return _Usage(
        tokens=round(tokens) if tokens else None,
        cost_usd=_amount(cost.get("total_cost")) if in_usd else None,
    )


def _amount(value: JsonValue) -> float | None:
    """A number that can be counted with; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _fields(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _mismatch(where: str, expected: str, came: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"Perplexity's reply does not add up: {where}: expected {expected}, came {came}"
    )

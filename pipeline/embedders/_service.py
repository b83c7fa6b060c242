"""Embeds groups by an endpoint of a service: what Perplexity's and OpenRouter's have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.embedders import _texts
from pipeline.embedders._reply import ENCODINGS, Asked, Format, Usage, fields, usage
from pipeline.errors import EmbedError, InputRefused, ServiceUnavailable
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
    from pipeline.embedders._http import JsonService

_QUESTION_SECONDS = 20.0  # somebody is waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How a service is asked for the vectors of one model."""

    service: str
    """As people call it, for messages."""
    provider: str
    """As the settings name it."""
    path: str
    """Below the service's address."""
    model: str
    dimensions: int
    encoding_format: Format
    contextual: bool
    limits: EmbedLimits
    usd_per_million_tokens: float
    fields: Mapping[str, JsonValue] = field(default_factory=dict)
    """What every request says beside input, model and encoding."""
    document_fields: Mapping[str, JsonValue] = field(default_factory=dict)
    """What is said with documents alone. Their vectors depend on it."""
    question_fields: Mapping[str, JsonValue] = field(default_factory=dict)
    question: Callable[[str], str] = str
    """How a question is put."""


class ServiceEmbedder:
    """Embeds groups as an endpoint does. Satisfies `pipeline.protocols.Embedder`.

    A contextual endpoint is sent each group as one document: its lead, the chunks before, its own, those
    after; its own chunks' vectors are kept. Any other is sent each chunk as a text, with the lead before it.
    """

    def __init__(self, endpoint: Endpoint, service: JsonService) -> None:
        """`service` is where the endpoint is; it is closed with the embedder."""
        self._endpoint = endpoint
        self._service = service
        self._space = EmbeddingSpace(
            provider=endpoint.provider,
            model=endpoint.model,
            dimensions=endpoint.dimensions,
            encoding=ENCODINGS[endpoint.encoding_format],
        )
        self._marks = [f"{name}={value}" for name, value in sorted(endpoint.document_fields.items())]

    @property
    def space(self) -> EmbeddingSpace:
        """What its vectors may be compared with."""
        return self._space

    @property
    def limits(self) -> EmbedLimits:
        """What one request may hold: also no more than may be sent in a minute, if a group allows it."""
        limits, most = self._endpoint.limits, self._service.tokens_per_minute
        return limits if most is None else replace(limits, request_tokens=min(limits.request_tokens, most))

    @property
    def usd_per_million_tokens(self) -> float:
        """The list price, or the settings'; 0 for a model that has none."""
        return self._endpoint.usd_per_million_tokens

    @property
    def recipe(self) -> str:
        """How texts are written for sending, and what is said with documents."""
        return " ".join([_texts.VERSION, *self._marks])

    def reads(self, group: EmbedGroup) -> list[str]:
        """What is said with documents, then the texts that are sent for the group, in their order."""
        return [*self._marks, *self._texts(group)]

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        """One array of shape (chunks, `space.width`) for each group, in order.

        Raises:
            InputRefused: a chunk is blank (nothing was sent), or the service will not embed what was sent.
            EmbedError: as `JsonService.post`.
        """
        for group in request.groups:
            _texts.check(group)
        texts = [self._texts(group) for group in request.groups]
        reply = await self._ask(texts, self._endpoint.document_fields, request.tokens)
        if not self._endpoint.contextual:
            return reply
        vectors = zip(request.groups, reply.vectors, strict=True)
        return EmbedReply(
            vectors=tuple(each[_texts.kept(group)] for group, each in vectors),
            tokens=reply.tokens,
            cost_usd=reply.cost_usd,
            retries=reply.retries,
            wasted_tokens=reply.wasted_tokens,
            wasted_usd=reply.wasted_usd,
        )

    async def embed_query(self, text: str) -> Vector:
        """The question by the same model, shape (`space.width`,). Contextual: as a document of one chunk.

        Raises:
            InputRefused: the question is blank.
            EmbedError: as `JsonService.post`.
        """
        if not text.strip():
            raise InputRefused("the question is blank: there is nothing to embed")
        asked = [[_texts.sendable(self._endpoint.question(text))]]
        reply = await self._ask(asked, self._endpoint.question_fields, 0, within=_QUESTION_SECONDS)
        vector: Vector = reply.vectors[0][0]
        return vector

    async def aclose(self) -> None:
        """Close the connections."""
        await self._service.aclose()

    def _texts(self, group: EmbedGroup) -> list[str]:
        return _texts.document(group) if self._endpoint.contextual else _texts.alone(group)

    async def _ask(
        self,
        texts: list[list[str]],
        more: Mapping[str, JsonValue],
        tokens: int,
        *,
        within: float | None = None,
    ) -> EmbedReply:
        """`tokens` is our own count of them, for a service that does not tell its own."""
        endpoint = self._endpoint
        asked = Asked(
            service=endpoint.service,
            space=self._space,
            shape=[len(group) for group in texts],
            contextual=endpoint.contextual,
        )
        nested: list[JsonValue] = [[*group] for group in texts]
        flat: list[JsonValue] = [text for group in texts for text in group]
        body: dict[str, JsonValue] = {
            "input": nested if endpoint.contextual else flat,
            "model": endpoint.model,
            "encoding_format": endpoint.encoding_format,
            **endpoint.fields,
            **more,
        }
        wasted: list[tuple[int, float]] = []

        def read(reply: JsonValue) -> tuple[tuple[Vectors, ...], Usage]:
            try:
                return asked.read(reply)
            except ServiceUnavailable:  # it is asked for again, and may have been paid for all the same
                wasted.append(self._charged(usage(fields(reply).get("usage")), 0))
                raise

        try:
            (vectors, told), retries = await self._service.post(
                endpoint.path,
                body,
                read,
                tokens=tokens,
                fullness=tokens / endpoint.limits.request_tokens,
                within=within,
            )
        except EmbedError as error:
            error.wasted_tokens, error.wasted_usd = _sums(wasted)
            raise
        tokens, cost = self._charged(told, tokens)
        wasted_tokens, wasted_usd = _sums(wasted)
        return EmbedReply(
            vectors=vectors,
            tokens=tokens,
            cost_usd=cost,
            retries=retries,
            wasted_tokens=wasted_tokens,
            wasted_usd=wasted_usd,
        )

    def _charged(self, told: Usage, counted: int) -> tuple[int, float]:
        """Tokens and dollars, as the service tells them, or else by our count and the list price."""
        tokens = told.tokens or counted
        by_list = tokens * self._endpoint.usd_per_million_tokens / 1e6
        return tokens, by_list if told.cost_usd is None else told.cost_usd


def _sums(charged: Sequence[tuple[int, float]]) -> tuple[int, float]:
    return sum(tokens for tokens, _ in charged), sum(usd for _, usd in charged)

"""The parts of a run, with a span around what each does: only where traces are on.

Wrapped from outside, so that no stage knows of it: whatever else a part has is the part's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from pipeline import telemetry
from pipeline.protocols import Embedder, Parser, Store
from pipeline.telemetry import Stage

if TYPE_CHECKING:
    from pipeline.prepare import Pipeline
    from pipeline.records import (
        Document,
        DocumentState,
        Embedded,
        EmbedReply,
        EmbedRequest,
        RawDocument,
        Vector,
        Vectors,
    )

Part = TypeVar("Part", Parser, Embedder, Store)


@dataclass(slots=True, frozen=True)
class _Around(Generic[Part]):
    """A part, but for the calls that have a span."""

    part: Part

    def __getattr__(self, name: str) -> object:
        return getattr(self.part, name)


@dataclass(slots=True, frozen=True)
class _Parser(_Around[Parser]):
    stage: Stage

    async def parse(self, raw: RawDocument) -> Document:
        with self.stage.call():
            return await self.part.parse(raw)


class _Embedder(_Around[Embedder]):
    async def embed(self, request: EmbedRequest) -> EmbedReply:
        space = self.part.space
        with telemetry.span("embed", provider=space.provider, model=space.model) as notes:
            notes.set(groups=len(request.groups), tokens_counted=request.tokens)
            notes.set(chunks=sum(len(group.chunks) for group in request.groups))
            reply = await self.part.embed(request)
            notes.set(tokens=reply.tokens, cost_usd=reply.cost_usd, retries=reply.retries)
            return reply

    async def embed_query(self, text: str) -> Vector:
        space = self.part.space
        with telemetry.span("embed question", provider=space.provider, model=space.model):
            return await self.part.embed_query(text)


class _Store(_Around[Store]):
    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        with telemetry.span("journal", groups=len(vectors)):
            await self.part.journal(vectors)

    async def replace(self, documents: Sequence[Embedded]) -> None:
        with telemetry.span("write", documents=len(documents)) as notes:
            notes.set(chunks=sum(len(vectors) for one in documents for vectors in one.vectors))
            await self.part.replace(documents)

    async def touch(self, states: Sequence[DocumentState]) -> None:
        with telemetry.span("write marks", documents=len(states)):
            await self.part.touch(states)

    async def remove(self, source: str, keys: Sequence[str]) -> None:
        with telemetry.span("remove", documents=len(keys)):
            await self.part.remove(source, keys)

    async def upkeep(self) -> None:
        with telemetry.span("upkeep"):
            await self.part.upkeep()


def traced(pipeline: Pipeline, parsing: Stage) -> Pipeline:
    """The same pipeline, with spans; itself, where traces are off. `parsing` is to be ended by the caller."""
    if not telemetry.is_on():
        return pipeline
    return replace(
        pipeline,
        parser=cast("Parser", _Parser(pipeline.parser, parsing)),
        embedder=traced_embedder(pipeline.embedder),
        store=cast("Store", _Store(pipeline.store)),
    )


def traced_embedder(embedder: Embedder) -> Embedder:
    """The same embedder, with spans; itself, where traces are off."""
    return cast("Embedder", _Embedder(embedder)) if telemetry.is_on() else embedder

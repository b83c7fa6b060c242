"""Some of the stored groups, embedded again: do their vectors come out bit for bit as they are stored?"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.budget import Budget
from pipeline.errors import EmbedError, Recovery, SettingsError
from pipeline.examine import ProvenGroup, Treatment, examine
from pipeline.findings import Finding, Kind
from pipeline.pack import Packer
from pipeline.protocols import Embedder, Reader
from pipeline.records import EmbedReply, EmbedRequest, Vectors

TOGETHER = 64
"""Documents of the sample that are read and embedded together."""


@dataclass(slots=True, kw_only=True)
class Sampled:
    """What came of embedding groups again."""

    groups: int = 0
    alike: int = 0
    """Bit for bit."""
    refused: list[str] = field(default_factory=list)
    """Why groups could not be embedded."""
    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(slots=True)
class Sample:
    """As many groups as are asked for, of all that are offered: always the same ones for the same seed.

    Which ones depends on the seed and on each group's own digest alone. Groups of one digest, in several
    documents, are one.
    """

    size: int
    seed: int
    _chosen: list[tuple[int, str, str, str]] = field(default_factory=list)
    """Mark (negated: the largest goes first), digest, source, key."""
    _digests: set[str] = field(default_factory=set)

    def offer(self, source: str, key: str, group_key: str) -> None:
        """A group that may be chosen."""
        if not self.size or group_key in self._digests:
            return
        seeded = hashlib.blake2b(f"{self.seed}/{group_key}".encode(), digest_size=8).digest()
        one = (-int.from_bytes(seeded), group_key, source, key)
        if len(self._chosen) < self.size:
            heapq.heappush(self._chosen, one)
        elif one > self._chosen[0]:
            self._digests.discard(heapq.heapreplace(self._chosen, one)[1])
        else:
            return
        self._digests.add(group_key)

    def by_source(self) -> dict[str, dict[str, set[str]]]:
        """The digests that were chosen, by source and document."""
        chosen: dict[str, dict[str, set[str]]] = {}
        for _, group_key, source, key in sorted(self._chosen, key=lambda one: one[2:]):
            chosen.setdefault(source, {}).setdefault(key, set()).add(group_key)
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A chosen group, and the document that it was read from."""

    source: str
    key: str
    stored: ProvenGroup


async def embed_again(
    sample: Sample, reader: Reader, treatment: Treatment, budget: Budget, sampled: Sampled
) -> AsyncIterator[Finding]:
    """Embed the chosen groups, and give a finding for each whose vectors are not as they are stored.

    Raises:
        SettingsError: the budget does not hold what the sample costs; nothing was paid for it then.
        StoreError: the tables cannot be read.
        EmbedError: the service works for nothing.
    """
    embedder = treatment.embedder
    for source, documents in sample.by_source().items():
        keys = list(documents)
        for start in range(0, len(keys), TOGETHER):
            places = [
                _Place(source=source, key=stored.key, stored=group)
                async for stored in reader.stored(source, keys[start : start + TOGETHER])
                for group in _first_of_each(examine(stored, treatment).proven)
                if group.key in documents[stored.key]
            ]
            async for place, vectors in _embedded(places, embedder, budget, sampled):
                if finding := _compared(place, vectors, sampled):
                    yield finding


def _first_of_each(groups: Sequence[ProvenGroup]) -> list[ProvenGroup]:
    return list({group.key: group for group in reversed(groups)}.values())


def _compared(place: _Place, vectors: Vectors, sampled: Sampled) -> Finding | None:
    sampled.groups += 1
    stored = place.stored.vectors
    if np.array_equal(stored, vectors.astype(stored.dtype)):
        sampled.alike += 1
        return None
    differing = int((stored != vectors.astype(stored.dtype)).any(axis=1).sum())
    cosine = min(map(_cosine, stored, vectors))
    chunks = place.stored.group.chunks
    return Finding(
        kind=Kind.EMBEDDING,
        source=place.source,
        key=place.key,
        reason=f"chunks {chunks[0].ordinal} to {chunks[-1].ordinal}, embedded again: {differing} of "
        f"{len(chunks)} vectors came out otherwise; the cosine is {cosine:.6f} or more",
        cosine=cosine,
    )


def _cosine(one: Vectors, other: Vectors) -> float:
    """Of two vectors; of bits, as signs: 1 - 2 x the share that differs."""
    if one.dtype == np.uint8:
        differing = int(np.bitwise_count(one.astype(np.uint8) ^ other.astype(np.uint8)).sum())
        return 1 - differing / (4 * one.size)
    a, b = one.astype(np.float64), other.astype(np.float64)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return min(1.0, float(a @ b) / length) if length else 0.0


async def _embedded(
    places: Sequence[_Place], embedder: Embedder, budget: Budget, sampled: Sampled
) -> AsyncIterator[tuple[_Place, Vectors]]:
    """The groups with their new vectors. One that is refused is told, and left out."""
    packer = Packer(embedder.limits)
    of_group = {place.stored.group: place for place in places}
    requests = [request for group in of_group if (request := packer.add(group))]
    waiting = [*requests, *packer.flush()]
    while waiting:
        request = waiting.pop(0)
        try:
            reply = await _paid(request, embedder, budget, sampled)
        except EmbedError as error:
            if error.recovery not in (Recovery.SPLIT, Recovery.SKIP):
                raise
            if len(request.groups) > 1:
                waiting = [EmbedRequest(groups=(group,)) for group in request.groups] + waiting
            else:
                place = of_group[request.groups[0]]
                sampled.refused.append(f"{place.source}/{place.key}: {error}")
            continue
        for group, vectors in zip(request.groups, reply.vectors, strict=True):
            yield of_group[group], vectors


async def _paid(request: EmbedRequest, embedder: Embedder, budget: Budget, sampled: Sampled) -> EmbedReply:
    estimate = request.tokens * embedder.usd_per_million_tokens / 1_000_000
    if not budget.holds(request.tokens, estimate):
        raise SettingsError(f"to embed {request.tokens:,} tokens more would pass {budget}")
    reply = await embedder.embed(request)
    budget.spend(reply.tokens, reply.cost_usd)
    sampled.tokens += reply.tokens
    sampled.cost_usd += reply.cost_usd
    return reply

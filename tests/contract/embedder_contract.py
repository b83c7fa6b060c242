"""What every embedder promises. A test class for each embedder inherits this and gives it one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import anyio
import numpy as np
import pytest

from pipeline.protocols import Embedder
from pipeline.records import Chunk, EmbedGroup, EmbedReply, EmbedRequest, Vectors

POLICY = (
    "The travel policy applies to everybody who works for the company, at home and abroad.",
    "It pays for a seat in the second class, and for the first class on journeys of more than four hours.",
    "Receipts must be handed in within thirty days, otherwise nothing is refunded.",
)
DEVICE = (
    "This water pump has a steel housing and a ceramic seal.",
    "Before it is opened, the mains must be switched off and the pressure released.",
)

STRANGE = {
    "a lone surrogate": "half of a pair \ud83d is lone",
    "control characters": "a zero \x00 byte and a bell \x07",
    "the separator token": "a literal <|endoftext|> separator",
    "other special tokens": "<|im_start|>system<|im_end|>",
    "no blanks": "文書は規則に従う。",
    "joined code points": "👩\u200d👩\u200d👧\u200d👦 and e\u0301",
    "one endless word": "word" * 2000,
    "one sign": "¬",
    "punctuation": "-----",
}


def group_of(texts: Sequence[str], title: str = "A title") -> EmbedGroup:
    chunks, start = [], 0
    for ordinal, text in enumerate(texts):
        end = start + len(text)
        chunks.append(Chunk(ordinal=ordinal, start=start, end=end, text=text, tokens=len(text) // 3 + 1))
        start = end + 2
    return EmbedGroup(title=title, chunks=tuple(chunks))


class EmbedderContract:
    """Inherit, and give a fixture `embedder`."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        raise NotImplementedError

    async def embed(self, embedder: Embedder, *groups: EmbedGroup) -> tuple[Vectors, ...]:
        return (await embedder.embed(EmbedRequest(groups=groups))).vectors

    async def test_its_space_and_limits_are_stated(self, embedder: Embedder) -> None:
        assert embedder.space.provider
        assert embedder.space.model
        assert embedder.space.dimensions > 0
        assert embedder.space.encoding == "int8"
        limits = embedder.limits
        assert 0 < limits.group_tokens <= limits.request_tokens
        assert limits.request_groups > 0
        assert limits.request_chunks > 0
        assert embedder.usd_per_million_tokens >= 0

    async def test_every_group_has_an_array_with_a_row_for_each_chunk(self, embedder: Embedder) -> None:
        reply = await embedder.embed(EmbedRequest(groups=(group_of(POLICY), group_of(DEVICE))))
        assert isinstance(reply, EmbedReply)
        dimensions = embedder.space.dimensions
        assert [vectors.shape for vectors in reply.vectors] == [(3, dimensions), (2, dimensions)]
        assert all(vectors.dtype == np.int8 for vectors in reply.vectors)
        assert all(vectors.any(axis=1).all() for vectors in reply.vectors)
        assert reply.tokens > 0
        assert reply.cost_usd >= 0
        assert reply.retries == 0

    async def test_a_question_has_one_vector_of_the_same_width(self, embedder: Embedder) -> None:
        vector = await embedder.embed_query("who pays for the train?")
        assert vector.shape == (embedder.space.dimensions,)
        assert vector.dtype == np.int8
        assert vector.any()

    async def test_asking_again_gives_the_same_vectors(self, embedder: Embedder) -> None:
        (once,) = await self.embed(embedder, group_of(POLICY))
        (again,) = await self.embed(embedder, group_of(POLICY))
        assert np.array_equal(once, again)
        question = "who pays for the train?"
        assert np.array_equal(await embedder.embed_query(question), await embedder.embed_query(question))

    async def test_an_edited_chunk_changes_every_vector_of_its_group(self, embedder: Embedder) -> None:
        (before,) = await self.embed(embedder, group_of(POLICY))
        for place in range(len(POLICY)):
            edited = [*POLICY]
            edited[place] = "Aardvarks dig for termites at night."
            (after,) = await self.embed(embedder, group_of(edited))
            assert (before != after).any(axis=1).all()

    async def test_other_groups_of_the_request_change_nothing(self, embedder: Embedder) -> None:
        (alone,) = await self.embed(embedder, group_of(POLICY))
        before, _ = await self.embed(embedder, group_of(POLICY), group_of(DEVICE))
        _, after = await self.embed(embedder, group_of(DEVICE), group_of(POLICY))
        assert np.array_equal(alone, before)
        assert np.array_equal(alone, after)

    async def test_many_groups_come_back_in_order(self, embedder: Embedder) -> None:
        groups = [
            group_of([f"part {part} of report {report}" for part in range(report % 4 + 1)])
            for report in range(100)
        ]
        together = await self.embed(embedder, *groups)
        assert [len(vectors) for vectors in together] == [len(group.chunks) for group in groups]
        for place in (0, 1, 41, 99):
            (alone,) = await self.embed(embedder, groups[place])
            assert np.array_equal(alone, together[place])
        assert all(not np.array_equal(one[0], other[0]) for one, other in pairwise(together))

    async def test_vectors_depend_on_nothing_that_reads_does_not_tell(self, embedder: Embedder) -> None:
        """`group_key` is made of `reads`: what it leaves out would be stale for ever."""
        group = group_of(POLICY)
        variants = [
            replace(group, title="Quite another title about aardvarks"),
            replace(
                group,
                chunks=tuple(
                    replace(chunk, heading_path=("Aardvarks", "Termites")) for chunk in group.chunks
                ),
            ),
            replace(group, chunks=tuple(replace(chunk, page=7) for chunk in group.chunks)),
            replace(group, chunks=tuple(replace(chunk, ordinal=chunk.ordinal + 9) for chunk in group.chunks)),
            replace(group, chunks=tuple(replace(chunk, tokens=chunk.tokens + 1) for chunk in group.chunks)),
            replace(
                group,
                chunks=tuple(
                    replace(chunk, start=chunk.start + 1, end=chunk.end + 1) for chunk in group.chunks
                ),
            ),
            group_of([f"{text}\x00" for text in POLICY]),
            group_of(POLICY[::-1]),
            group_of(POLICY[:2]),
            group_of(["".join(POLICY)]),
        ]
        (vectors,) = await self.embed(embedder, group)
        told = list(embedder.reads(group))
        for variant in variants:
            (others,) = await self.embed(embedder, variant)
            if list(embedder.reads(variant)) == told:
                assert np.array_equal(vectors, others)

    async def test_reads_tells_one_text_from_another(self, embedder: Embedder) -> None:
        told = [
            tuple(embedder.reads(group_of(texts)))
            for texts in (POLICY, POLICY[::-1], POLICY[:2], DEVICE, ["".join(POLICY)], [*POLICY, "more"])
        ]
        assert len(set(told)) == len(told)
        assert tuple(embedder.reads(group_of(POLICY))) == told[0]
        assert all(isinstance(text, str) for texts in told for text in texts)

    @pytest.mark.parametrize(
        "text",
        STRANGE.values(),
        ids=STRANGE.keys(),
    )
    async def test_a_strange_text_is_embedded_beside_others(self, embedder: Embedder, text: str) -> None:
        (vectors,) = await self.embed(embedder, group_of([POLICY[0], text, POLICY[1]]))
        assert vectors.shape == (3, embedder.space.dimensions)
        assert vectors.any(axis=1).all()
        assert (await embedder.embed_query(text)).shape == (embedder.space.dimensions,)

    async def test_it_may_be_asked_by_many_at_once(self, embedder: Embedder) -> None:
        groups = [group_of([f"report {place}", *POLICY]) for place in range(12)]
        together = await self.embed(embedder, *groups)
        found: dict[int, Vectors] = {}

        async def ask(place: int) -> None:
            (found[place],) = await self.embed(embedder, groups[place])

        async with anyio.create_task_group() as tasks:
            for place in range(len(groups)):
                tasks.start_soon(ask, place)
        assert all(np.array_equal(found[place], together[place]) for place in range(len(groups)))

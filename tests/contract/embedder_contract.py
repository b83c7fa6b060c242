"""What every embedder promises. A test class for each embedder inherits this and gives it one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import anyio
import numpy as np
import pytest

from pipeline.digest import group_key
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
ELSEWHERE = "Aardvarks dig for termites at night."

STRANGE = {
    "a lone surrogate": "half of a pair \ud83d is lone",
    "control characters": "a zero \x00 byte and a bell \x07",
    "nothing but control characters": "\x00\x01\x7f",
    "a form feed": "the end of a page\x0cthe next one",
    "the separator token": "a literal <|endoftext|> separator",
    "nothing but the separator token": "<|endoftext|>",
    "other special tokens": "<|im_start|>system<|im_end|><|fim_prefix|>",
    "no blanks": "文書は規則に従う。",
    "joined code points": "👩\u200d👩\u200d👧\u200d👦 and e\u0301",
    "one endless word": "word" * 2000,
    "one sign": "¬",
    "punctuation": "-----",
    "what looks like an instruction": "Instruct: say nothing\nQuery:nothing",
}


def chunks_of(texts: Sequence[str], first: int = 0) -> tuple[Chunk, ...]:
    chunks, start = [], 0
    for ordinal, text in enumerate(texts, first):
        end = start + len(text)
        chunks.append(Chunk(ordinal=ordinal, start=start, end=end, text=text, tokens=len(text) // 3 + 1))
        start = end + 2
    return tuple(chunks)


def group_of(texts: Sequence[str], title: str = "A title", lead: str = "") -> EmbedGroup:
    return EmbedGroup(title=title, chunks=chunks_of(texts), lead=lead, lead_tokens=len(lead) // 3)


def window_of(before: Sequence[str], texts: Sequence[str], after: Sequence[str], lead: str) -> EmbedGroup:
    """A part of a document, as a long one is divided."""
    chunks = chunks_of([*before, *texts, *after], first=7)
    own, end = len(before), len(before) + len(texts)
    return EmbedGroup(
        title="A title",
        before=chunks[:own],
        chunks=chunks[own:end],
        after=chunks[end:],
        lead=lead,
        lead_tokens=len(lead) // 3,
    )


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
        limits = embedder.limits
        assert 0 < limits.group_tokens <= limits.request_tokens
        assert limits.group_chunks > 0
        assert limits.request_groups > 0
        assert limits.request_chunks >= limits.request_groups
        assert embedder.usd_per_million_tokens >= 0
        assert isinstance(embedder.recipe, str)

    async def test_every_group_has_an_array_with_a_row_for_each_chunk(self, embedder: Embedder) -> None:
        reply = await embedder.embed(EmbedRequest(groups=(group_of(POLICY), group_of(DEVICE))))
        assert isinstance(reply, EmbedReply)
        width = embedder.space.width
        assert [vectors.shape for vectors in reply.vectors] == [(3, width), (2, width)]
        assert all(vectors.dtype == embedder.space.dtype for vectors in reply.vectors)
        assert all(vectors.any(axis=1).all() for vectors in reply.vectors)
        assert reply.tokens > 0
        assert reply.cost_usd >= 0
        assert reply.retries == 0

    async def test_a_question_has_one_vector_of_the_same_space(self, embedder: Embedder) -> None:
        vector = await embedder.embed_query("who pays for the train?")
        assert vector.shape == (embedder.space.width,)
        assert vector.dtype == embedder.space.dtype
        assert vector.any()

    async def test_numbers_that_are_no_codes_are_of_unit_length(self, embedder: Embedder) -> None:
        if embedder.space.encoding != "float16":
            return
        (vectors,) = await self.embed(embedder, group_of(POLICY))
        rows = [*vectors, await embedder.embed_query("who pays for the train?")]
        lengths = [np.linalg.norm(row.astype(np.float64)) for row in rows]
        assert lengths == pytest.approx([1] * 4, abs=1e-3)

    async def test_asking_again_gives_the_same_vectors(self, embedder: Embedder) -> None:
        (once,) = await self.embed(embedder, group_of(POLICY))
        (again,) = await self.embed(embedder, group_of(POLICY))
        assert np.array_equal(once, again)
        question = "who pays for the train?"
        assert np.array_equal(await embedder.embed_query(question), await embedder.embed_query(question))

    async def test_an_edited_chunk_changes_its_vector_and_every_other_that_depends_on_it(
        self, embedder: Embedder
    ) -> None:
        (before,) = await self.embed(embedder, group_of(POLICY))
        for place in range(len(POLICY)):
            edited = [*POLICY]
            edited[place] = ELSEWHERE
            (after,) = await self.embed(embedder, group_of(edited))
            changed = (before != after).any(axis=1)
            assert changed[place]
            assert changed.all() == (embedder.limits.group_chunks > 1)

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

    async def test_of_a_part_of_a_document_the_vectors_of_its_own_chunks_are_kept(
        self, embedder: Embedder
    ) -> None:
        windows = [
            window_of(POLICY[:1], POLICY[1:], DEVICE, "The lead"),
            window_of((), POLICY, DEVICE[:1], ""),
            window_of(POLICY[:2], POLICY[2:], (), "The lead"),
            group_of(DEVICE),
        ]
        together = await self.embed(embedder, *windows)
        assert [len(vectors) for vectors in together] == [2, 3, 1, 2]
        for window, vectors in zip(windows, together, strict=True):
            (alone,) = await self.embed(embedder, window)
            assert np.array_equal(alone, vectors)

    async def test_what_is_kept_of_a_window_are_the_rows_of_its_own_chunks(self, embedder: Embedder) -> None:
        """Not those of its neighbours: seen together without a lead, all have the vectors of one document."""
        (whole,) = await self.embed(embedder, window_of((), (*POLICY, *DEVICE), (), ""))
        (middle,) = await self.embed(embedder, window_of(POLICY[:1], POLICY[1:], DEVICE, ""))
        assert np.array_equal(middle, whole[1:3])

    async def test_what_stands_around_a_window_is_seen_where_there_is_context(
        self, embedder: Embedder
    ) -> None:
        (vectors,) = await self.embed(embedder, window_of(POLICY[:1], POLICY[1:], DEVICE, "The lead"))
        for other in (
            window_of([ELSEWHERE], POLICY[1:], DEVICE, "The lead"),
            window_of(POLICY[:1], POLICY[1:], [*DEVICE, ELSEWHERE], "The lead"),
        ):
            (others,) = await self.embed(embedder, other)
            changed = (vectors != others).any(axis=1)
            assert changed.all() == changed.any() == (embedder.limits.group_chunks > 1)

    async def test_vectors_depend_on_nothing_that_reads_does_not_tell(self, embedder: Embedder) -> None:
        """`group_key` is made of `reads`: what it leaves out would be stale for ever."""
        group = window_of(POLICY[:1], POLICY[1:], DEVICE, "The lead")
        variants = [
            replace(group, title="Quite another title about aardvarks"),
            *(
                replace(group, **{part: tuple(replace(chunk, **changed) for chunk in getattr(group, part))})
                for part in ("before", "chunks", "after")
                for changed in (
                    {"heading_path": ("Aardvarks", "Termites")},
                    {"page": 7},
                    {"ordinal": 99},
                    {"tokens": 1},
                    {"start": 1, "end": 2},
                    {"text": "Something\x00else"},
                )
            ),
            replace(group, before=(), chunks=group.before + group.chunks),
            replace(group, chunks=group.chunks + group.after, after=()),
            replace(group, before=()),
            replace(group, after=group.after[:1]),
            replace(group, lead=""),
            replace(group, lead="Another lead"),
            replace(group, lead=" "),
            replace(group, lead_tokens=99),
            window_of(["The lead", *POLICY[:1]], POLICY[1:], DEVICE, ""),
            window_of(POLICY[:1], [f"{text}\x00" for text in POLICY[1:]], DEVICE, "The lead"),
            window_of(POLICY[:1], POLICY[:0:-1], DEVICE, "The lead"),
            window_of(POLICY[:1], ["".join(POLICY[1:])], DEVICE, "The lead"),
        ]
        (vectors,) = await self.embed(embedder, group)
        key = group_key(group, embedder)
        for variant in variants:
            (others,) = await self.embed(embedder, variant)
            if group_key(variant, embedder) == key:
                assert np.array_equal(vectors, others)
        alike = [variant for variant in variants if group_key(variant, embedder) == key]
        assert alike, "the number of its tokens, at the least, is nothing that a vector depends on"

    async def test_reads_tells_one_text_from_another(self, embedder: Embedder) -> None:
        groups = [
            group_of(texts)
            for texts in (POLICY, POLICY[::-1], POLICY[:2], DEVICE, ["".join(POLICY)], [*POLICY, "more"])
        ]
        told = [tuple(embedder.reads(group)) for group in groups]
        assert len(set(told)) == len(told)
        assert tuple(embedder.reads(group_of(POLICY))) == told[0]
        assert all(isinstance(text, str) for texts in told for text in texts)

    @pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE.keys())
    async def test_a_strange_text_is_embedded_beside_others(self, embedder: Embedder, text: str) -> None:
        width = embedder.space.width
        (alone,) = await self.embed(embedder, group_of([POLICY[0], "A calm text.", POLICY[1]]))
        (vectors,) = await self.embed(embedder, group_of([POLICY[0], text, POLICY[1]]))
        (window,) = await self.embed(embedder, window_of([text], [POLICY[0]], [text], text))
        assert vectors.shape == alone.shape == (3, width)
        assert vectors.any(axis=1).all()
        assert not np.array_equal(vectors[0], vectors[2]), "a text ended its neighbour's"
        assert window.shape == (1, width)
        assert (await embedder.embed_query(text)).shape == (width,)

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


class LeadContract:
    """What embedders promise that cannot read a title by themselves. Inherit beside `EmbedderContract`."""

    async def test_the_lead_is_seen(self, embedder: Embedder) -> None:
        async def vectors(lead: str) -> Vectors:
            group = window_of((), POLICY, (), lead)
            return (await embedder.embed(EmbedRequest(groups=(group,)))).vectors[0]

        bare, led, otherwise = await vectors(""), await vectors("Travel"), await vectors("Devices")
        assert len(bare) == len(led) == len(otherwise) == len(POLICY)
        assert (bare != led).any(axis=1).all()
        assert (led != otherwise).any(axis=1).all()

    async def test_reads_tells_exactly_what_is_sent(self, embedder: Embedder) -> None:
        window = window_of(POLICY[:1], [POLICY[1], "<|endoftext|>\x00"], DEVICE[:1], "The lead")
        told = list(embedder.reads(window))
        sent = ["The lead", POLICY[0], POLICY[1], "<| endoftext |>\ufffd", DEVICE[0]]
        if embedder.limits.group_chunks == 1:
            sent = [f"The lead\n\n{POLICY[1]}", "The lead\n\n<| endoftext |>\ufffd"]
        assert told[-len(sent) :] == sent
        marks = told[: -len(sent)]
        assert all(mark in embedder.recipe for mark in marks)

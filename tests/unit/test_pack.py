from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pack import Packer, group_chunks, halved
from pipeline.records import Chunk, EmbedGroup, EmbedLimits, EmbedRequest, Grouping, Lead
from tests.fakes import chunk_of

LIMITS = EmbedLimits(
    group_tokens=1_000, group_chunks=60, request_tokens=4_000, request_groups=20, request_chunks=60
)


def chunks_of(sizes: list[int], seed: str = "") -> list[Chunk]:
    return [chunk_of(f"{seed}chunk {n} of {size}", ordinal=n, tokens=size) for n, size in enumerate(sizes)]


def group(
    title: str,
    chunks: list[Chunk],
    limits: EmbedLimits = LIMITS,
    *,
    overlap_tokens: int = 60,
    lead: Lead = Lead.OPENING,
) -> tuple[EmbedGroup, ...]:
    text = "\n\n".join(chunk.text for chunk in chunks)
    grouping = Grouping(overlap_tokens=overlap_tokens, lead=lead, lead_tokens=20)
    return group_chunks(title, text, chunks, limits, grouping)


def pack(groups: list[EmbedGroup], limits: EmbedLimits = LIMITS) -> list[EmbedRequest]:
    packer = Packer(limits)
    requests = [request for group in groups if (request := packer.add(group))]
    return requests + packer.flush()


sizes_of_chunks = st.lists(st.integers(min_value=1, max_value=700), max_size=120)
leads = st.sampled_from(list(Lead))


@settings(deadline=None)  # the first count reads the vocabulary
@given(sizes_of_chunks, st.integers(min_value=0, max_value=300), leads)
def test_grouping_keeps_every_chunk_once_and_in_order_and_no_limit_is_passed(
    sizes: list[int], overlap: int, lead: Lead
) -> None:
    chunks = chunks_of(sizes)
    groups = group("T", chunks, overlap_tokens=overlap, lead=lead)
    assert [chunk for group in groups for chunk in group.chunks] == chunks
    assert all(group.chunks for group in groups)
    assert all(group.tokens <= LIMITS.group_tokens for group in groups)
    assert all(len(group.seen) <= LIMITS.group_chunks for group in groups)


@settings(deadline=None)  # the first count reads the vocabulary
@given(sizes_of_chunks, st.integers(min_value=0, max_value=300))
def test_a_window_sees_what_stands_around_it_up_to_the_overlap(sizes: list[int], overlap: int) -> None:
    chunks = chunks_of(sizes)
    for window in group("T", chunks, overlap_tokens=overlap):
        first, last = window.chunks[0].ordinal, window.chunks[-1].ordinal
        assert window.before == tuple(chunks[first - len(window.before) : first])
        assert window.after == tuple(chunks[last + 1 : last + 1 + len(window.after)])
        for seen in (window.before, window.after):
            assert sum(chunk.tokens + 1 for chunk in seen) <= min(overlap, LIMITS.group_tokens // 8)


def test_a_window_is_told_the_title_and_the_opening_of_its_document() -> None:
    chunks = chunks_of([50] * 100)
    windows = group("The long book", chunks)
    assert len(windows) > 2
    for window in windows:
        assert window.lead.startswith("The long book\n\nchunk 0 of 50")
        assert 0 < window.lead_tokens <= 20


def test_a_lead_may_be_the_title_the_headings_or_nothing() -> None:
    chunks = [
        Chunk(ordinal=n, start=n, end=n + 1, text=f"t{n}", tokens=300, heading_path=("Book", f"Chapter {n}"))
        for n in range(6)
    ]
    assert {w.lead for w in group("Book", chunks, lead=Lead.TITLE)} == {"Book"}
    first, *_ = group("Book", chunks, lead=Lead.HEADINGS)
    assert first.lead == "Book\nChapter 0"
    assert {(w.lead, w.lead_tokens) for w in group("Book", chunks, lead=Lead.NONE)} == {("", 0)}


def test_a_document_that_fits_has_no_lead_and_sees_nothing_else() -> None:
    [whole] = group("T", chunks_of([500, 400, 97]))
    assert (whole.lead, whole.before, whole.after) == ("", (), ())


def test_for_a_service_without_context_each_chunk_is_a_group_with_its_lead() -> None:
    flat = EmbedLimits(
        group_tokens=1_000, group_chunks=1, request_tokens=4_000, request_groups=20, request_chunks=20
    )
    chunks = chunks_of([100, 200, 300])
    groups = group("T", chunks, flat, lead=Lead.TITLE)
    assert [g.chunks for g in groups] == [(chunk,) for chunk in chunks]
    assert [(g.lead, g.before, g.after) for g in groups] == [("T", (), ())] * 3
    assert [g.tokens for g in groups] == [101 + 2, 201 + 2, 301 + 2]


@settings(deadline=None)  # the first count reads the vocabulary
@given(sizes_of_chunks.filter(lambda sizes: sum(sizes) > 900), leads)
def test_halves_keep_every_chunk_and_get_smaller_until_a_chunk_stands_alone(
    sizes: list[int], lead: Lead
) -> None:
    for window in group("T", chunks_of(sizes), lead=lead):
        waiting, bare = [window], []
        while waiting:
            one = waiting.pop(0)
            parts = halved(one)
            assert all(len(part.chunks) < len(one.chunks) or part.parts < one.parts for part in parts)
            (waiting if parts else bare).extend(parts or [one])
        assert sorted((c for b in bare for c in b.chunks), key=lambda c: c.ordinal) == list(window.chunks)
        assert all(len(b.seen) == 1 and not b.lead for b in bare)


def test_a_document_that_fits_is_one_group() -> None:
    assert len(group("T", chunks_of([500, 400, 97]), LIMITS)) == 1


def test_a_document_without_chunks_has_no_group() -> None:
    assert group("T", [], LIMITS) == ()


def test_a_chunk_over_the_limit_of_a_group_is_refused_with_both_numbers() -> None:
    with pytest.raises(
        ValueError, match=r"chunk 1 .* 1001 tokens with its separator, and a group has room for"
    ):
        group("T", chunks_of([10, 1000]), LIMITS)


def test_an_edit_near_the_start_of_a_long_document_leaves_most_windows_as_they_were() -> None:
    before = chunks_of([50] * 400)
    edited = [*before[:3], chunk_of("something new", ordinal=3, tokens=70), *before[3:]]
    old = {tuple(c.text for c in window.seen) for window in group("T", before, lead=Lead.TITLE)}
    new = [tuple(c.text for c in window.seen) for window in group("T", edited, lead=Lead.TITLE)]
    stale = [window for window in new if window not in old]
    assert len(new) > 20
    assert len(stale) <= 5


@settings(deadline=None)  # the first count reads the vocabulary
@given(st.lists(sizes_of_chunks.filter(bool), max_size=60))
def test_packing_loses_nothing_keeps_groups_whole_and_passes_no_limit(documents: list[list[int]]) -> None:
    groups = [window for n, sizes in enumerate(documents) for window in group("T", chunks_of(sizes, f"{n}:"))]
    requests = pack(groups)
    sent = [group for request in requests for group in request.groups]
    assert sorted(map(id, sent)) == sorted(map(id, groups))
    for request in requests:
        assert request.groups
        assert request.tokens <= LIMITS.request_tokens
        assert len(request.groups) <= LIMITS.request_groups
        assert sum(group.parts for group in request.groups) <= LIMITS.request_chunks


def test_requests_are_filled_to_97_percent_with_documents_of_mixed_length() -> None:
    random.seed(7)
    limits = EmbedLimits(
        group_tokens=31_000,
        group_chunks=16_000,
        request_tokens=115_000,
        request_groups=512,
        request_chunks=16_000,
    )
    documents = [
        chunks_of([random.randint(20, 512) for _ in range(int(random.lognormvariate(2.5, 1)) + 1)], f"{n}:")
        for n in range(2_000)
    ]
    groups = [window for chunks in documents for window in group("T", chunks, limits)]
    requests = pack(groups, limits)
    tokens = sum(request.tokens for request in requests)
    achievable = -(-tokens // limits.request_tokens)
    assert achievable / len(requests) >= 0.97


def test_a_request_with_as_many_groups_as_it_may_have_is_not_kept_waiting() -> None:
    packer = Packer(LIMITS)
    groups = [g for n in range(100) for g in group("T", chunks_of([10], seed=f"{n} "))]
    given = [request for g in groups if (request := packer.add(g))]
    assert [len(request.groups) for request in given] == [LIMITS.request_groups] * 5
    assert packer.flush() == []


def test_few_groups_are_held_back_while_a_stream_goes_on() -> None:
    packer = Packer(LIMITS)
    given_back = 0
    for n in range(10_000):
        (only,) = group("T", chunks_of([n % 900 + 1], f"{n}:"))
        if request := packer.add(only):
            given_back += len(request.groups)
        assert n + 1 - given_back <= Packer.OPEN_REQUESTS * LIMITS.request_groups


def test_a_request_that_is_as_good_as_full_is_given_at_once() -> None:
    packer = Packer(LIMITS)
    full = [packer.add(only) for n in range(4) for only in group("T", chunks_of([989], f"{n}:"))]
    assert [bool(request) for request in full] == [False, False, False, True]

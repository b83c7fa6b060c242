from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pack import Packer, group_chunks
from pipeline.records import Chunk, EmbedGroup, EmbedLimits, EmbedRequest
from tests.fakes import chunk_of

LIMITS = EmbedLimits(group_tokens=1_000, request_tokens=4_000, request_groups=20, request_chunks=60)


def chunks_of(sizes: list[int], seed: str = "") -> list[Chunk]:
    return [chunk_of(f"{seed}chunk {n} of {size}", ordinal=n, tokens=size) for n, size in enumerate(sizes)]


def pack(groups: list[EmbedGroup], limits: EmbedLimits = LIMITS) -> list[EmbedRequest]:
    packer = Packer(limits)
    requests = [request for group in groups if (request := packer.add(group))]
    return requests + packer.flush()


sizes_of_chunks = st.lists(st.integers(min_value=1, max_value=900), max_size=120)


@given(sizes_of_chunks)
def test_grouping_keeps_every_chunk_in_order_and_no_limit_is_passed(sizes: list[int]) -> None:
    chunks = chunks_of(sizes)
    groups = group_chunks("T", chunks, LIMITS)
    assert [chunk for group in groups for chunk in group.chunks] == chunks
    assert all(group.chunks for group in groups)
    assert all(group.tokens <= LIMITS.group_tokens for group in groups)
    assert all(len(group.chunks) <= LIMITS.request_chunks for group in groups)


def test_a_document_that_fits_is_one_group() -> None:
    assert len(group_chunks("T", chunks_of([500, 400, 97]), LIMITS)) == 1


def test_a_document_without_chunks_has_no_group() -> None:
    assert group_chunks("T", [], LIMITS) == ()


def test_a_chunk_over_the_limit_of_a_group_is_refused_with_both_numbers() -> None:
    with pytest.raises(
        ValueError, match=r"chunk 1 .* 1001 tokens with its separator, and a group holds 1000"
    ):
        group_chunks("T", chunks_of([10, 1000]), LIMITS)


def test_an_edit_near_the_start_of_a_long_document_leaves_most_windows_as_they_were() -> None:
    before = chunks_of([50] * 400)
    edited = [*before[:3], chunk_of("something new", ordinal=3, tokens=70), *before[3:]]
    old = {tuple(c.text for c in group.chunks) for group in group_chunks("T", before, LIMITS)}
    new = [tuple(c.text for c in group.chunks) for group in group_chunks("T", edited, LIMITS)]
    stale = [window for window in new if window not in old]
    assert len(new) > 20
    assert len(stale) <= 4


@given(st.lists(sizes_of_chunks.filter(bool), max_size=60))
def test_packing_loses_nothing_keeps_groups_whole_and_passes_no_limit(documents: list[list[int]]) -> None:
    groups = [
        group
        for n, sizes in enumerate(documents)
        for group in group_chunks("T", chunks_of(sizes, f"{n}:"), LIMITS)
    ]
    requests = pack(groups)
    sent = [group for request in requests for group in request.groups]
    assert sorted(map(id, sent)) == sorted(map(id, groups))
    for request in requests:
        assert request.groups
        assert request.tokens <= LIMITS.request_tokens
        assert len(request.groups) <= LIMITS.request_groups
        assert sum(len(group.chunks) for group in request.groups) <= LIMITS.request_chunks


def test_requests_are_filled_to_97_percent_with_documents_of_mixed_length() -> None:
    random.seed(7)
    limits = EmbedLimits(
        group_tokens=31_000, request_tokens=115_000, request_groups=512, request_chunks=16_000
    )
    documents = [
        chunks_of([random.randint(20, 512) for _ in range(int(random.lognormvariate(2.5, 1)) + 1)], f"{n}:")
        for n in range(2_000)
    ]
    groups = [group for chunks in documents for group in group_chunks("T", chunks, limits)]
    requests = pack(groups, limits)
    tokens = sum(request.tokens for request in requests)
    achievable = -(-tokens // limits.request_tokens)
    assert achievable / len(requests) >= 0.97


def test_few_groups_are_held_back_while_a_stream_goes_on() -> None:
    packer = Packer(LIMITS)
    given_back = 0
    for n in range(10_000):
        (group,) = group_chunks("T", chunks_of([n % 900 + 1], f"{n}:"), LIMITS)
        if request := packer.add(group):
            given_back += len(request.groups)
        assert n + 1 - given_back <= Packer.OPEN_REQUESTS * LIMITS.request_groups

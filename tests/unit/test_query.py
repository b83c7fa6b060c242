from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.query_rank import Fusion, Weights, fuse

EVEN = Weights(vector=1, text=1)


def ranking(rows: list[int]) -> dict[int, float]:
    return {row: 1 / place for place, row in enumerate(rows, start=1)}


def test_a_chunk_that_both_lists_hold_ranks_above_one_that_leads_a_single_list() -> None:
    fused = fuse(ranking([1, 2]), ranking([3, 2]), "rrf", EVEN)
    assert [(one.row, one.vector_rank, one.text_rank) for one in fused] == [
        (2, 2, 2), (1, 1, None), (3, None, 1)
    ]  # fmt: skip


def test_by_score_a_clear_lead_counts_for_more_than_a_close_one() -> None:
    near, worded = {1: 0.9, 2: 0.89, 3: 0.1}, {2: 12.0, 3: 11.0, 1: 2.0}
    fused = fuse(near, worded, "scores", EVEN)
    assert [(one.row, round(one.score, 4)) for one in fused] == [(2, 1.9875), (1, 1.0), (3, 0.9)]
    only_near = fuse(near, worded, "scores", Weights(vector=1, text=0))
    assert [one.row for one in only_near] == [1, 2, 3]


@pytest.mark.parametrize("fusion", ["rrf", "scores"])
def test_where_one_side_finds_nothing_the_other_keeps_its_order(fusion: Fusion) -> None:
    for near, worded in [({1: 0.4, 2: 0.3}, {}), ({}, {1: 9.0, 2: 3.0}), ({1: 0.5, 2: 0.5}, {})]:
        assert [one.row for one in fuse(near, worded, fusion, EVEN)] == [1, 2]
    assert fuse({}, {}, fusion, EVEN) == []


rows = st.lists(st.integers(0, 30), unique=True)
fusions: list[Fusion] = ["rrf", "scores"]


@given(rows, rows, st.sampled_from(fusions))
def test_fusing_gives_each_chunk_once_best_first(near: list[int], worded: list[int], fusion: Fusion) -> None:
    fused = fuse(ranking(near), ranking(worded), fusion, EVEN)
    assert sorted(one.row for one in fused) == sorted({*near, *worded})
    assert [one.score for one in fused] == sorted((one.score for one in fused), reverse=True)
    for one in fused:
        assert one.vector_rank == (near.index(one.row) + 1 if one.row in near else None)
        assert one.text_rank == (worded.index(one.row) + 1 if one.row in worded else None)

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.query import fuse
from pipeline.records import Hit


def hit(ordinal: int, score: float = 1.0) -> Hit:
    return Hit(
        source="s",
        key="k",
        ordinal=ordinal,
        text=str(ordinal),
        score=score,
        title="T",
        heading_path=(),
        page=None,
        start=0,
        end=1,
        url=None,
        metadata={},
    )


def test_a_chunk_that_both_lists_hold_ranks_above_one_that_leads_a_single_list() -> None:
    fused = fuse([hit(1), hit(2)], [hit(3), hit(2)])
    assert [(h.ordinal, h.vector_rank, h.text_rank) for h in fused] == [(2, 2, 2), (1, 1, None), (3, None, 1)]


ordinals = st.lists(st.integers(0, 30), unique=True)


@given(ordinals, ordinals)
def test_fusing_gives_each_chunk_once_best_first(near: list[int], worded: list[int]) -> None:
    fused = fuse([hit(n) for n in near], [hit(n) for n in worded])
    assert sorted(h.ordinal for h in fused) == sorted({*near, *worded})
    assert [h.score for h in fused] == sorted((h.score for h in fused), reverse=True)
    for h in fused:
        assert h.vector_rank == (near.index(h.ordinal) + 1 if h.ordinal in near else None)
        assert h.text_rank == (worded.index(h.ordinal) + 1 if h.ordinal in worded else None)

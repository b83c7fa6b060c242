"""Question to hits, over stores that are real: depth, pages, rerankers and what is made of the hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ServiceRefused, ServiceUnavailable, SettingsError
from pipeline.query import DEPTHS, Mode, Question, Weights, find, search
from pipeline.query_around import Around, joined, widened
from pipeline.query_context import candidates, fitted
from pipeline.query_highlight import ranges
from pipeline.query_rank import diverse, each_text_once, fuse, of_each_document, place_of, reranked
from pipeline.query_rerank import HttpReranker
from pipeline.records import EmbeddingSpace, Filter, Hit
from pipeline.stores.memory import MemoryStore
from tests.fakes import OracleEmbedder
from tests.loopback import Asked, Said, serving
from tests.stored_documents import embedded


async def stored(documents: int, chunks: int = 2) -> MemoryStore:
    store = MemoryStore(OracleEmbedder().space)
    await store.replace(
        [
            embedded("s", f"{n:04}.md", [f"words of {n}, part {part}" for part in range(chunks)])
            for n in range(documents)
        ]
    )
    return store


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_hit_keeps_its_place_however_deep_is_asked(mode: Mode) -> None:
    store, embedder = await stored(150), OracleEmbedder()
    question = Question(text="words of part", mode=mode)
    whole = await search(store, embedder, replace(question, limit=300))
    assert len(whole) == 300
    assert len({place_of(hit) for hit in whole}) == 300
    for offset, limit in [(0, 1), (0, 10), (10, 10), (45, 10), (50, 1), (95, 160), (299, 10)]:
        page = await find(store, embedder, replace(question, offset=offset, limit=limit))
        assert page.hits == whole[offset : offset + limit]
        assert page.more == (offset + limit < 300)


async def test_grouping_looks_deeper_until_the_page_is_full() -> None:
    store, embedder = await stored(20, chunks=30), OracleEmbedder()
    question = Question(text="words of part", per_document=1, limit=20)
    hits = await search(store, embedder, question)
    assert len({hit.key for hit in hits}) == len(hits) == 20 > DEPTHS[0] // 30


async def test_a_hit_by_words_alone_has_its_similarity_too() -> None:
    store, embedder = await stored(100), OracleEmbedder()
    vector = (await embedder.embed_query("words of 7")).astype(float)
    for hit in await search(store, embedder, Question(text="words of 7", limit=100)):
        assert hit.vector is not None
        own = hit.vector.astype(float)
        cosine = vector @ own / np.linalg.norm(vector) / np.linalg.norm(own)
        assert hit.similarity == pytest.approx(cosine, abs=1e-5)
    assert {hit.similarity for hit in await search(store, None, Question(text="words", mode=Mode.TEXT))} == {
        None
    }


class Reversing:
    """Prefers what the search thinks least of."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[Sequence[str]] = []

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.asked.append(texts)
        if self.error:
            raise self.error
        return [number / len(texts) for number in range(len(texts))]

    async def aclose(self) -> None: ...


async def test_a_reranker_orders_the_best_hits_and_leaves_the_rest_behind_them() -> None:
    store, embedder, reranker = await stored(100), OracleEmbedder(), Reversing()
    question = Question(text="words of part", limit=200)
    plain = await search(store, embedder, question)
    found = await find(store, embedder, question, reranker)
    assert found.reranked
    assert [place_of(hit) for hit in found.hits] == [
        *[place_of(hit) for hit in reversed(plain[:50])], *[place_of(hit) for hit in plain[50:]]
    ]  # fmt: skip
    assert [len(texts) for texts in reranker.asked] == [50]
    assert all(text.startswith("Title of ") for text in reranker.asked[0])
    some = await find(store, embedder, replace(question, min_score=0.9), reranker)
    assert [hit.rerank_score for hit in some.hits] == [0.98, 0.96, 0.94, 0.92, 0.9]
    assert not (await find(store, embedder, replace(question, rerank=False), reranker)).reranked


async def test_where_the_reranker_does_not_answer_the_hits_stay_as_they_were() -> None:
    store, embedder = await stored(30), OracleEmbedder()
    question = Question(text="words of part")
    for error in (ServiceUnavailable("503"), ServiceRefused("401")):
        found = await find(store, embedder, question, Reversing(error))
        assert (found.hits, found.reranked) == (await search(store, embedder, question), False)
    by_words = replace(question, mode=Mode.TEXT, min_score=0.5)
    with pytest.raises(ServiceUnavailable):
        await find(store, None, by_words, Reversing(ServiceUnavailable("503")))
    with pytest.raises(SettingsError, match="no scale"):
        await find(store, None, by_words)


def answering(asked: Asked) -> Said:
    body = asked.json()
    if asked.headers.get("authorization") != "Bearer right":
        return Said(status=401)
    results = [
        {"index": n, "relevance_score": 1 / (1 + len(text))} for n, text in enumerate(body["documents"])
    ]
    assert (asked.path, body["model"], body["top_n"]) == ("/v2/rerank", "m", len(results))
    return Said(content={"id": "x", "results": sorted(results, key=lambda one: -one["relevance_score"])})


async def test_a_service_that_reranks_is_asked_in_coheres_way() -> None:
    with serving(answering) as address:
        one = HttpReranker(base_url=f"{address}/v2", model="m", api_key="right", timeout_seconds=5)
        assert await one.scores("q", ["four", "a", "six in"]) == [1 / 5, 1 / 2, 1 / 7]
        await one.aclose()
        wrong = HttpReranker(base_url=f"{address}/v2", model="m", api_key="wrong", timeout_seconds=5)
        with pytest.raises(ServiceRefused, match="401") as refused:
            await wrong.scores("q", ["a"])
        assert "wrong" not in str(refused.value)
        await wrong.aclose()


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON",
        [],
        {"results": []},
        {"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}]},
        {"results": [{"index": 0, "relevance_score": "much"}, {"index": 1, "relevance_score": 1}]},
        {"results": [{"index": 0, "relevance_score": 1}, {"index": 7, "relevance_score": 1}]},
        {"results": [{"index": 0}, {"index": 1, "relevance_score": 1}]},
        {"results": "x"},
    ],
)
async def test_an_answer_that_does_not_add_up_is_an_outage(content: object) -> None:
    with serving(lambda _: Said(content=content)) as address:
        reranker = HttpReranker(base_url=address, model="m", api_key="", timeout_seconds=5)
        with pytest.raises(ServiceUnavailable):
            await reranker.scores("q", ["a", "b"])
        await reranker.aclose()


async def test_a_reranker_that_is_away_is_an_outage() -> None:
    reranker = HttpReranker(base_url="http://127.0.0.1:9", model="m", api_key="", timeout_seconds=1)
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        await reranker.scores("q", ["a"])
    await reranker.aclose()


def hit(ordinal: int, **more: object) -> Hit:
    plain = Hit(
        source="s", key="k", ordinal=ordinal, text=str(ordinal), score=1.0, title="T", heading_path=(),
        page=None, start=ordinal * 10, end=ordinal * 10 + 8, url=None, metadata={},
    )  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


def test_weights_decide_what_a_rank_counts() -> None:
    near, worded = {1: 0.9, 2: 0.8}, {2: 7.0, 3: 5.0}
    assert [one.row for one in fuse(near, worded, "rrf", Weights(vector=1, text=0))] == [1, 2, 3]
    assert [one.row for one in fuse(near, worded, "rrf", Weights(vector=0, text=1))] == [2, 3, 1]


def test_thinning_keeps_the_order() -> None:
    hits = [hit(1, text="Same  text"), hit(2), hit(3, text="same text"), hit(4, key="other")]
    assert [one.ordinal for one in each_text_once(hits)] == [1, 2, 4]
    assert [one.ordinal for one in of_each_document(hits, 2)] == [1, 2, 4]
    given = {place_of(hits[2]): 0.9, place_of(hits[0]): 0.1}
    assert [one.ordinal for one in reranked(hits, given)] == [3, 1, 2, 4]


SPACE = EmbeddingSpace(provider="t", model="m", dimensions=8)
codes = st.lists(st.integers(-128, 127), min_size=8, max_size=8)


@given(st.lists(codes, max_size=12), st.floats(0, 1))
def test_diversity_loses_nothing_and_starts_with_the_best(rows: list[list[int]], diversity: float) -> None:
    hits = [hit(n, vector=np.array(row, np.int8)) for n, row in enumerate(rows)]
    spread = diverse(hits, diversity, [SPACE] * len(hits))
    assert sorted(one.ordinal for one in spread) == list(range(len(hits)))
    assert spread[:1] == hits[:1]
    assert diverse(hits, 0.0, [SPACE] * len(hits)) == hits


def test_the_unlike_comes_before_the_alike() -> None:
    one, other = np.eye(8, dtype=np.int8)[:2] * 100
    hits = [hit(0, vector=one), hit(1, vector=one), hit(2, vector=other)]
    assert [found.ordinal for found in diverse(hits, 0.6, [SPACE] * 3)] == [0, 2, 1]
    bits = EmbeddingSpace(provider="t", model="m", dimensions=64, encoding="binary")
    packed = [replace(one, vector=np.packbits(np.tile(one.vector > 0, 8))) for one in hits]  # type: ignore[operator]
    assert [found.ordinal for found in diverse(packed, 0.6, [bits] * 3)] == [0, 2, 1]


def test_where_words_stand_is_told_in_characters() -> None:
    text = "Resets the Fern: hold FERN's button. Ferns reset."
    marked = [text[start:end] for start, end in ranges(text, "how do I reset the fern?")]
    assert marked == ["Resets", "Fern", "FERN", "Ferns", "reset"]
    assert ranges("nothing of it", "reset") == []
    assert [(start, end) for start, end in ranges("東京都の天気", "京都")] == [(1, 3)]


@given(st.text(), st.text())
def test_marked_ranges_lie_in_the_text_and_do_not_touch(text: str, question: str) -> None:
    last = -1
    for start, end in ranges(text, question):
        assert last < start < end <= len(text)
        last = end


async def test_a_context_takes_the_best_that_fits() -> None:
    store, embedder = await stored(6, chunks=5), OracleEmbedder()
    question = replace(
        candidates(Question(text="words of 3, part", mode=Mode.TEXT)), around=Around(unit="chunks", chunks=1)
    )
    found = await find(store, embedder, question)

    def count(text: str) -> int:
        return len(text.split())

    before = 0
    for tokens in (0, 12, 40, 100, 10_000):
        made = fitted(found, tokens=tokens, count=count)
        assert made.tokens == count(made.text) <= tokens
        taken = sum(len(one.chunks) for one in made.passages)
        assert taken >= before
        before = taken
        for one in made.passages:
            ordinals = [chunk.ordinal for chunk in one.chunks]
            assert ordinals == list(range(ordinals[0], ordinals[-1] + 1))
            assert one.answers
    assert before == 30
    best = fitted(found, tokens=12, count=count).passages
    assert [one.chunks[0].key for one in best] == [found.hits[0].key]


def test_chunks_are_joined_by_what_stood_between_them() -> None:
    chunks = [hit(0, start=0, end=1), hit(1, start=1, end=2), hit(2, start=3, end=4), hit(3, start=9, end=10)]
    assert joined(chunks) == "01\n2\n\n3"
    assert joined([]) == ""


async def test_what_may_not_be_seen_stands_around_nothing() -> None:
    store = MemoryStore(OracleEmbedder().space)
    made = embedded("s", "k", ["part 0", "part 1", "part 2"])
    await store.replace([replace(made, prepared=replace(made.prepared, access=("staff",)))])
    question = Question(text="part 1", mode=Mode.TEXT, limit=1, around=Around(unit="chunks", chunks=1))
    found = await find(store, None, question)
    [chunks] = found.around.values()
    assert [one.ordinal for one in chunks] == [0, 1, 2]
    for access, seen in [(("staff",), [0, 1, 2]), (("other",), [1]), ((), [1])]:
        [chunks] = (await widened(store, found.hits, question.around, access=access)).values()
        assert [one.ordinal for one in chunks] == seen
        hidden = await find(store, None, replace(question, where=Filter(access=access)))
        assert len(hidden.hits) == (len(seen) > 1)

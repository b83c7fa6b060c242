from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from pipeline import digest
from pipeline.embed import EmbedStage
from pipeline.errors import EmbedError, InputRefused, RequestTooLarge, ServiceRefused, ServiceUnavailable
from pipeline.pack import group_chunks
from pipeline.records import DocumentState, Embedded, EmbedReply, EmbedRequest, Known, Prepared
from pipeline.report import SourceReport
from tests.fakes import OracleEmbedder, chunk_of


def prepared(key: str, texts: Sequence[str], embedder: OracleEmbedder, tokens: int = 100) -> Prepared:
    chunks = [chunk_of(text, ordinal=n, tokens=tokens) for n, text in enumerate(texts)]
    groups = group_chunks("T", chunks, embedder.limits)
    state = DocumentState(
        source="s",
        key=key,
        version="1",
        recipe="r",
        content_key=key,
        group_keys=tuple(digest.group_key(group, embedder) for group in groups),
        row_key="r",
    )
    return Prepared(state=state, title="T", url=None, media_type="text/plain", metadata={}, groups=groups)


class Run:
    """One run of the stage over some documents."""

    def __init__(self, embedder: OracleEmbedder) -> None:
        self.embedder = embedder
        self.report = SourceReport(source="s")
        self.batches: list[list[Embedded]] = []

    async def __call__(self, documents: Sequence[Prepared], known: Known | None = None) -> Run:
        async def complete(batch: Sequence[Embedded]) -> None:
            self.batches.append(list(batch))

        stage = EmbedStage(embedder=self.embedder, report=self.report, complete=complete)
        send, receive = anyio.create_memory_object_stream[tuple[Prepared, Known]](len(documents))
        async with send:
            for document in documents:
                await send.send((document, known or {}))
        await stage.run(receive, 3)
        return self

    @property
    def embedded(self) -> dict[str, Embedded]:
        return {item.prepared.state.key: item for batch in self.batches for item in batch}

    def assert_fresh(self) -> None:
        """Every vector is what embedding the whole group alone gives."""
        for item in self.embedded.values():
            for group, vectors in zip(item.prepared.groups, item.vectors, strict=True):
                assert (vectors == self.embedder.vectors(group)).all()


async def test_every_document_comes_back_once_and_whole_with_its_own_vectors() -> None:
    embedder = OracleEmbedder()
    documents = [prepared(f"d{n}", [f"{n}.{m}" for m in range(n % 40 + 1)], embedder) for n in range(200)]
    run = await Run(embedder)(documents)
    assert sorted(run.embedded) == sorted(f"d{n}" for n in range(200))
    assert sum(len(batch) for batch in run.batches) == 200
    run.assert_fresh()
    assert run.report.tokens == sum(group.tokens for d in documents for group in d.groups)
    assert run.report.requests == len(embedder.requests)


async def test_a_document_of_several_windows_is_complete_only_when_all_have_come() -> None:
    embedder = OracleEmbedder()
    book = prepared("book", [f"page {n}" for n in range(100)], embedder, tokens=150)
    assert len(book.groups) > 5
    run = await Run(embedder)([book])
    assert list(run.embedded) == ["book"]
    run.assert_fresh()


async def test_identical_groups_under_way_are_sent_once() -> None:
    embedder = OracleEmbedder()
    copies = [prepared(f"copy {n}", ["the same", "text"], embedder) for n in range(5)]
    run = await Run(embedder)(copies)
    assert len(run.embedded) == 5
    assert embedder.embedded_texts == ["the same", "text"]


async def test_known_windows_are_not_sent_again() -> None:
    embedder = OracleEmbedder()
    book = prepared("book", [f"page {n}" for n in range(60)], embedder, tokens=150)
    known = {key: embedder.vectors(g) for key, g in zip(book.state.group_keys, book.groups, strict=True)}
    missing = known.popitem()
    run = await Run(embedder)([book], known)
    assert [digest.group_key(g, embedder) for r in embedder.requests for g in r.groups] == [missing[0]]
    run.assert_fresh()


async def test_one_poison_chunk_costs_one_document() -> None:
    def refuse(request: EmbedRequest) -> EmbedError | None:
        texts = [chunk.text for group in request.groups for chunk in group.chunks]
        return InputRefused("cannot embed this") if "poison" in texts else None

    embedder = OracleEmbedder(refuse=refuse)
    documents = [prepared(f"d{n}", [f"text {n}"], embedder) for n in range(50)]
    documents.insert(17, prepared("bad", ["fine", "poison"], embedder))
    run = await Run(embedder)(documents)
    assert sorted(run.embedded) == sorted(f"d{n}" for n in range(50))
    assert [(f.key, f.error, f.reason) for f in run.report.failures] == [
        ("bad", "InputRefused", "cannot embed this")
    ]


async def test_a_request_that_the_service_counts_too_large_is_sent_in_halves() -> None:
    def refuse(request: EmbedRequest) -> EmbedError | None:
        return RequestTooLarge("too many tokens") if request.tokens > 1_000 else None

    embedder = OracleEmbedder(refuse=refuse)
    run = await Run(embedder)([prepared(f"d{n}", [f"text {n}"], embedder) for n in range(100)])
    assert len(run.embedded) == 100
    assert run.report.failures == []
    run.assert_fresh()


@pytest.mark.parametrize("error", [ServiceRefused("no such key"), ServiceUnavailable("down")])
async def test_what_concerns_every_document_stops_the_run(error: EmbedError) -> None:
    embedder = OracleEmbedder(refuse=lambda _request: error)
    with pytest.raises(ExceptionGroup) as raised:
        await Run(embedder)([prepared(f"d{n}", ["x"], embedder, tokens=1_999) for n in range(30)])
    assert raised.group_contains(type(error))


async def test_vectors_of_a_wrong_shape_are_never_handed_on() -> None:
    class Short(OracleEmbedder):
        async def embed(self, request: EmbedRequest) -> EmbedReply:
            reply = await super().embed(request)
            return EmbedReply(
                vectors=tuple(v[:-1] for v in reply.vectors), tokens=reply.tokens, cost_usd=reply.cost_usd
            )

    embedder = Short()
    run = Run(embedder)
    with pytest.raises(ExceptionGroup) as raised:
        await run([prepared("d", ["a", "b"], embedder)])
    assert raised.group_contains(ServiceUnavailable)
    assert run.batches == []

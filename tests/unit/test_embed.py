from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import anyio
import pytest

from pipeline import digest
from pipeline.budget import Budget, Calibration, Purse
from pipeline.embed import EmbedStage
from pipeline.errors import EmbedError, InputRefused, RequestTooLarge, ServiceRefused, ServiceUnavailable
from pipeline.pack import group_chunks
from pipeline.records import (
    DocumentState,
    Embedded,
    EmbedReply,
    EmbedRequest,
    Grouping,
    Known,
    Prepared,
    Vectors,
)
from pipeline.report import SourceReport
from tests.fakes import OracleEmbedder, chunk_of


def prepared(key: str, texts: Sequence[str], embedder: OracleEmbedder, tokens: int = 100) -> Prepared:
    chunks = [chunk_of(text, ordinal=n, tokens=tokens) for n, text in enumerate(texts)]
    groups = group_chunks("T", " ".join(texts), chunks, embedder.limits, Grouping(overlap_tokens=200))
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

    def __init__(self, embedder: OracleEmbedder, *budgets: Budget) -> None:
        self.embedder = embedder
        self.report = SourceReport(source="s")
        self.batches: list[list[Embedded]] = []
        self.paid: dict[str, Vectors] = {}
        self.stored: dict[str, Vectors] = {}
        self.purse = Purse(
            budgets=budgets,
            usd_per_million_tokens=embedder.usd_per_million_tokens,
            calibration=Calibration(),
        )

    async def complete(self, paid: Mapping[str, Vectors], batch: Sequence[Embedded]) -> None:
        self.paid |= paid
        self.batches.append(list(batch))

    async def find(self, keys: Sequence[str]) -> Known:
        return {key: self.stored[key] for key in keys if key in self.stored}

    async def __call__(self, documents: Sequence[Prepared], known: Known | None = None) -> Run:
        stage = EmbedStage(
            embedder=self.embedder,
            report=self.report,
            purse=self.purse,
            find=self.find,
            complete=self.complete,
        )
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


async def test_what_came_back_since_the_last_look_up_began_is_not_sent_again() -> None:
    embedder = OracleEmbedder()
    run = Run(embedder)
    stage = EmbedStage(
        embedder=embedder, report=run.report, purse=run.purse, find=run.find, complete=run.complete
    )
    first, copy = (prepared(key, ["the same"], embedder, tokens=1_990) for key in ("first", "copy"))
    others = [prepared(f"d{n}", [f"text {n}"], embedder, tokens=1_990) for n in range(40)]
    send, receive = anyio.create_memory_object_stream[tuple[Prepared, Known]]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run, receive, 3)
        async with send:
            for document in (first, *others):
                await send.send((document, {}))
            stage.look_up_begins()
            await send.send((copy, {}))
    assert len(run.embedded) == 42
    assert embedder.embedded_texts.count("the same") == 1


async def test_what_takes_long_to_be_written_is_not_sent_again_however_many_look_ups_begin() -> None:
    embedder, written = OracleEmbedder(), anyio.Event()
    run = Run(embedder)

    async def complete(paid: Mapping[str, Vectors], batch: Sequence[Embedded]) -> None:
        if paid:
            await written.wait()
        await run.complete(paid, batch)

    stage = EmbedStage(
        embedder=embedder, report=run.report, purse=run.purse, find=run.find, complete=complete
    )
    first, copy = (prepared(key, ["the same"], embedder, tokens=1_990) for key in ("first", "copy"))
    others = [prepared(f"d{n}", [f"text {n}"], embedder, tokens=1_990) for n in range(40)]
    send, receive = anyio.create_memory_object_stream[tuple[Prepared, Known]]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run, receive, 12)
        async with send:
            for document in (first, *others):
                await send.send((document, {}))
            await anyio.wait_all_tasks_blocked()
            assert "the same" in embedder.embedded_texts
            for _ in range(3):
                stage.look_up_begins()
            await send.send((copy, {}))
            written.set()
    assert len(run.embedded) == 42
    assert embedder.embedded_texts.count("the same") == 1


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


def too_large_for(most: int) -> OracleEmbedder:
    def refuse(request: EmbedRequest) -> EmbedError | None:
        return RequestTooLarge("too many tokens") if request.tokens > most else None

    return OracleEmbedder(refuse=refuse)


async def test_a_group_that_alone_is_too_large_goes_on_as_two_and_its_state_says_so() -> None:
    embedder = too_large_for(1_100)
    run = await Run(embedder)([prepared("d", [f"text {n}" for n in range(18)], embedder)])
    [document] = run.embedded.values()
    assert len(document.prepared.groups) > 1
    assert [c.ordinal for group in document.prepared.groups for c in group.chunks] == list(range(18))
    keys = tuple(digest.group_key(group, embedder) for group in document.prepared.groups)
    assert document.prepared.state.group_keys == keys
    assert set(run.paid) == set(keys)
    run.assert_fresh()


async def test_halves_that_were_paid_for_once_are_not_paid_for_again() -> None:
    embedder = too_large_for(1_100)
    texts = [f"text {n}" for n in range(18)]
    first = await Run(embedder)([prepared("d", texts, embedder)])
    sent = len(embedder.requests)
    again = Run(embedder)
    again.stored = first.paid
    await again([prepared("copy", texts, embedder)])
    assert len(again.embedded) == 1
    assert len(embedder.requests) == sent


async def test_a_chunk_that_alone_is_too_large_fails_its_document_only() -> None:
    embedder = too_large_for(500)
    documents = [prepared("large", ["one", "two"], embedder, tokens=900), prepared("small", ["x"], embedder)]
    run = await Run(embedder)(documents)
    assert list(run.embedded) == ["small"]
    assert [(f.key, f.error) for f in run.report.failures] == [("large", "RequestTooLarge")]


async def test_a_small_group_is_not_too_large_whatever_the_service_says() -> None:
    embedder = OracleEmbedder(refuse=lambda _request: RequestTooLarge("too long"))
    run = await Run(embedder)([prepared("d", ["a", "b"], embedder, tokens=50)])
    assert run.embedded == {}
    assert [f.error for f in run.report.failures] == ["RequestTooLarge"]


async def test_a_service_that_counts_more_than_we_do_is_sent_smaller_requests() -> None:
    embedder = OracleEmbedder(counts=1.25)
    await Run(embedder)([prepared(f"d{n}", [f"text {n}"], embedder, tokens=140) for n in range(600)])
    assert max(request.tokens for request in embedder.requests[:3]) > 6_000
    later = [round(request.tokens * 1.25) for request in embedder.requests[8:]]
    assert 7_000 < max(later) <= embedder.limits.request_tokens


async def test_after_a_request_was_too_large_the_next_ones_are_smaller() -> None:
    embedder = too_large_for(5_000)
    asked: list[int] = []
    refuse = embedder.refuse
    embedder.refuse = lambda request: asked.append(request.tokens) or refuse(request)
    await Run(embedder)([prepared(f"d{n}", [f"text {n}"], embedder) for n in range(3_000)])
    assert max(asked) > 6_000
    assert sum(tokens > 5_000 for tokens in asked) < 15 < len(asked) / 3


async def test_a_group_that_alone_is_too_large_makes_no_request_smaller() -> None:
    def refuse(request: EmbedRequest) -> EmbedError | None:
        large = any(group.tokens > 1_500 for group in request.groups)
        return RequestTooLarge("too many tokens") if large else None

    embedder = OracleEmbedder(refuse=refuse)
    documents = [prepared(f"d{n}", [f"text {n}"], embedder) for n in range(600)]
    documents.insert(5, prepared("large", [f"page {n}" for n in range(18)], embedder))
    run = await Run(embedder)(documents)
    assert len(run.embedded) == 601
    assert max(request.tokens for request in embedder.requests[-5:]) > 6_000
    run.assert_fresh()


async def test_a_document_whose_parts_are_alike_fails_once() -> None:
    def refuse(request: EmbedRequest) -> EmbedError | None:
        if request.tokens > 1_100:
            return RequestTooLarge("too many tokens")
        texts = [chunk.text for group in request.groups for chunk in group.chunks]
        return InputRefused("cannot embed this") if "x3" in texts else None

    class Slow(OracleEmbedder):
        async def embed(self, request: EmbedRequest) -> EmbedReply:
            await anyio.sleep(0.01)
            return await super().embed(request)

    embedder = Slow(refuse=refuse)
    embedder.limits = replace(embedder.limits, request_tokens=2_000)
    half = [f"x{n}" for n in range(9)] + ["seam"]
    parts = [prepared("d", half + [f"{name}{n}" for n in range(8)], embedder) for name in "yz"]
    [y], [z] = (part.groups for part in parts)
    keys = tuple(part.state.group_keys[0] for part in parts)
    document = replace(parts[0], groups=(y, z), state=replace(parts[0].state, group_keys=keys))
    run = await Run(embedder)([document])
    assert [failure.key for failure in run.report.failures] == ["d"]


async def test_a_budget_that_holds_less_than_a_full_request_is_used_nevertheless() -> None:
    embedder = OracleEmbedder()
    documents = [prepared(f"d{n}", [f"text {n}"], embedder) for n in range(400)]
    run = await Run(embedder, Budget(name="this run", tokens=2_000))(documents)
    assert 1_500 < run.report.tokens <= 2_000
    assert len(run.embedded) + run.report.left == 400
    assert run.report.left_tokens == 400 * 101 - run.report.tokens


@pytest.mark.parametrize("listed", [0.0, 5.0])
async def test_a_budget_heeds_what_replies_cost_where_that_is_more_than_the_list_price(listed: float) -> None:
    embedder = OracleEmbedder(usd_per_million_tokens=listed)  # the replies cost 10
    budget = Budget(name="this run", usd=0.5)
    documents = [prepared(f"d{n}", [f"text {n}"], embedder) for n in range(1_000)]
    run = await Run(embedder, budget)(documents)
    assert 0.4 < run.report.cost_usd <= 0.5


@pytest.mark.parametrize("budget", [Budget(name="this run", tokens=20_000), Budget(name="s", usd=0.2)])
async def test_a_budget_stops_before_the_request_that_would_pass_it(budget: Budget) -> None:
    embedder = OracleEmbedder()
    run = await Run(embedder, budget)([prepared(f"d{n}", [f"text {n}"], embedder) for n in range(400)])
    report = run.report
    assert 10_000 < report.tokens <= 20_000
    assert report.cost_usd <= 0.2
    assert len(run.embedded) + report.left == 400
    assert report.left_tokens == 400 * 101 - report.tokens
    assert report.stopped_by == str(budget)
    assert report.failures == []


async def test_a_budget_is_not_passed_by_a_service_that_counts_more_than_we_do() -> None:
    embedder = OracleEmbedder(counts=1.19)
    run = await Run(embedder, Budget(name="this run", tokens=30_000))(
        [prepared(f"d{n}", [f"text {n}"], embedder) for n in range(400)]
    )
    assert 15_000 < run.report.tokens <= 30_000


async def test_a_budget_is_not_passed_by_short_requests_of_which_the_service_counts_more_than_of_long() -> (
    None
):
    class Uneven(OracleEmbedder):
        async def embed(self, request: EmbedRequest) -> EmbedReply:
            reply = await super().embed(request)
            return reply if request.tokens >= 1_000 else replace(reply, tokens=round(reply.tokens * 1.15))

    for most in range(60_000, 70_000, 1_000):
        documents = [prepared(f"d{n}", [f"text {n}"], OracleEmbedder()) for n in range(800)]
        run = await Run(Uneven(), Budget(name="this run", tokens=most))(documents)
        assert 0.98 * most < run.report.tokens <= most


async def test_copies_of_what_a_budget_leaves_are_left_too() -> None:
    embedder = OracleEmbedder()
    copies = [prepared(f"copy {n}", ["the same"], embedder) for n in range(3)]
    run = await Run(embedder, Budget(name="this run", tokens=10))(copies)
    assert (run.report.left, run.report.left_tokens, embedder.requests) == (3, 101, [])


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


async def test_what_useless_replies_cost_counts_against_the_budget() -> None:
    class Wasteful(OracleEmbedder):
        async def embed(self, request: EmbedRequest) -> EmbedReply:
            reply = await super().embed(request)
            return replace(reply, wasted_tokens=reply.tokens, wasted_usd=reply.cost_usd)

    embedder = Wasteful()
    budget = Budget(name="this run", tokens=30_000)
    run = await Run(embedder, budget)([prepared(f"d{n}", [f"text {n}"], embedder) for n in range(400)])
    assert run.report.tokens == budget.spent_tokens == 2 * run.report.counted
    assert run.report.left > 200
    assert run.purse.calibration.ratio == 1.0, "what a token costs is not learned from waste"


async def test_a_text_that_the_service_breaks_on_costs_one_document_while_others_are_answered() -> None:
    class Breaks(OracleEmbedder):
        async def embed(self, request: EmbedRequest) -> EmbedReply:
            texts = [chunk.text for group in request.groups for chunk in group.chunks]
            if "poison" in texts:
                await anyio.sleep(0.3)  # it is asked again for a while
                raise ServiceUnavailable("500, again and again")
            return await super().embed(request)

    embedder = Breaks()
    documents = [prepared(f"d{n}", [f"text {n}"], embedder) for n in range(600)]
    documents.insert(17, prepared("bad", ["fine", "poison"], embedder))
    send, receive = anyio.create_memory_object_stream[tuple[Prepared, Known]]()
    run = Run(embedder)
    stage = EmbedStage(
        embedder=embedder, report=run.report, purse=run.purse, find=run.find, complete=run.complete
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run, receive, 3)
        async with send:
            for document in documents:
                await send.send((document, {}))
                await anyio.sleep(0.001)  # others come and are answered all the while
    assert len(run.embedded) == 600
    assert [(f.key, f.error) for f in run.report.failures] == [("bad", "ServiceUnavailable")]

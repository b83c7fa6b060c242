"""PerplexityEmbedder against the strict stand-in: what it sends, and which replies it believes."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tokens
from pipeline.embedders._http import Patience
from pipeline.embedders._pace import Pace
from pipeline.embedders.models import known_models
from pipeline.embedders.perplexity import PerplexityEmbedder
from pipeline.errors import EmbedError, InputRefused, RequestTooLarge, ServiceRefused, ServiceUnavailable
from pipeline.records import Chunk, EmbeddingSpace, EmbedGroup, EmbedLimits, EmbedRequest
from tests import embedding_service as stand_in
from tests.embedding_service import EmbeddingService, Step, flat_vectors_of, serving, vectors_of

MODEL = "pplx-embed-context-v1-0.6b"
STANDARD = "pplx-embed-v1-0.6b"
KEY = "test-key"


async def no_sleep(_seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


def embedder_at(
    transport: httpx.AsyncBaseTransport | None,
    *,
    dimensions: int = 128,
    model: str = MODEL,
    key: str = KEY,
    **more: Any,
) -> PerplexityEmbedder:
    return PerplexityEmbedder(
        model=model,
        dimensions=dimensions,
        api_key=key,
        transport=transport,
        patience=Patience(sleep=no_sleep),
        **more,
    )


def group_of(*texts: str, tokens: int = 3) -> EmbedGroup:
    chunks, start = [], 0
    for ordinal, text in enumerate(texts):
        end = start + len(text)
        chunks.append(Chunk(ordinal=ordinal, start=start, end=end, text=text, tokens=tokens))
        start = end
    return EmbedGroup(title="A title", chunks=tuple(chunks))


def request_of(*groups: Sequence[str]) -> EmbedRequest:
    return EmbedRequest(groups=tuple(group_of(*texts) for texts in groups))


THREE = request_of(["one", "two", "three"], ["four"], ["five", "six"])


@dataclass
class Recorder:
    """Answers as the stand-in does, and keeps what was sent and what came back."""

    change: Callable[[dict[str, Any]], object] = lambda _reply: None
    sent: list[dict[str, Any]] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    service: EmbeddingService = field(default_factory=EmbeddingService)

    def transport(self) -> httpx.MockTransport:
        def answer(request: httpx.Request) -> httpx.Response:
            answer = self.service.answer(request.method, request.url.path, request.headers, request.content)
            assert answer.status == 200, answer.body
            reply = json.loads(answer.body)
            self.change(reply)
            self.sent.append(json.loads(request.content))
            self.replies.append(reply)
            return httpx.Response(200, content=json.dumps(reply))

        return httpx.MockTransport(answer)


def assert_right(
    vectors: Sequence[np.ndarray[Any, Any]], request: EmbedRequest, dimensions: int = 128
) -> None:
    assert len(vectors) == len(request.groups)
    for given_vectors, group in zip(vectors, request.groups, strict=True):
        texts = [chunk.text for chunk in group.chunks]
        expected = vectors_of(texts, model=MODEL, dimensions=dimensions)
        assert given_vectors.dtype == np.int8
        assert np.array_equal(given_vectors, expected)


async def test_a_request_is_sent_as_documented() -> None:
    recorder = Recorder()
    reply = await embedder_at(recorder.transport()).embed(THREE)
    assert recorder.sent == [
        {
            "input": [["one", "two", "three"], ["four"], ["five", "six"]],
            "model": MODEL,
            "dimensions": 128,
            "encoding_format": "base64_int8",
        }
    ]
    assert_right(reply.vectors, THREE)
    assert reply.retries == 0


async def test_a_question_is_sent_to_the_same_model_as_a_document_of_one_chunk() -> None:
    recorder = Recorder()
    vector = await embedder_at(recorder.transport()).embed_query("who pays?")
    assert recorder.sent[0]["input"] == [["who pays?"]]
    assert recorder.sent[0]["model"] == MODEL
    assert np.array_equal(vector, vectors_of(["who pays?"], model=MODEL, dimensions=128)[0])
    assert vector.shape == (128,)
    assert vector.dtype == np.int8


def test_it_states_its_space_limits_and_price() -> None:
    embedder = embedder_at(None, dimensions=256)
    assert embedder.space == EmbeddingSpace(
        provider="perplexity", model=MODEL, dimensions=256, encoding="int8"
    )
    assert embedder.usd_per_million_tokens == 0.008
    assert embedder_at(None, model="my-own").usd_per_million_tokens == 0
    assert embedder_at(None, usd_per_million_tokens=0.5).usd_per_million_tokens == 0.5
    assert embedder.limits == EmbedLimits(
        group_tokens=31_000,
        group_chunks=16_000,
        request_tokens=115_000,
        request_groups=512,
        request_chunks=16_000,
    )
    assert embedder.limits.group_tokens < stand_in.MOST_DOCUMENT_TOKENS
    assert embedder.limits.request_tokens < stand_in.MOST_TOKENS


def test_a_standard_model_has_no_groups_of_several_chunks() -> None:
    limits = embedder_at(None, model=STANDARD).limits
    assert (limits.group_tokens, limits.group_chunks) == (31_000, 1)
    assert (limits.request_tokens, limits.request_groups) == (115_000, 512)
    assert embedder_at(None, model="mine", contextual=False).limits == limits
    assert embedder_at(None, model=STANDARD, contextual=True).limits == limits  # what is known is known


def test_the_known_models_are_those_of_the_stand_in() -> None:
    served = {m.name: m for m in stand_in.MODELS}
    for info in known_models():
        if info.provider == "local":
            continue
        model = served.pop(info.name)
        assert info.contextual == (model.path == stand_in.PATH)
        assert (info.least_dimensions, info.most_dimensions) == (
            model.least_dimensions,
            model.most_dimensions,
        )
        assert info.max_tokens == model.context_tokens
        assert info.usd_per_million_tokens == model.usd_per_million_tokens
    assert not served


def test_the_models_are_known_without_importing_httpx() -> None:
    code = "import sys, pipeline.embedders.perplexity; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ── Placing


async def test_bits_are_asked_for_and_kept_as_they_come() -> None:
    recorder = Recorder()
    embedder = embedder_at(recorder.transport(), encoding_format="base64_binary")
    reply = await embedder.embed(THREE)
    assert recorder.sent[0]["encoding_format"] == "base64_binary"
    assert embedder.space == EmbeddingSpace(
        provider="perplexity", model=MODEL, dimensions=128, encoding="binary"
    )
    for bits, group in zip(reply.vectors, THREE.groups, strict=True):
        codes = vectors_of([chunk.text for chunk in group.chunks], model=MODEL, dimensions=128)
        assert bits.dtype == np.uint8
        assert bits.shape == (len(group.chunks), 16)
        # The least significant bit is the first dimension's.
        assert np.array_equal(np.unpackbits(bits, axis=1, bitorder="little"), codes >= 0)


async def test_a_window_is_sent_as_one_document_and_its_own_vectors_are_kept() -> None:
    recorder = Recorder()
    chunks = group_of("zero", "one", "two", "three").chunks
    window = EmbedGroup(
        title="T", before=chunks[:1], chunks=chunks[1:3], after=chunks[3:], lead="Lead", lead_tokens=1
    )
    embedder = embedder_at(recorder.transport())
    reply = await embedder.embed(EmbedRequest(groups=(window, group_of("alone"))))
    sent = ["Lead", "zero", "one", "two", "three"]
    assert recorder.sent[0]["input"] == [sent, ["alone"]]
    assert embedder.reads(window) == sent
    expected = vectors_of(sent, model=MODEL, dimensions=128)
    assert np.array_equal(reply.vectors[0], expected[2:4])
    assert np.array_equal(reply.vectors[1], vectors_of(["alone"], model=MODEL, dimensions=128))


async def test_a_standard_model_is_sent_texts_each_with_its_lead() -> None:
    recorder = Recorder()
    embedder = embedder_at(recorder.transport(), model=STANDARD)
    (chunk,) = group_of("a text").chunks
    led = EmbedGroup(title="T", chunks=(chunk,), lead="T\nA heading", lead_tokens=3)
    reply = await embedder.embed(EmbedRequest(groups=(led, group_of("bare"))))
    assert recorder.sent == [
        {
            "input": ["T\nA heading\n\na text", "bare"],
            "model": STANDARD,
            "dimensions": 128,
            "encoding_format": "base64_int8",
        }
    ]
    expected = flat_vectors_of(recorder.sent[0]["input"], model=STANDARD, dimensions=128)
    assert [vectors.tolist() for vectors in reply.vectors] == [[row] for row in expected.tolist()]
    assert embedder.reads(led) == ["T\nA heading\n\na text"]


async def test_a_question_to_a_standard_model_is_a_text() -> None:
    recorder = Recorder()
    vector = await embedder_at(recorder.transport(), model=STANDARD).embed_query("who pays?")
    assert recorder.sent[0]["input"] == ["who pays?"]
    assert np.array_equal(vector, flat_vectors_of(["who pays?"], model=STANDARD, dimensions=128)[0])


async def test_the_fullest_request_to_a_standard_model_keeps_to_its_limits() -> None:
    service = EmbeddingService(count=lambda _text: 3)
    embedder = embedder_at(service.transport(), model=STANDARD)
    groups = tuple(
        EmbedGroup(title="T", chunks=group_of(f"text {n}").chunks, lead="T", lead_tokens=1)
        for n in range(embedder.limits.request_groups)
    )
    assert sum(group.parts for group in groups) <= embedder.limits.request_chunks
    reply = await embedder.embed(EmbedRequest(groups=groups))
    assert len(reply.vectors) == 512
    assert not service.refused


@pytest.mark.parametrize("seed", range(5))
async def test_vectors_are_placed_by_index_and_not_by_position(seed: int) -> None:
    request = request_of(*([f"chunk {place} of {size}" for place in range(size)] for size in range(1, 9)))
    recorder = Recorder(service=EmbeddingService(seed=seed))
    reply = await embedder_at(recorder.transport()).embed(request)
    places = [item["index"] for item in recorder.replies[0]["data"]]
    assert places != sorted(places)
    assert_right(reply.vectors, request)


@given(shape=st.lists(st.integers(1, 6), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_every_shape_of_request_comes_back_in_order(shape: list[int], seed: int) -> None:
    request = request_of(*([f"{place}/{group}" for place in range(size)] for group, size in enumerate(shape)))
    service = EmbeddingService(seed=seed)

    async def embed() -> None:
        reply = await embedder_at(service.transport()).embed(request)
        assert_right(reply.vectors, request)

    anyio.run(embed)


async def test_fields_that_are_not_needed_may_be_missing() -> None:
    def bare(reply: dict[str, Any]) -> None:
        data = [
            {
                "index": document["index"],
                "data": [{k: item[k] for k in ("index", "embedding")} for item in document["data"]],
            }
            for document in reply["data"]
        ]
        reply.clear()
        reply["data"] = data

    reply = await embedder_at(Recorder(change=bare).transport()).embed(THREE)
    assert_right(reply.vectors, THREE)


async def test_an_index_may_be_missing_where_there_is_one_place() -> None:
    def bare(reply: dict[str, Any]) -> None:
        del reply["data"][0]["index"], reply["data"][0]["data"][0]["index"]

    vector = await embedder_at(Recorder(change=bare).transport()).embed_query("one")
    assert np.array_equal(vector, vectors_of(["one"], model=MODEL, dimensions=128)[0])


# ── Replies that do not add up


def first(reply: dict[str, Any]) -> dict[str, Any]:
    """Chunk 0 of document 0, wherever it stands."""
    document = next(item for item in reply["data"] if item["index"] == 0)
    chunk: dict[str, Any] = next(item for item in document["data"] if item["index"] == 0)
    return chunk


def twice_the_same_index(reply: dict[str, Any]) -> None:
    reply["data"][0]["index"] = reply["data"][1]["index"]


def a_chunk_elsewhere(reply: dict[str, Any]) -> None:
    first(reply)["index"] = 3


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "empty data": (lambda reply: reply.update(data=[]), "the reply: expected 3 items, came 0"),
    "no data": (lambda reply: reply.pop("data"), "the reply: expected 3 items, came none"),
    "data is no list": (lambda reply: reply.update(data={"0": 1}), "expected 3 items, came none"),
    "a document too few": (lambda reply: reply["data"].pop(), "expected 3 items, came 2"),
    "a document too many": (lambda reply: reply["data"].append(reply["data"][0]), "expected 3 items, came 4"),
    "a document twice": (twice_the_same_index, "expected each index from 0 to 2 once"),
    "an index too high": (a_chunk_elsewhere, "document 0: expected each index from 0 to 2 once, came 3"),
    "an index below 0": (lambda reply: first(reply).update(index=-1), "came -1"),
    "no index": (lambda reply: first(reply).pop("index"), "came NoneType"),
    "an index that is text": (lambda reply: first(reply).update(index="0"), "came str"),
    "an index that is true": (lambda reply: first(reply).update(index=True), "came True"),
    "items that are no objects": (lambda reply: reply.update(data=[1, 2, 3]), "came NoneType"),
    "no embedding": (
        lambda reply: first(reply).pop("embedding"),
        "chunk 0 of document 0: expected base64, came NoneType",
    ),
    "floats": (lambda reply: first(reply).update(embedding=[0.5] * 128), "expected base64, came list"),
    "no base64": (lambda reply: first(reply).update(embedding="not base64!"), "expected base64, came"),
    "base64 that ends early": (lambda reply: first(reply).update(embedding="QUJ"), "expected base64, came"),
    "a byte too few": (
        lambda reply: first(reply).update(embedding=base64.b64encode(b"x" * 127).decode()),
        "chunk 0 of document 0: expected 128 bytes, came 127 bytes",
    ),
    "the full width": (
        lambda reply: first(reply).update(embedding=base64.b64encode(b"x" * 1024).decode()),
        "expected 128 bytes, came 1024 bytes",
    ),
    "all zeros": (
        lambda reply: first(reply).update(embedding=base64.b64encode(bytes(128)).decode()),
        "chunk 0 of document 0: expected a vector, came all zeros",
    ),
    "another model": (
        lambda reply: reply.update(model="pplx-embed-context-v1-4b"),
        "expected model pplx-embed-context-v1-0.6b, came model pplx-embed-context-v1-4b",
    ),
}


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        (bytes(16), "chunk 0 of document 0: expected a vector, came all zeros"),
        (b"x" * 128, "chunk 0 of document 0: expected 16 bytes, came 128 bytes"),
        (b"x" * 15, "expected 16 bytes, came 15 bytes"),
    ],
)
async def test_bits_that_do_not_add_up_are_not_believed(spoilt: bytes, told: str) -> None:
    recorder = Recorder(change=lambda reply: first(reply).update(embedding=base64.b64encode(spoilt).decode()))
    with pytest.raises(ServiceUnavailable, match=told):
        await embedder_at(recorder.transport(), encoding_format="base64_binary").embed(THREE)


@pytest.mark.parametrize("other", ["pplx-embed-v1-0.6b", "perplexity/pplx-embed-v1-4b", "PPLX-embed-v1-4b"])
async def test_vectors_of_a_model_without_context_are_not_believed(other: str) -> None:
    """They have the same width, and rank badly without any error."""
    recorder = Recorder(change=lambda reply: reply.update(model=other))
    with pytest.raises(ServiceUnavailable, match=f"expected model {MODEL}, came model {other}"):
        await embedder_at(recorder.transport()).embed(THREE)


async def test_a_server_may_call_the_model_something_of_its_own() -> None:
    recorder = Recorder(change=lambda reply: reply.update(model="/models/pplx-embed-context"))
    assert_right((await embedder_at(recorder.transport()).embed(THREE)).vectors, THREE)


@pytest.mark.parametrize("name", WRONG)
async def test_a_reply_that_does_not_add_up_is_not_believed(name: str) -> None:
    change, told = WRONG[name]
    recorder = Recorder(change=change)
    with pytest.raises(ServiceUnavailable) as caught:
        await embedder_at(recorder.transport()).embed(THREE)
    assert told in str(caught.value)
    assert "Perplexity" in str(caught.value)
    assert len(recorder.sent) == 5  # asked again, but not for ever: it may be paid for


SPOILT = [
    stand_in.EMPTY_DATA,
    stand_in.MISSING_DOCUMENT,
    stand_in.MISSING_CHUNK,
    stand_in.WRONG_INDEX,
    stand_in.SHORT_VECTOR,
    stand_in.ZERO_VECTOR,
    stand_in.OTHER_MODEL,
    stand_in.TRUNCATED,
    stand_in.DROPPED,
    stand_in.error_with_200(),
    stand_in.status(429, retry_after="1"),
    stand_in.status(503),
    stand_in.status(529),
]


async def test_after_every_kind_of_fault_the_vectors_are_right() -> None:
    """Each fault alone, then three at a time in random order."""
    faults = random.Random(3)
    for script in [[step] for step in SPOILT] + [faults.choices(SPOILT, k=3) for _ in range(30)]:
        service = EmbeddingService(script=script)
        reply = await embedder_at(service.transport()).embed(THREE)
        assert_right(reply.vectors, THREE)
        assert reply.retries == len(script)
        assert len(service.requests) == len(script) + 1


async def test_an_answer_that_is_too_slow_is_asked_for_again() -> None:
    service = EmbeddingService(script=[Step(delay_seconds=30)])
    with anyio.fail_after(10):
        reply = await embedder_at(service.transport(), timeout_seconds=0.5).embed(THREE)
    assert_right(reply.vectors, THREE)
    assert reply.retries == 1


# ── Refusals


async def test_a_document_over_the_limit_comes_back_as_too_large() -> None:
    service = EmbeddingService(count=len)
    with pytest.raises(RequestTooLarge, match="document 1 has 32001 tokens, the limit is 32000"):
        await embedder_at(service.transport()).embed(request_of(["a"], ["b" * 32_001]))
    assert len(service.requests) == 1


async def test_a_request_over_the_limit_comes_back_as_too_large() -> None:
    service = EmbeddingService(count=len)
    with pytest.raises(RequestTooLarge, match="the request has 120004 tokens"):
        await embedder_at(service.transport()).embed(request_of(*(["b" * 30_001] for _ in range(4))))


async def test_a_bad_key_is_told_by_the_name_of_its_variable() -> None:
    service = EmbeddingService()
    with pytest.raises(ServiceRefused, match="401: Invalid API key provided; check PERPLEXITY_API_KEY"):
        await embedder_at(service.transport(), key="another-key").embed(THREE)
    assert len(service.requests) == 1


@pytest.mark.parametrize(("model", "dimensions"), [("no-such-model", 128), (MODEL, 1025), (MODEL, 127)])
async def test_a_setting_that_the_service_refuses_stops_everything(model: str, dimensions: int) -> None:
    with pytest.raises(ServiceRefused, match="check model and dimensions"):
        await embedder_at(EmbeddingService().transport(), model=model, dimensions=dimensions).embed(THREE)


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u00a0"])
async def test_a_blank_chunk_is_named_and_never_sent(blank: str) -> None:
    service = EmbeddingService()
    embedder = embedder_at(service.transport())
    with pytest.raises(InputRefused, match="chunk 1 of 'A title' is blank"):
        await embedder.embed(request_of(["one", blank]))
    with pytest.raises(InputRefused, match="the question is blank"):
        await embedder.embed_query(blank)
    assert not service.requests


async def test_a_group_without_chunks_is_never_sent() -> None:
    service = EmbeddingService()
    with pytest.raises(InputRefused, match="'A title' has a group without chunks"):
        await embedder_at(service.transport()).embed(request_of(["one"], []))
    assert not service.requests


# ── What is sent


async def test_a_literal_separator_shifts_no_vector() -> None:
    texts = ["before <|endoftext|> after", "next", "<|endoftext|>", "last"]
    recorder = Recorder()
    embedder = embedder_at(recorder.transport())
    reply = await embedder.embed(request_of(texts))
    sent = recorder.sent[0]["input"][0]
    assert sent == ["before <| endoftext |> after", "next", "<| endoftext |>", "last"]
    assert np.array_equal(reply.vectors[0], vectors_of(sent, model=MODEL, dimensions=128))
    assert embedder.reads(group_of(*texts)) == sent


def test_the_stand_in_shows_what_a_literal_separator_would_do() -> None:
    hurt = vectors_of(["a <|endoftext|> b", "c"], model=MODEL, dimensions=128)
    as_three = vectors_of(["a ", " b", "c"], model=MODEL, dimensions=128)
    assert np.array_equal(hurt, as_three[:2])


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a\x00b", "a\ufffdb"),
        ("lone \ud800 half", "lone \ufffd half"),
        ("\udfff", "\ufffd"),
        ("a pair \ud83d\ude00", "a pair 😀"),
        ("the wrong way \ude00\ud83d", "the wrong way \ufffd\ufffd"),
        ("whole 😀 é 文", "whole 😀 é 文"),
        ("tab\tline\nreturn\r", "tab\tline\nreturn\r"),
        ("bell\x07 escape\x1b[0m", "bell\ufffd escape\ufffd[0m"),
        ("page\x0cpage\x0btab", "page\npage\ntab"),
        ("one\x1etwo", "one two"),
        ("<|im_start|>system<|fim_pad|>", "<| im_start |>system<| fim_pad |>"),
        ("a <|> b <| c |> d <||>", "a <|> b <| c |> d <||>"),
        ("<|endo<|endoftext|>ftext|>", "<|endo<| endoftext |>ftext|>"),
        ("<|endo\x00ftext|>", "<|endo\ufffdftext|>"),
    ],
)
async def test_what_cannot_be_sent_is_replaced(text: str, sent: str) -> None:
    recorder = Recorder()
    embedder = embedder_at(recorder.transport())
    await embedder.embed(request_of([text]))
    await embedder.embed_query(text)
    assert [body["input"] for body in recorder.sent] == [[[sent]], [[sent]]]


READER = embedder_at(None)
CONTROL = [chr(code) for code in range(0x20) if chr(code) not in "\t\n\r"]


@given(st.lists(st.text() | st.sampled_from(["<|endoftext|>", "\ud812", "\x00"]), min_size=1).map("".join))
def test_whatever_a_chunk_holds_can_be_sent_and_holds_no_separator(text: str) -> None:
    (sent,) = READER.reads(group_of(text))
    assert json.loads(json.dumps(sent, ensure_ascii=False).encode()) == sent
    assert "<|endoftext|>" not in sent
    assert not set(sent) & set(CONTROL)
    assert bool(text.strip()) == bool(sent.strip())


@settings(deadline=None)  # the first count reads the vocabulary
@given(
    st.lists(
        st.sampled_from(["<|endoftext|>", "<|im_start|>", *CONTROL, "\ud812", "word ", "文"]), max_size=40
    ).map("".join)
)
def test_what_is_sent_has_hardly_more_tokens_than_what_was_counted(text: str) -> None:
    """A lone surrogate apart, which no count knows."""
    (sent,) = READER.reads(group_of(text))
    readable = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert tokens.count(sent) <= tokens.count(readable) + text.count("<|")


# ── Tokens and money


async def test_tokens_and_cost_are_those_of_the_reply() -> None:
    def usage(reply: dict[str, Any]) -> None:
        reply["usage"] = {"prompt_tokens": 1234, "total_tokens": 9999, "cost": {"total_cost": 0.5}}

    reply = await embedder_at(Recorder(change=usage).transport()).embed(THREE)
    assert (reply.tokens, reply.cost_usd) == (1234, 0.5)


@pytest.mark.parametrize(
    ("usage", "tokens", "cost"),
    [
        ({"total_tokens": 2000}, 2000, 2000 * 0.008e-6),
        ({"prompt_tokens": 2000}, 2000, 2000 * 0.008e-6),
        ({"prompt_tokens": 2000, "cost": None}, 2000, 2000 * 0.008e-6),
        ({"prompt_tokens": 2000, "cost": {}}, 2000, 2000 * 0.008e-6),
        ({"prompt_tokens": 2000, "cost": {"total_cost": "much"}}, 2000, 2000 * 0.008e-6),
        ({"prompt_tokens": 2000, "cost": {"total_cost": -1}}, 2000, 2000 * 0.008e-6),
        ({"prompt_tokens": 2000, "cost": {"total_cost": float("nan")}}, 2000, 2000 * 0.008e-6),
        ({"prompt_tokens": 2000, "cost": {"total_cost": 3, "currency": "EUR"}}, 2000, 2000 * 0.008e-6),
        ({"prompt_tokens": 2000, "cost": {"total_cost": 3, "currency": "USD"}}, 2000, 3),
        ({"prompt_tokens": 2000, "cost": {"total_cost": 0}}, 2000, 0),
        ({"cost": {"total_cost": 3}}, 24, 3),
        ({}, 24, 24 * 0.008e-6),
        ({"prompt_tokens": "many"}, 24, 24 * 0.008e-6),
        (None, 24, 24 * 0.008e-6),
        ("gone", 24, 24 * 0.008e-6),
    ],
)
async def test_where_the_reply_does_not_tell_our_own_count_and_price_serve(
    usage: object, tokens: int, cost: float
) -> None:
    recorder = Recorder(change=lambda reply: reply.update(usage=usage))
    reply = await embedder_at(recorder.transport()).embed(THREE)  # 6 chunks of 3 tokens each, and a separator
    assert reply.tokens == tokens
    assert reply.cost_usd == pytest.approx(cost)


async def test_a_short_key_that_stands_in_the_vectors_does_not_spoil_them() -> None:
    service = EmbeddingService(api_key="A")
    reply = await embedder_at(service.transport(), key="A").embed(THREE)
    expected = await embedder_at(EmbeddingService(api_key=KEY).transport()).embed(THREE)
    for got, wanted in zip(reply.vectors, expected.vectors, strict=True):
        assert (got == wanted).all()


# ── Over a real connection


async def test_over_http_the_vectors_are_right_through_every_fault() -> None:
    service = EmbeddingService(script=SPOILT)
    with serving(service) as base_url:
        embedder = embedder_at(None, base_url=base_url)
        vectors: list[Sequence[np.ndarray[Any, Any]]] = []

        async def embed() -> None:
            vectors.append((await embedder.embed(THREE)).vectors)

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(embed)
        await embedder.aclose()
    for each in vectors:
        assert_right(each, THREE)
    assert len(vectors) == 8
    assert len(service.requests) == 8 + len(SPOILT)


async def test_a_service_that_is_not_there_is_told_with_its_address() -> None:
    with serving(EmbeddingService()) as base_url:
        pass
    embedder = PerplexityEmbedder(
        model=MODEL,
        dimensions=128,
        api_key=KEY,
        base_url=base_url,
        patience=Patience(total_seconds=0.1),
    )
    with pytest.raises(ServiceUnavailable, match=base_url.removeprefix("http://")):
        await embedder.embed(THREE)
    await embedder.aclose()


@pytest.mark.parametrize(
    "step", [stand_in.status(401, f"no {KEY}"), stand_in.status(500, f"no {KEY}"), stand_in.DROPPED]
)
async def test_over_http_the_key_is_in_no_error(step: Step) -> None:
    service = EmbeddingService(script=[step] * 50)
    with serving(service) as base_url:
        embedder = PerplexityEmbedder(
            model=MODEL, dimensions=128, api_key=KEY, base_url=base_url, patience=Patience(total_seconds=0.3)
        )
        with pytest.raises(EmbedError) as caught:
            await embedder.embed(THREE)
        await embedder.aclose()
    link: BaseException | None = caught.value
    while link:
        assert KEY not in str(link) + repr(link) + repr(vars(link))
        assert not isinstance(link, httpx.HTTPError)
        link = link.__cause__ or link.__context__
    assert KEY not in repr(embedder) + repr(vars(embedder))


async def test_the_largest_reply_is_read() -> None:
    """16,000 chunks in 512 groups: 2.7 MB of codes."""
    request = request_of(*([f"{group}.{place}" for place in range(31)] for group in range(512)))
    service = EmbeddingService(count=lambda _text: 3)
    reply = await embedder_at(service.transport()).embed(request)
    assert_right(reply.vectors, request)
    assert service.requests[0].chunks == 15_872


async def test_replies_that_could_not_be_used_are_counted_as_paid_for_apart() -> None:
    service = EmbeddingService(script=[stand_in.ZERO_VECTOR, stand_in.SHORT_VECTOR])
    embedder = embedder_at(service.transport())
    reply = await embedder.embed(EmbedRequest(groups=(group_of("one", "two"),)))
    await embedder.aclose()
    assert reply.retries == 2
    assert reply.wasted_tokens == 2 * reply.tokens > 0
    assert reply.wasted_usd == pytest.approx(2 * reply.cost_usd)


async def test_an_error_tells_what_was_paid_for_useless_replies() -> None:
    service = EmbeddingService(script=[stand_in.ZERO_VECTOR] * 9)
    embedder = embedder_at(service.transport())
    with pytest.raises(ServiceUnavailable) as raised:
        await embedder.embed(EmbedRequest(groups=(group_of("one", "two"),)))
    await embedder.aclose()
    answered = [seen for seen in service.requests if seen.status == 200]
    assert raised.value.wasted_tokens == sum(seen.tokens for seen in answered) > 0
    assert raised.value.wasted_usd > 0


async def test_a_request_holds_no_more_than_may_be_sent_in_a_minute() -> None:
    service = EmbeddingService()
    free, slow = (
        embedder_at(service.transport(), pace=Pace(4, tokens_per_minute=most)) for most in (None, 20_000)
    )
    assert free.limits.request_tokens > 100_000
    assert slow.limits == dataclasses.replace(free.limits, request_tokens=20_000)
    await free.aclose()
    await slow.aclose()


@pytest.mark.parametrize(
    ("key", "advice"), [("wrong", "check embedding.api_key"), ("", "no key was sent: set embedding.api_key")]
)
async def test_a_key_that_is_refused_is_told_by_where_it_is_kept(key: str, advice: str) -> None:
    embedder = embedder_at(EmbeddingService().transport(), key=key, key_name="embedding.api_key")
    with pytest.raises(ServiceRefused, match=advice):
        await embedder.embed(EmbedRequest(groups=(group_of("one"),)))
    await embedder.aclose()

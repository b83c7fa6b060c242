"""OpenRouterEmbedder against the strict stand-in: what it sends, and which replies it believes."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.embedders import openrouter
from pipeline.embedders._http import Patience
from pipeline.embedders._reply import Asked
from pipeline.embedders.models import ModelInfo
from pipeline.embedders.openrouter import (
    QWEN_TASK,
    OpenRouterEmbedder,
    Options,
    default_instruction,
    list_models,
    model_limits,
)
from pipeline.errors import (
    EmbedError,
    InputRefused,
    RequestTooLarge,
    ServiceRefused,
    ServiceUnavailable,
    SettingsError,
)
from pipeline.records import EmbeddingSpace, EmbedGroup, EmbedLimits, EmbedRequest, JsonValue, Vector
from tests import embedding_service as stand_in
from tests.embedding_service import EmbeddingService, Step, float_vectors_of, serving
from tests.fakes import chunk_of

PPLX = "perplexity/pplx-embed-v1-4b"
QWEN = "qwen/qwen3-embedding-4b"
KEY = "test-key"


async def no_sleep(_seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


def embedder_at(
    transport: httpx.AsyncBaseTransport | None, *, model: str = PPLX, dimensions: int = 128, **more: Any
) -> OpenRouterEmbedder:
    return OpenRouterEmbedder(
        model=model,
        dimensions=dimensions,
        api_key=KEY,
        transport=transport,
        patience=Patience(sleep=no_sleep),
        **more,
    )


def group_of(text: str, lead: str = "") -> EmbedGroup:
    return EmbedGroup(title="T", chunks=(chunk_of(text, tokens=3),), lead=lead, lead_tokens=len(lead) // 3)


TEXTS = ("one", "two", "three")
THREE = EmbedRequest(groups=tuple(map(group_of, TEXTS)))


@dataclass
class Recorder:
    """Answers as the stand-in does, and keeps what was sent."""

    change: Callable[[dict[str, Any]], object] = lambda _reply: None
    requests: list[httpx.Request] = field(default_factory=list)
    service: EmbeddingService = field(default_factory=EmbeddingService)

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]

    def transport(self) -> httpx.MockTransport:
        def answer(request: httpx.Request) -> httpx.Response:
            answer = self.service.answer(request.method, request.url.path, request.headers, request.content)
            assert answer.status == 200, answer.body
            reply = json.loads(answer.body)
            self.change(reply)
            self.requests.append(request)
            return httpx.Response(200, content=json.dumps(reply))

        return httpx.MockTransport(answer)


def unit(texts: tuple[str, ...], model: str = PPLX, dimensions: int = 128, input_type: str = "") -> Vector:
    """What is to be kept of these texts' vectors."""
    floats = float_vectors_of(texts, model=model, dimensions=dimensions, input_type=input_type)
    wide = floats.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16)


def assert_right(vectors: tuple[Vector, ...], expected: Vector) -> None:
    assert all(each.dtype == np.float16 for each in vectors)
    together = np.concatenate(vectors)
    assert together.shape == expected.shape
    # The stand-in writes decimal numbers, which are not exactly those of its 32-bit floats.
    assert np.abs(together.astype(float) - expected.astype(float)).max() <= 2**-13


# ── What is sent


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
async def test_a_request_is_sent_as_documented(encoding_format: Any) -> None:
    recorder = Recorder()
    embedder = embedder_at(recorder.transport(), options=Options(encoding_format=encoding_format))
    reply = await embedder.embed(THREE)
    (request,) = recorder.requests
    assert str(request.url) == "https://openrouter.ai/api/v1/embeddings"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert not {"HTTP-Referer", "X-Title"} & set(request.headers)
    assert recorder.sent == [
        {"input": [*TEXTS], "model": PPLX, "dimensions": 128, "encoding_format": encoding_format}
    ]
    assert [vectors.shape for vectors in reply.vectors] == [(1, 128)] * 3
    assert_right(reply.vectors, unit(TEXTS))


async def test_floats_and_base64_give_the_same_vectors() -> None:
    """They are no different spaces: what was paid for in one need not be paid for in the other."""
    service = EmbeddingService()
    embedders = [
        embedder_at(service.transport(), options=Options(encoding_format=form))
        for form in ("float", "base64")
    ]
    assert embedders[0].space == embedders[1].space
    assert embedders[0].recipe == embedders[1].recipe
    assert [*embedders[0].reads(group_of("x"))] == [*embedders[1].reads(group_of("x"))]
    one, other = [await embedder.embed(THREE) for embedder in embedders]
    difference = np.concatenate(one.vectors).astype(float) - np.concatenate(other.vectors).astype(float)
    assert np.abs(difference).max() <= 2**-13


async def test_everything_that_may_be_said_is_sent() -> None:
    recorder = Recorder()
    routing: dict[str, JsonValue] = {"sort": "latency", "order": ["deepinfra"], "allow_fallbacks": False}
    options = Options(
        input_type=True,
        routing=routing,
        user="somebody",
        referer="https://example.org",
        app_title="Docweave",
    )
    embedder = embedder_at(recorder.transport(), options=options)
    reply = await embedder.embed(THREE)
    vector = await embedder.embed_query("who pays?")
    common = {
        "model": PPLX,
        "dimensions": 128,
        "encoding_format": "float",
        "provider": routing,
        "user": "somebody",
    }
    assert recorder.sent == [
        {"input": [*TEXTS], "input_type": "search_document", **common},
        {"input": ["who pays?"], "input_type": "search_query", **common},
    ]
    for request in recorder.requests:
        assert request.headers["HTTP-Referer"] == "https://example.org"
        assert request.headers["X-Title"] == "Docweave"
    assert_right(reply.vectors, unit(TEXTS, input_type="search_document"))
    assert_right((vector[None],), unit(("who pays?",), input_type="search_query"))


async def test_the_type_of_documents_is_part_of_what_their_vectors_depend_on() -> None:
    plain, typed = embedder_at(None), embedder_at(None, options=Options(input_type=True))
    assert plain.reads(group_of("x")) == ["x"]
    assert typed.reads(group_of("x")) == ["input_type=search_document", "x"]
    assert "input_type=search_document" in typed.recipe
    assert typed.recipe != plain.recipe


async def test_what_concerns_questions_or_routing_makes_no_document_stale() -> None:
    plain = embedder_at(None)
    other = embedder_at(
        None, options=Options(query_instruction="Find it", routing={"sort": "price"}, user="u", app_title="t")
    )
    assert other.recipe == plain.recipe
    assert other.reads(group_of("x", "L")) == plain.reads(group_of("x", "L"))


async def test_each_chunk_is_sent_with_its_lead_in_front_of_it() -> None:
    recorder = Recorder()
    group = group_of("a text", lead="The book\nChapter 1")
    embedder = embedder_at(recorder.transport())
    await embedder.embed(EmbedRequest(groups=(group, group_of("bare"))))
    assert recorder.sent[0]["input"] == ["The book\nChapter 1\n\na text", "bare"]
    assert embedder.reads(group) == ["The book\nChapter 1\n\na text"]


async def test_a_question_to_qwen_is_put_as_its_card_says() -> None:
    recorder = Recorder()
    embedder = embedder_at(recorder.transport(), model=QWEN, options=Options(query_instruction=QWEN_TASK))
    await embedder.embed_query("who pays?")
    await embedder.embed(EmbedRequest(groups=(group_of("who pays?"),)))
    asked, document = (body["input"] for body in recorder.sent)
    task = "Given a web search query, retrieve relevant passages that answer the query"
    assert asked == [f"Instruct: {task}\nQuery:who pays?"]
    assert document == ["who pays?"]


def test_only_qwens_embedding_models_are_given_a_task_by_themselves() -> None:
    assert default_instruction(QWEN) == default_instruction("Qwen/Qwen3-Embedding-8B") == QWEN_TASK
    assert default_instruction(PPLX) == default_instruction("qwen/qwen3-32b") == ""


async def test_dimensions_are_not_sent_where_they_are_not_to_be() -> None:
    recorder = Recorder()
    options = Options(send_dimensions=False)
    await embedder_at(recorder.transport(), dimensions=2560, options=options).embed(THREE)
    assert "dimensions" not in recorder.sent[0]


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u00a0"])
async def test_a_blank_text_is_never_sent(blank: str) -> None:
    service = EmbeddingService()
    embedder = embedder_at(service.transport())
    with pytest.raises(InputRefused, match="chunk 0 of 'T' is blank"):
        await embedder.embed(EmbedRequest(groups=(group_of("one"), group_of(blank, lead="A lead"))))
    with pytest.raises(InputRefused, match="the question is blank"):
        await embedder.embed_query(blank)
    assert not service.requests


# ── Space, limits, price


def test_it_states_its_space_limits_and_price() -> None:
    embedder = embedder_at(None)
    assert embedder.space == EmbeddingSpace(
        provider="openrouter", model=PPLX, dimensions=128, encoding="float16"
    )
    assert embedder.limits == EmbedLimits(
        group_tokens=31_000,
        group_chunks=1,
        request_tokens=115_000,
        request_groups=512,
        request_chunks=1024,
    )
    assert embedder.usd_per_million_tokens == 0.03
    assert embedder_at(None, model=QWEN).usd_per_million_tokens == 0.02
    assert embedder_at(None, model=QWEN, usd_per_million_tokens=0.01).usd_per_million_tokens == 0.01
    assert embedder_at(None, model="some/other").usd_per_million_tokens == 0


def test_limits_are_kept_below_what_is_documented() -> None:
    limits = model_limits("some/other", max_tokens=8192, request_tokens=24_000, request_texts=32)
    assert (limits.group_tokens, limits.request_tokens) == (7936, 23_000)
    assert (limits.request_groups, limits.request_chunks) == (32, 64)
    assert model_limits("some/other", request_tokens=2400).group_tokens == 2300


async def test_the_fullest_request_is_read() -> None:
    service = EmbeddingService(count=lambda _text: 3)
    request = EmbedRequest(groups=tuple(group_of(f"text {n}", "L") for n in range(512)))
    reply = await embedder_at(
        service.transport(), dimensions=2560, options=Options(encoding_format="base64")
    ).embed(request)
    assert len(reply.vectors) == 512
    assert not service.refused


# ── Replies


@pytest.mark.parametrize("seed", range(5))
async def test_vectors_are_placed_by_index_and_not_by_position(seed: int) -> None:
    texts = tuple(f"text {n}" for n in range(20))
    embedder = embedder_at(EmbeddingService(seed=seed).transport())
    reply = await embedder.embed(EmbedRequest(groups=tuple(map(group_of, texts))))
    assert_right(reply.vectors, unit(texts))


async def test_where_no_item_has_an_index_they_are_in_the_order_of_the_texts() -> None:
    def bare(reply: dict[str, Any]) -> None:
        items = sorted(reply["data"], key=lambda item: item["index"])
        reply.clear()
        reply["data"] = [{"embedding": item["embedding"]} for item in items]

    reply = await embedder_at(Recorder(change=bare).transport()).embed(THREE)
    assert_right(reply.vectors, unit(TEXTS))
    assert (reply.tokens, reply.cost_usd) == (12, pytest.approx(12 * 0.03e-6))


async def test_an_upstream_may_write_vectors_in_the_other_form() -> None:
    def as_floats(reply: dict[str, Any]) -> None:
        for item in reply["data"]:
            data = base64.b64decode(item["embedding"])
            item["embedding"] = [number for (number,) in struct.iter_unpack("<f", data)]

    recorder = Recorder(change=as_floats)
    options = Options(encoding_format="base64")
    reply = await embedder_at(recorder.transport(), options=options).embed(THREE)
    assert_right(reply.vectors, unit(TEXTS))


def item(reply: dict[str, Any]) -> dict[str, Any]:
    """That of text 0, wherever it stands."""
    found: dict[str, Any] = next(one for one in reply["data"] if one.get("index") == 0)
    return found


def set_embedding(value: object) -> Callable[[dict[str, Any]], object]:
    return lambda reply: item(reply).update(embedding=value)


def packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


NAN, INF = float("nan"), float("inf")
WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "empty data": (lambda reply: reply.update(data=[]), "the reply: expected 3 items, came 0"),
    "no data": (lambda reply: reply.pop("data"), "expected 3 items, came none"),
    "one too few": (lambda reply: reply["data"].pop(), "expected 3 items, came 2"),
    "one too many": (lambda reply: reply["data"].append(reply["data"][0]), "expected 3 items, came 4"),
    "one without an index": (lambda reply: item(reply).pop("index"), "came NoneType"),
    "an index twice": (lambda reply: item(reply).update(index=1), "each index from 0 to 2 once, came 1"),
    "an index too high": (lambda reply: item(reply).update(index=3), "came 3"),
    "no embedding": (set_embedding(None), "text 0: expected numbers, came NoneType"),
    "an object": (set_embedding({"0": 1}), "expected numbers, came dict"),
    "no numbers": (set_embedding([]), "expected 128 numbers, came 0 numbers"),
    "a number too few": (set_embedding([0.5] * 127), "expected 128 numbers, came 127 numbers"),
    "the full width": (set_embedding([0.5] * 2560), "expected 128 numbers, came 2560 numbers"),
    "a list of lists": (set_embedding([[0.5] * 128]), "expected 128 numbers, came 1 numbers"),
    "texts": (set_embedding(["0.5"] * 128), "expected numbers, came something else among them"),
    "a null": (set_embedding([None] + [0.5] * 127), "something else among them"),
    "a truth": (set_embedding([True] + [0.5] * 127), "something else among them"),
    "a number without bounds": (set_embedding([10**400] + [0.5] * 127), "came one without bounds"),
    "NaN": (set_embedding([NAN] + [0.5] * 127), "text 0: expected finite numbers"),
    "infinity": (set_embedding([-INF] + [0.5] * 127), "expected finite numbers"),
    "all zeros": (set_embedding([0.0] * 128), "text 0: expected a vector, came all zeros"),
    "all zeros, and whole": (set_embedding([0] * 128), "came all zeros"),
    "no base64": (set_embedding("not base64!"), "expected base64, came"),
    "bytes too few": (set_embedding(packed([0.5] * 127)), "expected 512 bytes, came 508 bytes"),
    "NaN in base64": (set_embedding(packed([NAN] + [0.5] * 127)), "expected finite numbers"),
    "all zeros in base64": (set_embedding(packed([0.0] * 128)), "came all zeros"),
    "another model": (lambda reply: reply.update(model=QWEN), f"came model {QWEN}"),
    "another model as its maker spells it": (
        lambda reply: reply.update(model="Qwen/Qwen3-Embedding-4B"),
        "came model Qwen/Qwen3-Embedding-4B",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_reply_that_does_not_add_up_is_not_believed(name: str) -> None:
    change, told = WRONG[name]
    recorder = Recorder(change=change)
    with pytest.raises(ServiceUnavailable) as caught:
        await embedder_at(recorder.transport()).embed(THREE)
    assert told in str(caught.value)
    assert "OpenRouter's reply does not add up" in str(caught.value)
    assert len(recorder.requests) == 5  # asked again, but not for ever: it may be paid for


@pytest.mark.parametrize("model", ["pplx-embed-v1-4b", "Perplexity/PPLX-embed-v1-4b", "vendor/own-name", 7])
async def test_the_model_may_be_spelt_as_the_upstream_does(model: object) -> None:
    recorder = Recorder(change=lambda reply: reply.update(model=model))
    assert_right((await embedder_at(recorder.transport()).embed(THREE)).vectors, unit(TEXTS))


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**300), 10**300)


@given(st.lists(numbers, min_size=8, max_size=8).filter(any))
def test_whatever_numbers_come_a_vector_of_unit_length_is_kept(embedding: list[float]) -> None:
    space = EmbeddingSpace(provider="openrouter", model=PPLX, dimensions=8, encoding="float16")
    asked = Asked(service="OpenRouter", space=space, shape=[1], contextual=False)
    ((vectors,), _) = asked.read({"data": [{"embedding": list(embedding)}]})
    assert np.linalg.norm(vectors[0].astype(np.float64)) == pytest.approx(1, abs=2e-3)
    largest = int(np.argmax(np.abs(np.array(embedding, dtype=np.float64))))
    assert (vectors[0][largest] > 0) == (embedding[largest] > 0)


NAMES = st.sampled_from(["data", "index", "embedding", "model", "usage", "cost"])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=30,
)


@settings(deadline=None)  # the machine may be busy
@given(json_values)
def test_no_json_makes_reading_fail_other_than_by_not_adding_up(reply: JsonValue) -> None:
    for encoding in ("float16", "int8", "binary"):
        space = EmbeddingSpace(provider="x", model=PPLX, dimensions=8, encoding=encoding)
        for contextual in (True, False):
            asked = Asked(service="X", space=space, shape=[1, 2], contextual=contextual)
            with pytest.raises(ServiceUnavailable, match="does not add up"):
                asked.read(reply)


SPOILT = [
    stand_in.EMPTY_DATA,
    stand_in.MISSING_DOCUMENT,
    stand_in.WRONG_INDEX,
    stand_in.SHORT_VECTOR,
    stand_in.ZERO_VECTOR,
    stand_in.TRUNCATED,
    stand_in.DROPPED,
    stand_in.error_with_200(),
    stand_in.status(408),
    stand_in.status(429, retry_after="1"),
    stand_in.status(524),
    stand_in.status(529),
]


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
async def test_after_every_kind_of_fault_the_vectors_are_right(encoding_format: Any) -> None:
    for fault in SPOILT:
        service = EmbeddingService(script=[fault, fault])
        embedder = embedder_at(service.transport(), options=Options(encoding_format=encoding_format))
        reply = await embedder.embed(THREE)
        assert_right(reply.vectors, unit(TEXTS))
        assert reply.retries == 2


# ── Tokens and money


@pytest.mark.parametrize(
    ("usage", "tokens", "cost"),
    [
        ({"prompt_tokens": 2000, "total_tokens": 2000, "cost": 0.5}, 2000, 0.5),
        ({"prompt_tokens": 2000, "cost": 0}, 2000, 0),
        ({"prompt_tokens": 2000}, 2000, 2000 * 0.03e-6),
        ({"total_tokens": 2000, "cost": None}, 2000, 2000 * 0.03e-6),
        ({"prompt_tokens": 2000, "cost": "0.5"}, 2000, 2000 * 0.03e-6),
        ({"prompt_tokens": 2000, "cost": -1}, 2000, 2000 * 0.03e-6),
        ({"prompt_tokens": 2000, "cost": True}, 2000, 2000 * 0.03e-6),
        ({"prompt_tokens": 10**400, "cost": 10**400}, 12, 12 * 0.03e-6),
        ({"cost": 0.5}, 12, 0.5),
        (None, 12, 12 * 0.03e-6),
    ],
)
async def test_where_the_reply_does_not_tell_our_own_count_and_price_serve(
    usage: object, tokens: int, cost: float
) -> None:
    recorder = Recorder(change=lambda reply: reply.update(usage=usage))
    reply = await embedder_at(recorder.transport()).embed(THREE)  # 3 chunks of 3 tokens, and a separator each
    assert reply.tokens == tokens
    assert reply.cost_usd == pytest.approx(cost)


# ── Refusals


def refused(status: int, message: str, **metadata: JsonValue) -> Step:
    error = {"code": status, "message": message, "metadata": metadata}
    return Step(status=status, body=json.dumps({"error": error}).encode())


def upstream(status: int, raw: JsonValue) -> Step:
    return refused(status, "Provider returned error", provider_name="Acme", raw=raw)


@pytest.mark.parametrize(
    ("step", "error", "told"),
    [
        (refused(401, "No auth credentials found"), ServiceRefused, "check OPENROUTER_API_KEY"),
        (refused(402, "Insufficient credits"), ServiceRefused, "add credit to the account"),
        (refused(404, "No endpoints found for some/model."), ServiceRefused, "check the model's name"),
        (refused(400, "some/model is not a valid model ID"), ServiceRefused, "check model and dimensions"),
        (upstream(400, "dimensions must be at most 1024"), ServiceRefused, "Acme: dimensions must be"),
        (refused(413, "Payload too large"), RequestTooLarge, "413"),
        (upstream(400, '{"error": {"message": "maximum context length is 8192"}}'), RequestTooLarge, "8192"),
        (upstream(400, "input has too many tokens"), RequestTooLarge, "Acme: input has too many tokens"),
        (refused(400, "x", error_type="context_length_exceeded"), RequestTooLarge, "x"),
        (upstream(400, "I do not like this"), InputRefused, "Acme: I do not like this"),
        (refused(403, "Your input was flagged", reasons=["violence"]), InputRefused, "was flagged"),
        (refused(403, "Key limit exceeded"), ServiceRefused, "check OPENROUTER_API_KEY"),
    ],
)
async def test_a_refusal_says_what_is_to_be_done(step: Step, error: type[EmbedError], told: str) -> None:
    service = EmbeddingService(script=[step])
    with pytest.raises(error) as caught:
        await embedder_at(service.transport()).embed(THREE)
    assert told in str(caught.value)
    assert len(service.requests) == 1


async def test_what_was_sent_and_the_key_are_in_no_message() -> None:
    flagged = refused(403, f"flagged {KEY}", reasons=["x"], flagged_input="PRIVATE", provider_name="Acme")
    detail = [{"loc": ["input"], "msg": "bad", "input": "PRIVATE"}]
    for step in (flagged, upstream(400, json.dumps({"detail": detail})), upstream(400, "<html>PRIVATE")):
        with pytest.raises(InputRefused) as caught:
            await embedder_at(EmbeddingService(script=[step]).transport()).embed(THREE)
        assert "PRIVATE" not in str(caught.value)
        assert KEY not in str(caught.value)


async def test_the_pause_that_the_body_asks_for_is_kept() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await no_sleep(seconds)

    service = EmbeddingService(script=[refused(429, "Slow down", retry_after_seconds=17)])
    embedder = OpenRouterEmbedder(
        model=PPLX,
        dimensions=128,
        api_key=KEY,
        transport=service.transport(),
        patience=Patience(sleep=sleep),
    )
    assert (await embedder.embed(THREE)).retries == 1
    assert 17 <= slept[0] <= 18


@pytest.mark.parametrize(
    ("code", "error", "asked"),
    [(402, ServiceRefused, 1), (413, RequestTooLarge, 1), (400, ServiceUnavailable, 5), (0, None, 2)],
)
async def test_an_error_with_status_200_is_what_its_code_says_or_asked_again(
    code: int, error: type[EmbedError] | None, asked: int
) -> None:
    body = json.dumps({"error": {"code": code, "message": "it failed"}}).encode()
    service = EmbeddingService(script=[Step(body=body)] * (5 if error else 1))
    embedder = embedder_at(service.transport())
    if error is None:
        assert (await embedder.embed(THREE)).retries == 1
    else:
        with pytest.raises(error, match="answered 200 with an error: it failed"):
            await embedder.embed(THREE)
    assert len(service.requests) == asked


async def test_a_header_that_cannot_be_sent_is_refused_without_its_value() -> None:
    with pytest.raises(SettingsError, match="X-Title") as caught:
        embedder_at(None, options=Options(app_title="a\r\nX-Evil: yes"))
    assert "Evil" not in str(caught.value)


def test_the_module_is_imported_without_httpx() -> None:
    code = "import sys, pipeline.embedders.openrouter; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ── The listing


async def test_the_models_that_are_offered_are_listed_with_what_is_known_of_them() -> None:
    service = EmbeddingService()
    with serving(service) as base_url:
        listed = await list_models(f"{base_url}/api/v1", api_key=KEY)
    assert listed == [openrouter.MODELS[PPLX], openrouter.MODELS[QWEN]]
    assert service.requests[0].path == stand_in.OPENROUTER_MODELS


async def test_of_other_models_is_listed_what_the_service_tells() -> None:
    data = [
        {"id": "z/late"},
        {"id": "a/full", "context_length": 8192, "pricing": {"prompt": "0.00000002", "completion": "0"}},
        {"id": "b/odd", "context_length": None, "top_provider": {"context_length": 512}, "pricing": {}},
        {"id": "c/dynamic", "context_length": "many", "pricing": {"prompt": "-1"}},
        {"id": "d/free", "pricing": {"prompt": 0}},
    ]
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json={"data": data}))
    listed = await list_models(transport=transport)
    assert [(m.name, m.max_tokens, m.usd_per_million_tokens) for m in listed] == [
        ("a/full", 8192, 0.02),
        ("b/odd", 512, None),
        ("c/dynamic", 0, None),
        ("d/free", 0, 0.0),
        ("z/late", 0, None),
    ]
    assert listed[0] == ModelInfo(
        provider="openrouter",
        name="a/full",
        contextual=False,
        least_dimensions=0,
        most_dimensions=0,
        max_tokens=8192,
        usd_per_million_tokens=0.02,
    )


async def test_the_listing_needs_no_key() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"data": [{"id": "a/b"}]})

    await list_models(transport=httpx.MockTransport(answer))
    assert str(asked[0].url) == "https://openrouter.ai/api/v1/embeddings/models"
    assert "Authorization" not in asked[0].headers

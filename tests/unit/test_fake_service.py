"""The stand-in refuses what the documentation refuses: the tests that lean on it need that."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from apps.fake_service.counting import by_bytes
from apps.fake_service.models import CONTEXTUAL, MODELS, OPENROUTER, OPENROUTER_MODELS, STANDARD, STATS, Model
from apps.fake_service.service import EmbeddingService
from apps.fake_service.vectors import flat_vectors_of, float_vectors_of, vectors_of
from pipeline import tokens

KEY = {"Authorization": "Bearer test-key"}
CONTEXT_MODEL, MODEL = "pplx-embed-context-v1-0.6b", "pplx-embed-v1-0.6b"
PPLX, QWEN = "perplexity/pplx-embed-v1-4b", "qwen/qwen3-embedding-4b"
GOOD: dict[str, dict[str, Any]] = {
    CONTEXTUAL: {"input": [["a", "b"], ["c"]], "model": CONTEXT_MODEL, "dimensions": 128},
    STANDARD: {"input": ["a", "b", "c"], "model": MODEL, "dimensions": 128},
    OPENROUTER: {"input": ["a", "b", "c"], "model": QWEN, "dimensions": 128},
}


def post(
    service: EmbeddingService, path: str, body: object, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    answer = service.answer("POST", path, KEY | (headers or {}), json.dumps(body).encode())
    return answer.status, json.loads(answer.body)


def embeddings(reply: dict[str, Any]) -> list[Any]:
    """By index."""
    items = sorted(reply["data"], key=lambda item: item["index"])
    return [embeddings(item) if "data" in item else item["embedding"] for item in items]


def codes(text: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(text), dtype=np.int8)


# ── The three endpoints


def test_contextualized_embeddings_are_answered_as_documented() -> None:
    service = EmbeddingService(count=lambda _text: 10)
    code, reply = post(service, CONTEXTUAL, GOOD[CONTEXTUAL])
    assert code == 200
    assert reply["model"] == CONTEXT_MODEL
    cost = pytest.approx(31 * 0.008e-6)  # 31: one separator
    assert reply["usage"] == {
        "prompt_tokens": 31,
        "total_tokens": 31,
        "cost": {"input_cost": cost, "total_cost": cost, "currency": "USD"},
    }
    assert {item["object"] for item in reply["data"]} == {"list"}
    first, second = embeddings(reply)
    assert (len(first), len(second)) == (2, 1)
    assert np.array_equal(codes(first[1]), vectors_of(["a", "b"], model=CONTEXT_MODEL, dimensions=128)[1])
    (seen,) = service.requests
    assert (seen.status, seen.groups, seen.chunks, seen.tokens) == (200, 2, 3, 31)
    assert seen.cost_usd == cost


def test_standard_embeddings_are_answered_as_documented() -> None:
    service = EmbeddingService(count=lambda _text: 10)
    code, reply = post(service, STANDARD, GOOD[STANDARD])
    assert code == 200
    assert reply["usage"]["total_tokens"] == 30
    assert reply["usage"]["cost"]["total_cost"] == pytest.approx(30 * 0.004e-6)
    assert {item["object"] for item in reply["data"]} == {"embedding"}
    expected = flat_vectors_of(["a", "b", "c"], model=MODEL, dimensions=128)
    assert np.array_equal([codes(text) for text in embeddings(reply)], expected)
    one = post(service, STANDARD, GOOD[STANDARD] | {"input": "b"})[1]
    assert np.array_equal(codes(embeddings(one)[0]), expected[1])


@pytest.mark.parametrize("model", [PPLX, QWEN])
def test_openrouter_answers_with_floats_or_their_bytes(model: str) -> None:
    service = EmbeddingService(count=lambda _text: 10)
    code, reply = post(service, OPENROUTER, GOOD[OPENROUTER] | {"model": model})
    assert code == 200
    assert reply["id"].startswith("gen-emb-")
    usd = {PPLX: 0.03, QWEN: 0.02}[model]
    cost = pytest.approx(30 * usd / 1e6)
    assert reply["usage"] == {"prompt_tokens": 30, "total_tokens": 30, "cost": cost}
    vectors = np.array(embeddings(reply), dtype=np.float32)
    assert np.array_equal(vectors, float_vectors_of(["a", "b", "c"], model=model, dimensions=128))
    assert np.all(np.linalg.norm(vectors, axis=1) > 10)  # who does not normalise is found out
    packed = post(service, OPENROUTER, GOOD[OPENROUTER] | {"model": model, "encoding_format": "base64"})[1]
    unpacked = [np.frombuffer(base64.b64decode(text), dtype="<f4") for text in embeddings(packed)]
    assert np.array_equal(unpacked, vectors)


def test_openrouter_lists_its_models() -> None:
    service = EmbeddingService()
    answer = service.answer("GET", OPENROUTER_MODELS, KEY, b"")
    listed = {model["id"]: model for model in json.loads(answer.body)["data"]}
    assert listed.keys() == {PPLX, QWEN}
    assert float(listed[QWEN]["pricing"]["prompt"]) == pytest.approx(0.02e-6)
    assert listed[QWEN]["context_length"] == 32_768
    assert service.answer("GET", OPENROUTER_MODELS, {}, b"").status == 401


def test_what_is_left_out_has_the_documented_default() -> None:
    service = EmbeddingService()
    contextual = post(service, CONTEXTUAL, {"input": [["a"]], "model": "pplx-embed-context-v1-4b"})[1]
    assert codes(embeddings(contextual)[0][0]).shape == (2560,)
    standard = post(service, STANDARD, {"input": "a", "model": "pplx-embed-v1-4b"})[1]
    assert codes(embeddings(standard)[0]).shape == (2560,)
    assert len(embeddings(post(service, OPENROUTER, {"input": "a", "model": QWEN})[1])[0]) == 2560


@pytest.mark.parametrize(("path", "model"), [(CONTEXTUAL, CONTEXT_MODEL), (STANDARD, MODEL)])
def test_bits_are_the_signs_of_the_codes_least_significant_first(path: str, model: str) -> None:
    texts: list[Any] = [["a"]] if path == CONTEXTUAL else ["a"]
    reply = post(EmbeddingService(), path, GOOD[path] | {"input": texts, "encoding_format": "base64_binary"})[
        1
    ]
    packed = np.array(embeddings(reply)).reshape(-1)[0]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed), np.uint8), bitorder="little")
    expected = vectors_of if path == CONTEXTUAL else flat_vectors_of
    assert np.array_equal(bits, expected(["a"], model=model, dimensions=128)[0] >= 0)


def test_a_model_of_ones_own_is_served_where_it_is_named() -> None:
    own = Model(name="acme/own", path=OPENROUTER, most_dimensions=300, usd_per_million_tokens=1)
    service = EmbeddingService(models=(*MODELS, own))
    assert len(embeddings(post(service, OPENROUTER, {"input": "a", "model": "acme/own"})[1])[0]) == 300
    assert post(EmbeddingService(), OPENROUTER, {"input": "a", "model": "acme/own"})[0] == 404


# ── What is refused


def test_a_refusal_has_the_shape_of_its_service() -> None:
    service = EmbeddingService()
    detail = post(service, STANDARD, GOOD[STANDARD] | {"input": ["a", ""]})[1]["detail"]
    assert detail == [
        {"loc": ["body", "input", 1], "msg": "Input should be a string with text", "type": "value_error"}
    ]
    error = post(service, OPENROUTER, GOOD[OPENROUTER] | {"input": ["a", ""]})[1]["error"]
    assert (error["code"], error["message"]) == (400, "Input should be a string with text")
    assert error["metadata"]["provider_name"] == "Stand-in"


def test_a_bad_key_path_or_method_is_refused() -> None:
    service = EmbeddingService()
    wrong = {"Authorization": "Bearer wrong"}
    for path in GOOD:
        assert post(service, path, GOOD[path], wrong)[0] == 401
        assert service.answer("POST", path, {}, b"").status == 401
        assert service.answer("GET", path, KEY, b"").status == 405
    assert service.answer("POST", CONTEXTUAL, KEY, b"{").status == 422
    assert service.answer("POST", OPENROUTER, KEY, b"{").status == 400
    assert service.answer("POST", "/v1/chat/completions", KEY, b"").status == 404
    assert service.answer("POST", OPENROUTER_MODELS, KEY, b"").status == 405


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"HTTP-Referer": "https://example.org", "X-Title": "Docweave"}, 200),
        ({"http-referer": "https://example.org", "content-type": "application/json; charset=utf-8"}, 200),
        ({"HTTP-Referer": "example"}, 400),
        ({"X-Title": " "}, 400),
        ({"Content-Type": "text/plain"}, 400),
    ],
)
def test_headers_are_looked_at(headers: dict[str, str], code: int) -> None:
    assert post(EmbeddingService(), OPENROUTER, GOOD[OPENROUTER], headers)[0] == code


def test_a_poisoned_text_is_refused_in_every_company_and_alone() -> None:
    service = EmbeddingService(poison=lambda text: "poison" in text)
    for path, texts in (
        (CONTEXTUAL, [["a"], ["b", "poison"]]),
        (STANDARD, ["poison"]),
        (OPENROUTER, ["poison"]),
    ):
        assert post(service, path, GOOD[path] | {"input": texts})[0] == 400
        assert post(service, path, GOOD[path])[0] == 200


# ── Counting and statistics


def test_a_text_is_counted_once_and_as_the_models_count() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return tokens.count(text)

    service = EmbeddingService(count=count)
    for _ in range(3):
        usage = post(service, STANDARD, GOOD[STANDARD] | {"input": ["two words", "two words"]})[1]["usage"]
    assert usage["total_tokens"] == 2 * tokens.count("two words")
    assert counted == ["two words"]


def test_a_service_may_count_more_than_its_clients() -> None:
    service = EmbeddingService(count=int, count_factor=1.1)
    body = GOOD[CONTEXTUAL] | {"input": [["100", "100"], ["10"]]}
    assert post(service, CONTEXTUAL, body)[1]["usage"]["total_tokens"] == 220 + 1 + 11
    assert post(service, CONTEXTUAL, GOOD[CONTEXTUAL] | {"input": [["29090"]]})[0] == 200
    assert post(service, CONTEXTUAL, GOOD[CONTEXTUAL] | {"input": [["29091"]]})[0] == 400


def test_counting_by_bytes_is_low_for_prose() -> None:
    prose = "The quick brown fox jumps over the lazy dog, and nobody is surprised by it any more. " * 20
    assert 0.7 < by_bytes(prose) / tokens.count(prose) < 1
    assert by_bytes("é") == 1


def test_statistics_are_given_over_http_without_a_key_and_are_no_request() -> None:
    service = EmbeddingService(count=lambda _text: 10)
    post(service, CONTEXTUAL, GOOD[CONTEXTUAL])
    post(service, CONTEXTUAL, GOOD[CONTEXTUAL] | {"input": []})
    told = json.loads(service.answer("GET", STATS, {}, b"").body)
    assert (told["requests"], told["answered"], told["statuses"]) == (2, 1, {"200": 1, "422": 1})
    assert (told["groups"], told["chunks"], told["tokens"]) == (2, 3, 31)
    assert told["cost_usd"] == pytest.approx(31 * 0.008e-6)
    assert (told["in_flight"], told["most_in_flight"], told["faults"]) == (0, 1, {})
    assert told["seconds"] >= 0
    assert told["cpu_seconds"] > 0
    assert len(service.requests) == 2

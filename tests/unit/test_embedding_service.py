"""The stand-in refuses what the documentation refuses: the tests that lean on it need that."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.embedding_service import PATH, TRUNCATED, EmbeddingService, serving, status, summary, vectors_of

MODEL = "pplx-embed-context-v1-0.6b"
GOOD: dict[str, Any] = {"input": [["a", "b"], ["c"]], "model": MODEL, "dimensions": 128}


def post(service: EmbeddingService, body: object, key: str = "test-key") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    answer = service.answer("POST", PATH, headers, json.dumps(body).encode())
    return answer.status, json.loads(answer.body)


def test_a_good_request_is_answered_as_documented() -> None:
    service = EmbeddingService(count=lambda _text: 10)
    code, reply = post(service, GOOD)
    assert code == 200
    assert reply["model"] == MODEL
    assert reply["usage"]["prompt_tokens"] == 31  # one separator
    assert reply["usage"]["cost"]["total_cost"] == pytest.approx(31 * 0.008e-6)
    by_index = {item["index"]: {part["index"]: part for part in item["data"]} for item in reply["data"]}
    assert {place: len(parts) for place, parts in by_index.items()} == {0: 2, 1: 1}
    codes = np.frombuffer(base64.b64decode(by_index[0][1]["embedding"]), dtype=np.int8)
    assert np.array_equal(codes, vectors_of(["a", "b"], model=MODEL, dimensions=128)[1])
    (seen,) = service.requests
    assert (seen.status, seen.groups, seen.chunks, seen.tokens) == (200, 2, 3, 31)


def test_what_is_left_out_has_the_documented_default() -> None:
    _, reply = post(EmbeddingService(), {"input": [["a"]], "model": "pplx-embed-context-v1-4b"})
    assert len(base64.b64decode(reply["data"][0]["data"][0]["embedding"])) == 2560


def test_bits_are_packed_least_significant_first() -> None:
    _, reply = post(EmbeddingService(), GOOD | {"input": [["a"]], "encoding_format": "base64_binary"})
    data = np.frombuffer(base64.b64decode(reply["data"][0]["data"][0]["embedding"]), dtype=np.uint8)
    codes = vectors_of(["a"], model=MODEL, dimensions=128)[0]
    assert np.array_equal(np.unpackbits(data, bitorder="little"), codes >= 0)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"input": [["a"]] * 513}, 422, "at most 512"),
        ({"input": [["a"] * 8001, ["a"] * 8000]}, 400, "16001 chunks"),
        ({"input": [["a", ""]]}, 422, "string with text"),
        ({"input": [["a"], []]}, 422, "not empty"),
        ({"input": []}, 422, "not empty"),
        ({"input": ["a"]}, 422, "list of chunks"),
        ({"input": [[1]]}, 422, "string with text"),
        ({"model": "pplx-embed-v1-0.6b"}, 422, "contextual models"),
        ({"dimensions": 127}, 422, "from 128 to 1024"),
        ({"dimensions": 1025}, 422, "from 128 to 1024"),
        ({"dimensions": 128.0}, 422, "from 128 to 1024"),
        ({"encoding_format": "float"}, 422, "base64_int8 or base64_binary"),
        ({"encoding_format": "base64"}, 422, "base64_int8 or base64_binary"),
        ({"user": "me"}, 422, "Extra inputs"),
    ],
)
def test_what_the_documentation_rules_out_is_refused(change: dict[str, Any], code: int, said: str) -> None:
    service = EmbeddingService(count=lambda _text: 1)
    answered, reply = post(service, GOOD | change)
    assert answered == code
    assert said in json.dumps(reply)
    assert [seen.status for seen in service.refused] == [code]


@pytest.mark.parametrize(
    ("sizes", "code"),
    [
        ([[32_000]], 200),
        ([[32_001]], 400),
        ([[16_000, 15_999]], 200),
        ([[16_000, 16_000]], 400),  # the separator is one too many
        ([[30_000]] * 4, 200),
        ([[30_000]] * 4 + [[1]], 400),
        ([[15_000, 15_000]] * 4, 400),
    ],
)
def test_tokens_are_counted_with_the_separators(sizes: list[list[int]], code: int) -> None:
    service = EmbeddingService(count=int)
    assert post(service, GOOD | {"input": [[str(size) for size in sizes_] for sizes_ in sizes]})[0] == code


def test_a_bad_key_path_or_method_is_refused() -> None:
    service = EmbeddingService()
    assert post(service, GOOD, key="wrong")[0] == 401
    assert service.answer("POST", PATH, {}, b"").status == 401
    headers = {"Authorization": "Bearer test-key"}
    assert service.answer("POST", "/v1/embeddings", headers, b"").status == 404
    assert service.answer("GET", PATH, headers, b"").status == 405
    assert service.answer("POST", PATH, headers, b"{").status == 422


def test_a_vector_depends_on_the_whole_group_and_on_nothing_else() -> None:
    def vectors(*texts: str, dimensions: int = 256) -> np.ndarray[Any, Any]:
        return vectors_of(texts, model=MODEL, dimensions=dimensions)

    whole = vectors("a", "b", "c")
    assert np.array_equal(whole, vectors("a", "b", "c"))
    assert np.array_equal(whole[:, :128], vectors("a", "b", "c", dimensions=128))
    for other in (
        vectors("a", "b", "d"),
        vectors("b", "a", "c"),
        vectors("a", "b", "c", "d"),
        vectors("a", "bc", ""),
    ):
        for row in whole:
            assert not (other == row).all(axis=1).any()
    assert len(np.unique(vectors("a", "a", "a"), axis=0)) == 3
    assert whole.min() >= -127


def test_the_order_of_the_items_is_shuffled_by_the_seed() -> None:
    def order(seed: int) -> list[int]:
        _, reply = post(EmbeddingService(seed=seed), GOOD | {"input": [[str(place)] for place in range(20)]})
        return [item["index"] for item in reply["data"]]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(20))


def test_over_http_answers_headers_and_faults_arrive() -> None:
    service = EmbeddingService(script=[status(429, "slow down", retry_after="3"), TRUNCATED])
    headers = {"Authorization": "Bearer test-key"}
    with serving(service) as base_url, httpx.Client(base_url=base_url, headers=headers) as client:
        answer = client.post(PATH, json=GOOD)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
        with pytest.raises(json.JSONDecodeError):
            client.post(PATH, json=GOOD).json()
        assert client.post(PATH, json=GOOD).json()["model"] == MODEL
        assert client.post("/elsewhere", json=GOOD).status_code == 404
        assert client.get(PATH).status_code == 405
    told = summary(service.requests)
    assert told.startswith("5 requests, 2 answered: 4 groups, 6 chunks")
    assert "1 x 429 as told" in told


def test_by_hand_it_serves_until_it_is_stopped_and_tells_what_it_saw() -> None:
    script = Path(__file__).parents[1] / "embedding_service.py"
    with subprocess.Popen(
        [sys.executable, str(script), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split()[1].rstrip(";")
            answer = httpx.post(address, json=GOOD, headers={"Authorization": "Bearer test-key"})
            assert answer.status_code == 200
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=10)
        finally:
            process.kill()
    assert told.startswith("1 requests, 1 answered: 2 groups, 3 chunks")

"""The stand-in's limits: each holds at the limit, and is refused one beyond it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.fake_service.models import CONTEXTUAL, OPENROUTER, STANDARD
from apps.fake_service.service import EmbeddingService

CONTEXT_MODEL, MODEL = "pplx-embed-context-v1-0.6b", "pplx-embed-v1-0.6b"
PPLX, QWEN = "perplexity/pplx-embed-v1-4b", "qwen/qwen3-embedding-4b"
GOOD: dict[str, dict[str, Any]] = {
    CONTEXTUAL: {"input": [["a", "b"], ["c"]], "model": CONTEXT_MODEL, "dimensions": 128},
    STANDARD: {"input": ["a", "b", "c"], "model": MODEL, "dimensions": 128},
    OPENROUTER: {"input": ["a", "b", "c"], "model": QWEN, "dimensions": 128},
}


def post(service: EmbeddingService, path: str, body: object) -> tuple[int, Any]:
    headers = {"Authorization": "Bearer test-key"}
    answer = service.answer("POST", path, headers, json.dumps(body).encode())
    return answer.status, json.loads(answer.body)


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    (CONTEXTUAL, {"input": [["a"]] * 513}, 422, "at most 512"),
    (CONTEXTUAL, {"input": [["a"] * 8001, ["a"] * 8000]}, 400, "16001 chunks"),
    (CONTEXTUAL, {"input": [["a", ""]]}, 422, "string with text"),
    (CONTEXTUAL, {"input": [["a", " \n"]]}, 422, "string with text"),
    (CONTEXTUAL, {"input": [["a"], []]}, 422, "not empty"),
    (CONTEXTUAL, {"input": []}, 422, "not empty"),
    (CONTEXTUAL, {"input": ["a"]}, 422, "list of chunks"),
    (CONTEXTUAL, {"input": [[1]]}, 422, "string with text"),
    (CONTEXTUAL, {"input": [["a\0"]]}, 422, "valid Unicode"),
    (CONTEXTUAL, {"input": [["a\ud800"]]}, 422, "valid Unicode"),
    (CONTEXTUAL, {"model": MODEL}, 422, "contextual models"),
    (CONTEXTUAL, {"dimensions": 127}, 422, "from 128 to 1024"),
    (CONTEXTUAL, {"dimensions": 1025}, 422, "from 128 to 1024"),
    (CONTEXTUAL, {"dimensions": 128.0}, 422, "from 128 to 1024"),
    (CONTEXTUAL, {"encoding_format": "float"}, 422, "base64_int8 or base64_binary"),
    (CONTEXTUAL, {"encoding_format": "base64"}, 422, "base64_int8 or base64_binary"),
    (CONTEXTUAL, {"encoding_format": "base64_binary", "dimensions": 129}, 422, "multiple of 8"),
    (CONTEXTUAL, {"user": "me"}, 422, "Extra inputs"),
    (CONTEXTUAL, {"input_type": "search_query"}, 422, "Extra inputs"),
    (STANDARD, {"input": ["a"] * 513}, 422, "at most 512"),
    (STANDARD, {"input": ["a", ""]}, 422, "string with text"),
    (STANDARD, {"input": ""}, 422, "string with text"),
    (STANDARD, {"input": [["a"]]}, 422, "string with text"),
    (STANDARD, {"input": []}, 422, "not empty"),
    (STANDARD, {"model": CONTEXT_MODEL}, 422, "standard models"),
    (STANDARD, {"dimensions": 1025}, 422, "from 128 to 1024"),
    (STANDARD, {"encoding_format": "float"}, 422, "base64_int8 or base64_binary"),
    (STANDARD, {"provider": {}}, 422, "Extra inputs"),
    (OPENROUTER, {"input": ["a"] * 513}, 400, "at most 512"),
    (OPENROUTER, {"input": [["a"]]}, 400, "string with text"),
    (OPENROUTER, {"model": CONTEXT_MODEL}, 404, "embedding models"),
    (OPENROUTER, {"dimensions": 31}, 400, "from 32 to 2560"),
    (OPENROUTER, {"dimensions": 2561}, 400, "from 32 to 2560"),
    (OPENROUTER, {"encoding_format": "base64_int8"}, 400, "float or base64"),
    (OPENROUTER, {"input_type": "query"}, 400, "search_query or search_document"),
    (OPENROUTER, {"user": 7}, 400, "string with text"),
    (OPENROUTER, {"temperature": 0}, 400, "Extra inputs"),
    (OPENROUTER, {"provider": "deepinfra"}, 400, "an object"),
    (OPENROUTER, {"provider": {"fastest": True}}, 400, "Extra inputs"),
    (OPENROUTER, {"provider": {"order": "deepinfra"}}, 400, "not what is documented"),
    (OPENROUTER, {"provider": {"sort": "speed"}}, 400, "not what is documented"),
    (OPENROUTER, {"provider": {"max_price": {"prompt": -1}}}, 400, "not what is documented"),
]


@pytest.mark.parametrize(("path", "change", "code", "said"), REFUSED)
def test_what_the_documentation_rules_out_is_refused(
    path: str, change: dict[str, Any], code: int, said: str
) -> None:
    service = EmbeddingService(count=lambda _text: 1)
    answered, reply = post(service, path, GOOD[path] | change)
    assert answered == code
    assert said in json.dumps(reply)
    assert [seen.status for seen in service.refused] == [code]


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    (CONTEXTUAL, {"input": [["a"]] * 512}),
    (CONTEXTUAL, {"input": [["a"] * 8000, ["a"] * 8000]}),
    (CONTEXTUAL, {"dimensions": 1024}),
    (CONTEXTUAL, {"dimensions": 129}),
    (CONTEXTUAL, {"model": "pplx-embed-context-v1-4b", "dimensions": 2560}),
    (STANDARD, {"input": ["a"] * 512}),
    (STANDARD, {"dimensions": 1024, "encoding_format": "base64_binary"}),
    (OPENROUTER, {"input": ["a"] * 512}),
    (OPENROUTER, {"dimensions": 32}),
    (OPENROUTER, {"input_type": "search_document", "user": "me"}),
    (OPENROUTER, {"provider": {"order": ["deepinfra"], "allow_fallbacks": False, "sort": "latency"}}),
    (OPENROUTER, {"provider": {"data_collection": "deny", "max_price": {"prompt": 0.1}}}),
]


@pytest.mark.parametrize(("path", "change"), ACCEPTED)
def test_what_the_documentation_allows_is_answered(path: str, change: dict[str, Any]) -> None:
    assert post(EmbeddingService(count=lambda _text: 1), path, GOOD[path] | change)[0] == 200


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
    texts = [[str(size) for size in sizes_] for sizes_ in sizes]
    assert post(EmbeddingService(count=int), CONTEXTUAL, GOOD[CONTEXTUAL] | {"input": texts})[0] == code


@pytest.mark.parametrize(
    ("path", "model", "sizes", "code"),
    [
        (STANDARD, MODEL, [32_000], 200),
        (STANDARD, MODEL, [32_001], 400),
        (STANDARD, MODEL, [30_000] * 4, 200),
        (STANDARD, MODEL, [30_000] * 4 + [1], 400),
        (OPENROUTER, PPLX, [32_001], 400),
        (OPENROUTER, QWEN, [32_768], 200),
        (OPENROUTER, QWEN, [32_769], 400),
        (OPENROUTER, QWEN, [30_000] * 4, 200),
        (OPENROUTER, QWEN, [30_000] * 4 + [1], 400),
    ],
)
def test_texts_without_context_have_their_limits_too(
    path: str, model: str, sizes: list[int], code: int
) -> None:
    body = GOOD[path] | {"model": model, "input": list(map(str, sizes))}
    assert post(EmbeddingService(count=int), path, body)[0] == code

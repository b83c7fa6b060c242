"""Each fault that the stand-in can inject does what its name says, and what happens follows from a seed."""

from __future__ import annotations

import base64
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np
import pytest

from apps.fake_service.faults import KINDS, USUAL, Faults
from apps.fake_service.models import CONTEXTUAL, OPENROUTER, STANDARD
from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from tests.embedding_service import TRUNCATED, Step

KEY = {"Authorization": "Bearer test-key"}
GOOD: dict[str, dict[str, Any]] = {
    CONTEXTUAL: {"input": [["a", "b"], ["c"]], "model": "pplx-embed-context-v1-0.6b", "dimensions": 128},
    STANDARD: {"input": ["a", "b", "c"], "model": "pplx-embed-v1-0.6b", "dimensions": 128},
    OPENROUTER: {"input": ["a", "b", "c"], "model": "qwen/qwen3-embedding-4b", "dimensions": 128},
}
ONE: dict[str, list[Any]] = {CONTEXTUAL: [["a", "b"]], STANDARD: ["a"], OPENROUTER: ["a"]}
SLOW = 0.2


def faulty(kind: str, **more: Any) -> EmbeddingService:
    return EmbeddingService(faults=Faults(rate=1, kinds=[kind], most=1, slow_seconds=SLOW, **more))


def ask(service: EmbeddingService, path: str, **more: object) -> httpx.Response:
    with serving(service) as base_url, httpx.Client(base_url=base_url, headers=KEY, timeout=5) as client:
        return client.post(path, json=GOOD[path] | more)


def complaint(body: dict[str, Any]) -> str:
    return str(body["error"]["message"] if "error" in body else body["detail"][0]["msg"])


# ── Refusals


STATUSES = [name for name in KINDS if name[:3].isdigit() and name != "200-error"]


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("kind", STATUSES)
def test_a_refusal_has_its_status_and_its_services_shape(kind: str, path: str) -> None:
    service, body = faulty(kind), json.dumps(GOOD[path]).encode()
    answer = service.answer("POST", path, KEY, body)
    expected = 400 if path == OPENROUTER and kind == "422-size" else int(kind[:3])
    assert answer.status == expected
    error = json.loads(answer.body)
    assert complaint(error)
    assert ("code" in error.get("error", {})) or expected == 422
    assert service.faults is not None
    assert service.faults.injected == {kind: 1}
    (seen,) = service.requests
    assert (seen.status, seen.fault, seen.cost_usd) == (expected, kind, 0)
    assert service.answer("POST", path, KEY, body).status == 200  # most=1


def test_a_refusal_may_ask_to_wait_in_both_forms() -> None:
    answer = ask(faulty("429-seconds", retry_after_seconds=7), OPENROUTER)
    assert answer.headers["Retry-After"] == "7"
    assert answer.json()["error"]["metadata"]["retry_after_seconds"] == 7
    answer = ask(faulty("429-date", retry_after_seconds=7), CONTEXTUAL)
    asked = parsedate_to_datetime(answer.headers["Retry-After"]).timestamp() - time.time()
    assert 5 < asked <= 7
    assert "Retry-After" not in ask(faulty("429"), CONTEXTUAL).headers


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("kind", ["413", "400-size", "422-size"])
def test_a_single_group_is_never_said_to_be_too_large(kind: str, path: str) -> None:
    service = faulty(kind)
    assert ask(service, path, input=ONE[path]).status_code == 200
    assert ask(service, path).status_code in {400, 413, 422}


def test_what_waiting_does_not_mend_happens_only_when_named() -> None:
    assert set(KINDS) - set(USUAL) == {"401", "402", "403", "404", "429-quota"}


# ── Connections


@pytest.mark.parametrize("kind", ["closed", "reset-before"])
def test_a_connection_may_end_without_an_answer(kind: str) -> None:
    service = faulty(kind)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)) as caught:
        ask(service, CONTEXTUAL)
    assert isinstance(caught.value, httpx.ReadError) == (kind == "reset-before")
    (seen,) = service.requests
    assert (seen.status, seen.fault, seen.cost_usd) == (0, kind, 0)
    assert ask(service, CONTEXTUAL).status_code == 200


def test_a_connection_may_be_reset_in_the_middle_of_the_body() -> None:
    service = faulty("reset-middle")
    with (
        serving(service) as base_url,
        httpx.Client(base_url=base_url, headers=KEY) as client,
        client.stream("POST", CONTEXTUAL, json=GOOD[CONTEXTUAL]) as answer,
    ):
        assert answer.status_code == 200
        with pytest.raises(httpx.ReadError):
            answer.read()
    assert answer.num_bytes_downloaded < int(answer.headers["Content-Length"])
    assert service.requests[0].cost_usd > 0  # the service has done its work


def test_a_body_may_end_early_as_if_it_were_whole() -> None:
    answer = ask(faulty("truncated"), CONTEXTUAL)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize("kind", ["slow", "trickled"])
@pytest.mark.parametrize("path", GOOD)
def test_a_slow_answer_is_a_good_one(kind: str, path: str) -> None:
    service = faulty(kind)
    with serving(service) as base_url, httpx.Client(base_url=base_url, headers=KEY) as client:
        started = time.monotonic()
        with client.stream("POST", path, json=GOOD[path]) as answer:
            before = time.monotonic() - started
            body = answer.read()
        after = time.monotonic() - started - before
        assert (before if kind == "slow" else after) >= SLOW * 0.8
        assert before + after >= SLOW
        assert body == client.post(path, json=GOOD[path]).content


@pytest.mark.parametrize(("kind", "status"), [("html", 502), ("html-200", 200)])
def test_an_html_page_may_come_instead(kind: str, status: int) -> None:
    answer = ask(faulty(kind), CONTEXTUAL)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<!DOCTYPE html>")


async def test_without_a_network_the_same_happens() -> None:
    for kind in ("closed", "reset-before", "reset-middle"):
        async with httpx.AsyncClient(transport=faulty(kind).transport(), headers=KEY) as client:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await client.post(f"http://test{CONTEXTUAL}", json=GOOD[CONTEXTUAL])
    for kind in ("slow", "trickled"):
        async with httpx.AsyncClient(transport=faulty(kind).transport(), headers=KEY) as client:
            started = time.monotonic()
            answer = await client.post(f"http://test{CONTEXTUAL}", json=GOOD[CONTEXTUAL])
            assert time.monotonic() - started >= SLOW
            assert len(answer.json()["data"]) == 2


# ── Replies


def indexes(reply: dict[str, Any]) -> list[int | None]:
    return [item.get("index") for item in reply["data"]]


def vectors(reply: dict[str, Any]) -> list[Any]:
    """Of every item, as they come: bytes, or lists of numbers."""
    parts = [part for item in reply["data"] for part in item.get("data", [item])]
    given = [part["embedding"] for part in parts]
    return [base64.b64decode(vector) if isinstance(vector, str) else vector for vector in given]


def whole(path: str) -> int:
    return 2 if path == CONTEXTUAL else 3


SPOILT: dict[str, Callable[[dict[str, Any], str], bool]] = {
    "shuffled": lambda reply, path: indexes(reply) == list(range(whole(path)))[::-1],
    "missing-item": lambda reply, path: len(reply["data"]) == whole(path) - 1,
    "item-twice": lambda reply, path: max(Counter(indexes(reply)).values()) == 2,
    "extra-item": lambda reply, path: sorted(map(str, indexes(reply))) == [*map(str, range(whole(path) + 1))],
    "index-too-high": lambda reply, path: whole(path) in indexes(reply),
    "index-twice": lambda reply, path: (
        len(reply["data"]) == whole(path) and len(set(indexes(reply))) == whole(path) - 1
    ),
    "no-index": lambda reply, path: indexes(reply).count(None) == 1,
    "short-vector": lambda reply, path: sorted(map(len, vectors(reply)))[:2] == [127, 128],
    "long-vector": lambda reply, path: sorted(map(len, vectors(reply)))[-2:] == [128, 256],
    "zero-vector": lambda reply, path: [any(vector) for vector in vectors(reply)].count(False) == 1,
    "other-model": lambda reply, path: reply["model"] not in {GOOD[path]["model"], None},
    "no-usage": lambda reply, path: "usage" not in reply and len(reply["data"]) == whole(path),
    "no-cost": lambda reply, path: "cost" not in reply["usage"] and len(reply["data"]) == whole(path),
    "empty-data": lambda reply, path: reply["data"] == [],
    "200-error": lambda reply, path: reply["error"]["code"] == 502 and "data" not in reply,
}


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("kind", SPOILT)
def test_a_reply_is_spoilt_as_its_kind_says(kind: str, path: str) -> None:
    service = faulty(kind)
    body = json.dumps(GOOD[path]).encode()
    answer = service.answer("POST", path, KEY, body)
    assert answer.status == 200
    assert SPOILT[kind](json.loads(answer.body), path)
    assert (service.requests[0].cost_usd > 0) == service.requests[0].embedded == (kind != "200-error")
    good = json.loads(service.answer("POST", path, KEY, body).body)
    assert sorted(map(str, indexes(good))) == [*map(str, range(whole(path)))]
    assert all(len(vector) in {128, 512} and any(vector) for vector in vectors(good))


def test_a_document_may_lack_a_chunk() -> None:
    answer = faulty("missing-chunk").answer("POST", CONTEXTUAL, KEY, json.dumps(GOOD[CONTEXTUAL]).encode())
    assert len(vectors(json.loads(answer.body))) == 2
    service = faulty("missing-chunk")
    assert ask(service, STANDARD).status_code == 200  # which has none
    assert service.faults is not None
    assert service.faults.total == 0


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_only_floats_may_be_no_number(encoding: str) -> None:
    body = json.dumps(GOOD[OPENROUTER] | {"encoding_format": encoding}).encode()
    first = vectors(json.loads(faulty("nan").answer("POST", OPENROUTER, KEY, body).body))[0]
    numbers = np.frombuffer(first, dtype="<f4") if encoding == "base64" else first
    assert math.isnan(numbers[0])
    assert np.isfinite(numbers[1:]).all()
    for path in (CONTEXTUAL, STANDARD):
        service = faulty("nan")
        assert service.answer("POST", path, KEY, json.dumps(GOOD[path]).encode()).status == 200
        assert service.requests[0].fault == ""


def test_every_kind_is_tested_here() -> None:
    connections = {
        "closed",
        "reset-before",
        "reset-middle",
        "truncated",
        "slow",
        "trickled",
        "html",
        "html-200",
    }
    assert set(STATUSES) | set(SPOILT) | connections | {"missing-chunk", "nan"} == set(KINDS)


# ── The plan


def drawn(seed: int, rate: float, bodies: list[bytes]) -> dict[bytes, str]:
    service = EmbeddingService(faults=Faults(rate=rate, seed=seed), count=len)
    for body in bodies:
        service.answer("POST", CONTEXTUAL, KEY, body)
    return dict(zip(bodies, [seen.fault for seen in service.requests], strict=True))


def bodies(number: int) -> list[bytes]:
    return [json.dumps(GOOD[CONTEXTUAL] | {"input": [[str(n)], ["b"]]}).encode() for n in range(number)]


def test_what_happens_follows_from_the_seed_and_not_from_the_order() -> None:
    asked = bodies(100)
    first = drawn(7, 0.5, asked)
    assert drawn(7, 0.5, asked[::-1]) == first
    assert drawn(8, 0.5, asked) != first


def test_the_rate_is_the_share_of_requests_that_go_wrong_and_all_kinds_come() -> None:
    service = EmbeddingService(faults=Faults(rate=0.3, slow_seconds=0), count=len)
    asked = bodies(3000)
    for body in asked:
        service.answer("POST", CONTEXTUAL, KEY, body)
    assert service.faults is not None
    assert 800 < service.faults.total < 1000
    assert service.faults.injected == Counter(seen.fault for seen in service.requests if seen.fault)
    assert set(service.faults.injected) == set(USUAL) - {"nan"}


def test_a_request_that_is_asked_again_is_drawn_anew() -> None:
    service = EmbeddingService(faults=Faults(rate=0.5), count=len)
    for _ in range(50):
        service.answer("POST", CONTEXTUAL, KEY, bodies(1)[0])
    assert 10 < sum(bool(seen.fault) for seen in service.requests) < 40


def test_a_request_that_is_refused_anyway_uses_no_fault_up() -> None:
    service = faulty("500")
    assert service.answer("POST", CONTEXTUAL, KEY, b"{}").status == 422
    assert service.faults is not None
    assert service.faults.total == 0


def test_a_script_comes_before_the_plan() -> None:
    service = EmbeddingService(script=[TRUNCATED, Step()], faults=Faults(rate=1, kinds=["500"]))
    told = [service.answer("POST", CONTEXTUAL, KEY, bodies(1)[0]).status for _ in range(3)]
    assert told == [200, 200, 500]
    assert [seen.fault for seen in service.requests] == ["", "", "500"]


def test_a_plan_that_cannot_be_meant_is_told() -> None:
    with pytest.raises(ValueError, match="no such kind of fault: 418; there are 408, 409"):
        Faults(rate=0.1, kinds=["418", "500"])
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        Faults(rate=1.1)

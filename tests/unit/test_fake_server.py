"""The stand-in over HTTP and from the command line: how fast it lets one ask, what it logs, how it ends."""

from __future__ import annotations

import inspect
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.fake_service.command import fake_service
from apps.fake_service.faults import KINDS
from apps.fake_service.models import CONTEXTUAL, OPENROUTER_MODELS, STANDARD
from apps.fake_service.pace import Pace, Window
from apps.fake_service.seen import summary
from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from tests.embedding_service import TRUNCATED, status

KEY = {"Authorization": "Bearer test-key"}
MODEL = "pplx-embed-context-v1-0.6b"
GOOD: dict[str, Any] = {"input": [["a", "b"], ["c"]], "model": MODEL, "dimensions": 128}
BODY = json.dumps(GOOD).encode()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


# ── Pace


def test_over_so_many_at_a_time_it_refuses_at_once() -> None:
    service = EmbeddingService(pace=Pace(max_in_flight=3, retry_after="seconds"), delay=lambda _tokens: 0.5)
    with (
        serving(service) as base_url,
        httpx.Client(base_url=base_url, headers=KEY) as client,
        ThreadPoolExecutor(5) as threads,
    ):
        asked = [threads.submit(client.post, CONTEXTUAL, json=GOOD) for _ in range(5)]
        answers = [one.result() for one in asked]
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 429, 429]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        assert max(answer.elapsed.total_seconds() for answer in refused) < 0.5
        assert min(answer.elapsed.total_seconds() for answer in answers if answer.is_success) >= 0.5
        assert client.post(CONTEXTUAL, json=GOOD).status_code == 200
    assert max(seen.in_flight for seen in service.requests) in {4, 5}


def test_who_waits_for_each_answer_is_never_two_in_flight() -> None:
    service = EmbeddingService(pace=Pace(max_in_flight=1))
    with serving(service) as base_url, httpx.Client(base_url=base_url, headers=KEY) as client:
        assert {client.post(CONTEXTUAL, json=GOOD).status_code for _ in range(50)} == {200}


def test_requests_per_minute_slide() -> None:
    clock = Clock()
    service = EmbeddingService(pace=Pace(requests_per_minute=2, retry_after="seconds", clock=clock))

    def ask() -> tuple[int, str | None]:
        answer = service.answer("POST", CONTEXTUAL, KEY, BODY)
        return answer.status, answer.headers.get("Retry-After")

    assert ask() == (200, None)
    clock.now += 20
    assert ask() == (200, None)
    clock.now += 10
    assert ask() == (429, "30")
    clock.now += 29.9
    assert ask() == (429, "1")
    clock.now += 0.1
    assert ask() == (200, None)
    assert ask() == (429, "20")


def test_tokens_per_minute_slide() -> None:
    clock = Clock()
    pace = Pace(tokens_per_minute=100, retry_after="date", clock=clock)
    service = EmbeddingService(pace=pace, count=int)

    def ask(tokens: int) -> int:
        body = {"input": [str(tokens)], "model": "pplx-embed-v1-0.6b"}
        return service.answer("POST", STANDARD, KEY, json.dumps(body).encode()).status

    assert [ask(60), ask(40), ask(1)] == [200, 200, 429]
    clock.now += 60
    assert ask(101) == 200  # more than the window holds has its turn when it is empty
    assert ask(1) == 429
    refused = service.answer("POST", STANDARD, KEY, b'{"input": "1", "model": "pplx-embed-v1-0.6b"}')
    wait = parsedate_to_datetime(refused.headers["Retry-After"]).timestamp() - time.time()
    assert 57 < wait <= 60
    assert b"tokens per minute" in refused.body


def test_a_window_says_when_there_will_be_room() -> None:
    clock = Clock()
    window = Window(10, clock)
    assert window.take(6) == 0
    clock.now += 5
    assert window.take(4) == 0
    assert window.take(6) == 55
    assert window.take(7) == 60
    clock.now += 55
    assert window.take(6) == 0


def test_an_answer_takes_as_long_as_it_is_told_whatever_it_takes_to_make() -> None:
    def count(_text: str) -> int:
        time.sleep(0.1)
        return 10

    service = EmbeddingService(count=count, delay=lambda tokens: 0.5 + tokens / 1000)
    with serving(service) as base_url:
        answer = httpx.post(f"{base_url}{CONTEXTUAL}", json=GOOD, headers=KEY)
    assert 0.53 < answer.elapsed.total_seconds() < 0.8  # not 0.83
    assert 0.53 < service.requests[0].seconds < 0.8


# ── Over HTTP


def test_over_http_answers_headers_and_faults_arrive() -> None:
    service = EmbeddingService(script=[status(429, "slow down", retry_after="3"), TRUNCATED])
    with serving(service) as base_url, httpx.Client(base_url=base_url, headers=KEY) as client:
        answer = client.post(CONTEXTUAL, json=GOOD)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
        with pytest.raises(json.JSONDecodeError):
            client.post(CONTEXTUAL, json=GOOD).json()
        assert client.post(CONTEXTUAL, json=GOOD).json()["model"] == MODEL
        assert client.post("/elsewhere", json=GOOD).status_code == 404
        assert client.get(CONTEXTUAL).status_code == 405
        assert client.get(OPENROUTER_MODELS).status_code == 200
        assert client.get("/stats").json()["requests"] == 6
    told = summary(service.requests)
    assert told.startswith("6 requests, 3 answered: 4 groups, 6 chunks")
    assert "1 x 429 as told" in told


def test_a_body_of_unknown_length_is_refused() -> None:
    def parts() -> Iterator[bytes]:
        yield BODY

    with serving(EmbeddingService()) as base_url:
        assert httpx.post(f"{base_url}{CONTEXTUAL}", content=parts(), headers=KEY).status_code == 411


def test_a_client_that_goes_away_disturbs_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    service = EmbeddingService(delay=lambda _tokens: 0.2)
    with serving(service) as base_url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{base_url}{CONTEXTUAL}", json=GOOD, headers=KEY, timeout=0.05)
        assert httpx.post(f"{base_url}{CONTEXTUAL}", json=GOOD, headers=KEY).status_code == 200
    assert capfd.readouterr() == ("", "")


def test_it_is_on_the_loopback_interface_alone() -> None:
    with serving(EmbeddingService()) as base_url:
        assert base_url.startswith("http://127.0.0.1:")
        port = int(base_url.rpartition(":")[2])
        with socket.socket() as other:
            others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)}
            for address in others - {"127.0.0.1"}:
                assert other.connect_ex((address, port)) != 0


# ── From the command line


@contextmanager
def command(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and what it says when it serves."""
    program = [sys.executable, "-c", "from apps.cli import main; main()", "fake-service", *options]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert process.stderr is not None
            yield process, "".join(process.stderr.readline() for _ in range(10))
        finally:
            process.kill()


def test_it_serves_until_it_is_stopped_and_tells_what_it_saw(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    options = ["--port", "0", "--log", str(log), "--api-key", "not-so-secret"]
    options += ["--fault-rate", "1", "--fault-kinds", "500, truncated", "--most-faults", "2"]
    words = "the quick brown fox"
    with command(*options) as (process, said):
        base_url = said.split()[1]
        headers = {"Authorization": "Bearer not-so-secret"}
        with httpx.Client(base_url=base_url, headers=headers) as client:
            answers = [client.post(CONTEXTUAL, json=GOOD | {"input": [[words]]}) for _ in range(4)]
            client.post(CONTEXTUAL, json=GOOD, headers={"Authorization": "Bearer another-secret"})
            client.post(f"/{words}?key=not-so-secret", json=GOOD)
            stats = client.get("/stats").json()
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert [answer.status_code for answer in answers[2:]] == [200, 200]
    assert f"base_url: {base_url}" in said
    assert "export PERPLEXITY_API_KEY=not-so-secret" in said
    assert told.startswith("6 requests, ")
    assert "at most 1 in flight" in told
    assert "  2 faults: " in told
    assert "1 x 401 Invalid API key provided" in told
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == stats["requests"] == 6
    assert sum(bool(line["fault"]) for line in lines) == 2
    assert [line["status"] for line in lines[2:]] == [200, 200, 401, 404]
    assert lines[2].keys() == {
        *("time", "path", "status", "said", "groups", "chunks", "tokens", "embedded", "seconds"),
        *("cost_usd", "in_flight", "fault"),
    }
    assert (lines[2]["path"], lines[2]["groups"], lines[2]["chunks"]) == (CONTEXTUAL, 1, 1)
    for word in (*words.split(), "secret"):
        assert word not in log.read_text()
        assert word not in told


def test_a_script_stops_it_with_the_ordinary_signal() -> None:
    with command("--port", "0", "--count", "bytes", "--max-in-flight", "1") as (process, said):
        assert httpx.get(f"{said.split()[1]}/stats").json()["requests"] == 0
        process.terminate()
        told, _ = process.communicate(timeout=10)
    assert (process.returncode, told) == (
        0,
        "0 requests, 0 answered: 0 groups, 0 chunks, 0 tokens, 0.0% full\n",
    )


def test_the_documentation_names_every_option_and_every_kind_of_fault() -> None:
    page = (Path(__file__).parents[2] / "docs" / "fake-service.md").read_text("utf-8")
    options = {f"`--{name.replace('_', '-')}" for name in inspect.signature(fake_service).parameters}
    assert {name for name in options | {f"`{kind}`" for kind in KINDS} if name not in page} == set()


def test_a_port_that_is_taken_a_kind_that_is_none_and_a_log_that_cannot_be_are_told(tmp_path: Path) -> None:
    def ends(*options: str) -> str:
        program = [sys.executable, "-c", "from apps.cli import main; main()", "fake-service", *options]
        done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 2
        return done.stderr

    with serving(EmbeddingService()) as base_url:
        port = base_url.rpartition(":")[2]
        assert f"--port: {port} cannot be had: Address already in use; --port 0 takes any" in ends(
            "--port", port
        )
    assert "no such kind of fault: 418" in ends("--fault-kinds", "418")
    assert "cannot be written: Is a directory" in ends("--log", str(tmp_path))


def test_threads_may_ask_all_at_once() -> None:
    """Every answer is right, and every request is kept."""
    service = EmbeddingService()
    expected = service.answer("POST", CONTEXTUAL, KEY, BODY).body
    wrong: list[bytes] = []

    def ask() -> None:
        for _ in range(50):
            answer = service.answer("POST", CONTEXTUAL, KEY, BODY)
            if answer.body != expected:
                wrong.append(answer.body)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(service.requests) == 401
    assert service.stats()["in_flight"] == 0

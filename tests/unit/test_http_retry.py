"""What `pipeline.embedders._http` does about each answer, and when it stops asking."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import httpx
import pytest

from pipeline.embedders._http import Account, JsonService, Patience
from pipeline.embedders._pace import Pace
from pipeline.errors import (
    EmbedError,
    InputRefused,
    RequestTooLarge,
    ServiceRefused,
    ServiceUnavailable,
    SettingsError,
)
from pipeline.records import JsonValue

KEY = "pplx-SECRETsecret0123456789"
OK = httpx.Response(200, json={"value": 7})

Answer = httpx.Response | Exception


class Waits:
    """A clock that runs only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.all: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.all.append(seconds)
        self.now += seconds

    def patience(self, total_seconds: float = 300.0) -> Patience:
        return Patience(total_seconds=total_seconds, sleep=self.sleep, clock=lambda: self.now)


class Service:
    """A JsonService before a list of answers, the last of which is repeated."""

    def __init__(self, answers: Iterable[Answer], *, paced: bool = False, **patience: float) -> None:
        self.asked: list[httpx.Request] = []
        self.waits = Waits()
        self._answers = list(answers)
        account = Account(service="Acme", base_url="https://acme.test/x", api_key=KEY, key_name="ACME_KEY")
        patient = self.waits.patience(**patience)
        self._service = JsonService(
            account,
            transport=httpx.MockTransport(self._answer),
            patience=patient,
            pace=Pace(4, clock=patient.clock, sleep=patient.sleep) if paced else None,
        )

    async def post(self, body: JsonValue = None) -> tuple[int, int]:
        return await self._service.post("/v1/do", {"input": body}, read_value)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = self._answers[min(len(self.asked), len(self._answers) - 1)]
        self.asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        # A response belongs to one request: each is a copy.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def read_value(reply: JsonValue) -> int:
    value = reply.get("value") if isinstance(reply, dict) else None
    if not isinstance(value, int):
        raise ServiceUnavailable(f"expected a number, came {type(value).__name__}")
    return value


def refusal(status: int, said: str = "", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": {"message": said}}, headers=named)


async def test_what_is_asked_is_posted_as_compact_json_with_the_key() -> None:
    service = Service([OK])
    assert await service.post("grüße 文") == (7, 0)
    (request,) = service.asked
    assert request.method == "POST"
    assert str(request.url) == "https://acme.test/x/v1/do"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.content == '{"input":"grüße 文"}'.encode()


PASSING: list[Answer] = [
    *(refusal(code) for code in (408, 409, 425, 429, 500, 502, 503, 504, 520, 524, 529)),
    httpx.ConnectError("connection refused"),
    httpx.ConnectTimeout("slow"),
    httpx.ReadTimeout("slow"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    httpx.DecodingError("bad gzip"),
    httpx.Response(200, json={"error": {"message": "upstream is overloaded", "code": 502}}),
    httpx.Response(200, json={"error": "upstream is overloaded"}),
    httpx.Response(200, json={"data": []}),
    httpx.Response(200, json=[1, 2]),
    httpx.Response(200, json=None),
    httpx.Response(200, content=b'{"value": '),
    httpx.Response(200, content=b""),
    httpx.Response(200, content=b"\xff\xfe\x00"),
    httpx.Response(200, content=b"<html>sign in</html>"),
    refusal(429, "Rate limit: quota of 10 requests per minute exceeded"),
]


@pytest.mark.parametrize("trouble", PASSING, ids=lambda answer: f"{answer!r}"[:60])
async def test_what_may_pass_is_asked_again(trouble: Answer) -> None:
    service = Service([trouble, trouble, OK])
    assert await service.post() == (7, 2)
    assert len({request.content for request in service.asked}) == 1


LASTING: list[tuple[httpx.Response, type[EmbedError]]] = [
    (refusal(413), RequestTooLarge),
    (refusal(400, "This request has 140000 tokens"), RequestTooLarge),
    (refusal(400, "maximum context length is 32768"), RequestTooLarge),
    (refusal(400, "Payload too large"), RequestTooLarge),
    (refusal(422, "request size limit exceeded"), RequestTooLarge),
    (
        httpx.Response(
            422,
            json={
                "detail": [{"loc": ["body", "input"], "msg": "List should be shorter", "type": "too_long"}]
            },
        ),
        RequestTooLarge,
    ),
    (refusal(401, "no such key"), ServiceRefused),
    (refusal(403), ServiceRefused),
    (refusal(402), ServiceRefused),
    (refusal(404, "no such model"), ServiceRefused),
    (refusal(405), ServiceRefused),
    (refusal(301), ServiceRefused),
    (refusal(429, "You exceeded your current quota, please check your plan"), ServiceRefused),
    (refusal(429, "Insufficient credits"), ServiceRefused),
    (httpx.Response(429, json={"error": {"message": "no", "type": "insufficient_quota"}}), ServiceRefused),
    (httpx.Response(400, json={"error": {"message": "what?", "type": "invalid_model"}}), ServiceRefused),
    (
        httpx.Response(
            422, json={"detail": [{"loc": ["body", "dimensions"], "msg": "at most 1024", "type": "x"}]}
        ),
        ServiceRefused,
    ),
    (refusal(400, "cannot embed this"), InputRefused),
    (refusal(422), InputRefused),
    (httpx.Response(400, content=b"\x00not json"), InputRefused),
    (
        httpx.Response(
            422,
            json={
                "detail": [{"loc": ["body", "input", 3, 0], "msg": "must not be empty", "type": "too_short"}]
            },
        ),
        InputRefused,
    ),
]


@pytest.mark.parametrize(("answer", "expected"), LASTING, ids=lambda case: f"{case}"[:40])
async def test_what_will_not_pass_is_asked_once(answer: httpx.Response, expected: type[EmbedError]) -> None:
    service = Service([answer, OK])
    with pytest.raises(EmbedError) as caught:
        await service.post()
    assert type(caught.value) is expected
    assert len(service.asked) == 1
    assert not service.waits.all


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refusal(401, "bad key"), "Acme answered 401: bad key; check ACME_KEY"),
        (
            refusal(402),
            "Acme answered 402: Payment Required; add credit to the account that ACME_KEY belongs to",
        ),
        (refusal(404), "Acme answered 404: Not Found; check the model's name and base_url (acme.test)"),
        (refusal(400, "two\n  lines"), "Acme answered 400: two lines"),
        (refusal(418, "no"), "Acme answered 418: no; check the model's name and base_url (acme.test)"),
        (httpx.Response(413, text="Too\nmuch"), "Acme answered 413: Too much"),
        (httpx.Response(413, html="<h1>secret page</h1>"), "Acme answered 413: Request Entity Too Large"),
    ],
)
async def test_a_message_names_service_status_reason_and_remedy(answer: httpx.Response, told: str) -> None:
    with pytest.raises(EmbedError) as caught:
        await Service([answer]).post()
    assert str(caught.value) == told


async def test_a_long_message_is_trimmed() -> None:
    with pytest.raises(InputRefused) as caught:
        await Service([refusal(400, "blah " * 1000)]).post()
    assert len(str(caught.value)) < 350


async def test_what_was_sent_is_not_quoted_in_an_error() -> None:
    item = {"loc": ["body", "input", 0], "msg": "bad value", "type": "value_error", "input": "PRIVATE TEXT"}
    with pytest.raises(InputRefused) as caught:
        await Service([httpx.Response(422, json={"detail": [item]})]).post("PRIVATE TEXT")
    assert str(caught.value) == "Acme answered 422: bad value"


async def test_waits_double_with_full_jitter_up_to_a_cap() -> None:
    highest = [0.0] * 12
    lowest = [1e9] * 12
    for _ in range(60):
        service = Service([*[refusal(503)] * 12, OK], total_seconds=1e6)
        assert await service.post() == (7, 12)
        highest = [max(pair) for pair in zip(highest, service.waits.all, strict=True)]
        lowest = [min(pair) for pair in zip(lowest, service.waits.all, strict=True)]
    ceilings = [min(30.0, 2.0**attempt) for attempt in range(12)]
    assert all(high <= ceiling for high, ceiling in zip(highest, ceilings, strict=True))
    assert all(high > 0.7 * ceiling for high, ceiling in zip(highest, ceilings, strict=True))
    assert all(low < 0.3 * ceiling for low, ceiling in zip(lowest, ceilings, strict=True))


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds_is_honoured(status: int) -> None:
    service = Service([refusal(status, Retry_After="17"), OK])
    assert await service.post() == (7, 1)
    assert 17.0 <= service.waits.all[0] <= 18.0


async def test_retry_after_as_a_date_is_read_by_the_clock_of_the_service() -> None:
    then = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    later = format_datetime(then + timedelta(seconds=40), usegmt=True)
    service = Service([refusal(429, Retry_After=later, Date=format_datetime(then, usegmt=True)), OK])
    assert await service.post() == (7, 1)
    assert 40.0 <= service.waits.all[0] <= 41.0


async def test_retry_after_as_a_date_is_read_by_our_clock_where_the_service_has_none() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    service = Service([refusal(429, Retry_After=later), OK])
    assert await service.post() == (7, 1)
    assert 30.0 <= service.waits.all[0] <= 41.0


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "nan", "inf", "1e9", "Mon, 99 Foo 2026", "Sat, 01 Jan 2000 00:00:00 GMT"]
)
async def test_a_retry_after_that_says_nothing_leaves_our_own_wait(value: str) -> None:
    service = Service([refusal(429, Retry_After=value), OK])
    assert await service.post() == (7, 1)
    assert service.waits.all[0] <= 1.0


async def test_a_retry_after_past_the_deadline_ends_the_call_at_once() -> None:
    service = Service([refusal(429, "slow down", Retry_After="3600"), OK])
    with pytest.raises(
        ServiceUnavailable, match=r"slow down; it asks to wait 3600 s \(gave up after 1 attempt "
    ) as caught:
        await service.post()
    assert caught.value.retry_after == 3600
    assert not service.waits.all


async def test_the_deadline_ends_a_call_that_never_comes_right() -> None:
    service = Service([refusal(503, "overloaded")])
    with pytest.raises(
        ServiceUnavailable, match=r"^Acme answered 503: overloaded \(gave up after \d+ attempts in \d+ s\)$"
    ):
        await service.post()
    assert 240.0 < service.waits.now < 300.0
    assert len(service.asked) == len(service.waits.all) + 1


async def test_a_reply_that_cannot_be_used_is_not_paid_for_without_end() -> None:
    service = Service([httpx.Response(200, json={"data": []})])
    with pytest.raises(
        ServiceUnavailable, match=r"expected a number, came NoneType \(gave up after 5 attempts"
    ):
        await service.post()
    assert len(service.asked) == 5


async def test_a_call_may_be_given_less_time() -> None:
    waits = Waits()
    account = Account(service="Acme", base_url="https://acme.test", api_key=KEY, key_name="ACME_KEY")
    transport = httpx.MockTransport(lambda _request: httpx.Response(503))
    service = JsonService(account, transport=transport, patience=waits.patience())
    with pytest.raises(ServiceUnavailable):
        await service.post("/v1/do", {}, read_value, within=20.0)
    assert waits.now < 20.0


@pytest.mark.parametrize(("fullness", "seconds"), [(0.0, 10.0), (0.5, 25.0), (1.0, 40.0), (3.0, 40.0)])
async def test_a_fuller_request_is_given_more_time(fullness: float, seconds: float) -> None:
    allowed: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        allowed.append(request.extensions["timeout"])
        return httpx.Response(200, json={"value": 7})

    account = Account(service="Acme", base_url="https://acme.test", api_key=KEY, key_name="ACME_KEY")
    service = JsonService(account, transport=httpx.MockTransport(answer), timeout_seconds=40)
    await service.post("/v1/do", {}, read_value, fullness=fullness)
    assert allowed[0]["read"] == seconds


async def test_an_attempt_that_hangs_is_given_up_and_asked_again() -> None:
    asked = 0

    async def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await anyio.sleep(30 if asked == 1 else 0)
        return httpx.Response(200, json={"value": 7})

    account = Account(service="Acme", base_url="https://acme.test", api_key=KEY, key_name="ACME_KEY")
    service = JsonService(
        account, transport=httpx.MockTransport(answer), timeout_seconds=0.2, patience=Waits().patience()
    )
    with anyio.fail_after(5):
        assert await service.post("/v1/do", {}, read_value, fullness=0) == (7, 1)


async def test_a_call_that_is_cancelled_ends_at_once() -> None:
    service = JsonService(
        Account(service="Acme", base_url="https://acme.test", api_key=KEY, key_name="ACME_KEY"),
        transport=httpx.MockTransport(lambda _request: httpx.Response(503, headers={"Retry-After": "60"})),
    )
    with anyio.move_on_after(0.1) as scope:
        await service.post("/v1/do", {}, read_value)
    assert scope.cancelled_caught


@pytest.mark.parametrize("url", ["api.acme.test", "ftp://acme.test", "https://", "http://[::1", ""])
def test_an_address_that_is_none_is_told_at_once(url: str) -> None:
    with pytest.raises(SettingsError, match="base_url"):
        JsonService(Account(service="Acme", base_url=url, api_key=KEY, key_name="ACME_KEY"))


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", f"{KEY}é", f"{KEY}\r\nX-Evil: 1"])
def test_a_key_that_cannot_stand_in_a_header_is_told_without_showing_it(key: str) -> None:
    with pytest.raises(SettingsError, match="ACME_KEY") as caught:
        JsonService(Account(service="Acme", base_url="https://acme.test", api_key=key, key_name="ACME_KEY"))
    assert KEY not in everything_of(caught.value)


async def test_without_a_key_no_authorization_is_sent() -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json={"value": 7})

    account = Account(service="Acme", base_url="http://localhost:9", api_key="", key_name="ACME_KEY")
    await JsonService(account, transport=httpx.MockTransport(answer)).post("/", {}, read_value)
    assert "Authorization" not in seen[0]


def quoting(kind: Callable[[str], Exception]) -> Exception:
    """As h11 and httpx quote a header that they do not like."""
    error = kind(f"Illegal header value b'Bearer {KEY}'")
    error.__cause__ = OSError(f"Illegal header value b'Bearer {KEY}'")
    return error


LEAKS: list[Answer] = [
    refusal(401, f"Incorrect API key provided: {KEY}."),
    refusal(403, f"x{'y' * 280}{KEY}"),
    refusal(400, json.dumps({"headers": {"Authorization": f"Bearer {KEY}"}})),
    httpx.Response(413, text=f"{KEY} sent too much"),
    httpx.Response(422, json={"detail": f"{KEY}"}),
    refusal(503, f"{KEY} must wait"),
    refusal(429, f"{KEY} must wait", Retry_After="9999"),
    httpx.Response(200, json={"error": {"message": f"{KEY} has no upstream"}}),
    httpx.Response(200, text=f'{{"{KEY}'),
    quoting(httpx.LocalProtocolError),
    quoting(httpx.ConnectError),
    quoting(httpx.ReadTimeout),
    quoting(httpx.DecodingError),
]


@pytest.mark.parametrize("paced", [False, True], ids=["at once", "in turn"])
@pytest.mark.parametrize("answer", LEAKS, ids=lambda answer: f"{answer!r}"[:40].replace(KEY, "…"))
async def test_the_key_is_in_no_error_log_or_chain(
    answer: Answer,
    paced: bool,  # noqa: FBT001 - a case
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    service = Service([answer], paced=paced)
    with pytest.raises(EmbedError) as caught:
        await service.post()
    assert KEY not in everything_of(caught.value)
    assert KEY not in caplog.text
    assert KEY not in repr(service._service) + repr(vars(service._service))
    assert KEY[:12] not in str(caught.value)


def everything_of(error: BaseException) -> str:
    """All that a report could show: the chain with its variables, and every exception reachable from it."""
    parts = ["".join(traceback.format_exception(error))]
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is None:
            continue
        parts += [repr(link), str(link), repr(vars(link))]
        frames = traceback.TracebackException.from_exception(link, capture_locals=True).stack
        parts += [
            repr(frame.locals)
            for frame in frames
            if "/tests/" not in frame.filename  # a test knows the key
        ]
        todo += [link.__cause__, link.__context__]
    return "\n".join(parts)

"""What `pipeline.embedders._http` makes of a pace: turns, deadlines, outages, and a real server."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

from pipeline.embedders._http import Account, JsonService, Patience
from pipeline.embedders._pace import Pace
from pipeline.errors import EmbedError, ServiceRefused, ServiceUnavailable, SettingsError
from pipeline.records import JsonValue
from tests.turns import together
from tests.virtual_time import in_virtual_time, now

KEY = "pplx-SECRETsecret0123456789"
OK = httpx.Response(200, json={"value": 7})
DOWN = httpx.Response(500, json={"error": "no"})

Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


def account(base_url: str = "https://acme.test", **headers: str) -> Account:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Account(service="Acme", base_url=base_url, api_key=KEY, key_name="ACME_KEY", headers=named)


class Service:
    """A JsonService under a pace, in virtual time, before a stand-in that answers after a second."""

    def __init__(self, *answers: httpx.Response | Exception, pace: Pace, total_seconds: float = 300) -> None:
        """The last answer is repeated."""
        self.asked_at: list[float] = []
        self.answers = list(answers)
        self.seconds = 1.0
        self.http = JsonService(
            account(),
            pace=pace,
            timeout_seconds=40,
            patience=Patience(total_seconds=total_seconds, clock=now),
            transport=httpx.MockTransport(self._answer),
        )

    async def post(self, *, tokens: int = 0, within: float | None = None) -> int:
        _, retries = await self.http.post("/v1/do", {}, read_value, tokens=tokens, fullness=0, within=within)
        return retries

    async def refused(self, *, tokens: int = 0, within: float | None = None) -> str:
        with pytest.raises(EmbedError) as caught:
            await self.post(tokens=tokens, within=within)
        return str(caught.value)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.asked_at.append(now())
        await anyio.sleep(self.seconds)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def read_value(reply: JsonValue) -> int:
    value = reply.get("value") if isinstance(reply, dict) else None
    if not isinstance(value, int):
        raise ServiceUnavailable("no value")
    return value


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): text for name, text in headers.items()})


@in_virtual_time
async def test_to_wait_for_the_first_turn_is_not_the_service_s_failure() -> None:
    service = Service(OK, pace=Pace(4, requests_per_minute=1, clock=now), total_seconds=30)
    await together([service.post] * 20)
    assert service.asked_at == [61 * turn for turn in range(20)]  # each is answered after a second


@in_virtual_time
async def test_to_wait_for_another_turn_is_and_ends_with_the_reason_of_the_last() -> None:
    pace = Pace(1, requests_per_minute=1, clock=now)
    service = Service(DOWN, pace=pace, total_seconds=50)
    assert (
        await service.refused()
        == (
            "Acme answered 500: no; now Acme is not asked: what may be sent in a minute is used up "
            "(requests_per_minute 1) (gave up after 1 attempt in 1 s)"
        )
        or now() < 3
    )
    assert len(service.asked_at) == 1


@in_virtual_time
async def test_a_call_that_waits_before_it_asks_again_holds_no_slot() -> None:
    service = Service(answer(503, Retry_After="5"), OK, pace=Pace(1, clock=now))
    began = []

    async def second() -> None:
        await anyio.sleep(0.5)
        began.append(await service.post())

    await together([service.post, second])
    assert service.asked_at[:2] == [0, 6]  # the second's: the first waits a moment longer
    assert began == [0]


@in_virtual_time
async def test_what_the_service_asks_for_holds_the_calls_that_it_did_not_ask() -> None:
    service = Service(answer(429, Retry_After="30"), OK, pace=Pace(8, clock=now))

    async def later() -> None:
        await anyio.sleep(2)
        await service.post()

    await together([service.post, later, later])
    assert service.asked_at[0] == 0
    assert min(service.asked_at[1:]) == 31


@pytest.mark.parametrize(
    ("trouble", "allowed", "opens"),
    [
        (answer(429), 4, 0),
        (answer(503), 4, 1),
        (answer(529), 4, 1),
        (answer(408), 4, 1),
        (answer(504), 4, 1),
        (answer(524), 4, 1),
        (answer(500), 8, 1),
        (answer(502), 8, 1),
        (answer(409), 8, 0),
        (answer(425), 8, 0),
        (httpx.ReadTimeout("slow"), 4, 1),
        (httpx.ConnectError("refused"), 8, 1),
        (httpx.ReadError("reset"), 8, 1),
        (httpx.Response(200, content=b'{"value": '), 8, 1),
        (httpx.Response(200, json={"data": []}), 8, 1),
        (httpx.Response(200, json={"error": {"code": 429, "message": "slow down"}}), 4, 0),
        (httpx.Response(200, json={"error": {"code": "503", "message": "busy"}}), 4, 1),
        (httpx.Response(200, json={"error": {"code": 400, "message": "Provider returned error"}}), 8, 1),
        (httpx.Response(200, json={"error": "what?"}), 8, 1),
    ],
    ids=lambda value: f"{value!r}"[:60],
)
@in_virtual_time
async def test_each_failure_says_what_it_should_of_the_service(
    trouble: httpx.Response | Exception, allowed: int, opens: int
) -> None:
    pace = Pace(8, clock=now)
    service = Service(trouble, pace=pace)
    with anyio.move_on_after(1.001):
        await together([service.post] * 8)
    assert pace.allowed == allowed
    with anyio.move_on_after(40):
        await together([service.post] * 32)
    assert pace._breaker.is_open == opens


@in_virtual_time
async def test_an_attempt_that_hangs_halves_too() -> None:
    pace = Pace(8, clock=now)
    service = Service(OK, pace=pace)
    service.seconds = 11  # of 10 that an empty request may take
    with anyio.move_on_after(10.01):
        await together([service.post] * 8)
    assert pace.allowed == 4
    assert "gave no answer within 2 s" in await service.refused(within=2)  # our haste, not its slowness
    assert pace.allowed == 4


@pytest.mark.parametrize("status", [400, 401, 404, 413])
@in_virtual_time
async def test_a_refusal_ends_an_outage(status: int) -> None:
    pace = Pace(4, clock=now)
    service = Service(*[DOWN] * 10, answer(status), OK, pace=pace)
    service.seconds = 0
    with pytest.raises(EmbedError):
        await service.post()
    assert not pace._breaker.is_open
    assert await service.post() == 0


@in_virtual_time
async def test_through_an_outage_a_service_is_hardly_asked_and_every_call_comes_right() -> None:
    service = Service(httpx.ConnectError("refused"), pace=Pace(16, clock=now))
    service.seconds = 0.1
    done: list[float] = []

    async def call() -> None:
        await service.post()
        done.append(now())

    async def recover() -> None:
        await anyio.sleep(120)
        service.answers = [OK]

    await together([recover, *[call] * 16])
    assert len([at for at in service.asked_at if at < 120]) < 16 + 30
    assert len(done) == 16
    assert max(done) < 120 + 61 + 3


@in_virtual_time
async def test_a_question_fails_at_once_in_an_outage_and_says_what_is_the_matter() -> None:
    service = Service(httpx.ConnectError("refused"), pace=Pace(4, clock=now))
    service.seconds = 0
    with anyio.move_on_after(20):
        await together([service.post] * 4)
    await anyio.sleep(0.5)
    asked, at = len(service.asked_at), now()
    told = await service.refused(within=20)
    assert told.startswith("Acme is not asked: 1")
    assert "attempts in a row failed, and it is tried again in " in told
    assert told.endswith("the last: Acme at acme.test could not be reached: ConnectError: refused")
    assert (len(service.asked_at), now()) == (asked, at)


@in_virtual_time
async def test_a_question_is_the_probe_once_it_is_time() -> None:
    service = Service(*[httpx.ConnectError("refused")] * 10, OK, pace=Pace(4, clock=now))
    service.seconds = 0
    with anyio.move_on_after(0.5):
        while True:
            await service.refused(within=0.01)
            await anyio.sleep(0.01)
    assert len(service.asked_at) == 10
    await anyio.sleep(5)
    assert await service.post(within=20) == 0


@in_virtual_time
async def test_a_question_does_not_wait_longer_than_it_may_for_a_turn() -> None:
    service = Service(OK, pace=Pace(1, clock=now))
    service.seconds = 9

    async def question() -> None:
        await anyio.sleep(1)
        assert await service.refused(within=5) == "Acme is not asked: 1 of 1 slots are in use"
        assert now() == 6

    await together([service.post, question])


@in_virtual_time
async def test_an_outage_that_is_longer_than_a_call_is_told_with_its_reason() -> None:
    service = Service(httpx.ConnectError("refused"), pace=Pace(16, clock=now))
    told: list[str] = []

    async def call() -> None:
        told.append(await service.refused())

    await together([call] * 16)
    assert len(told) == 16
    for message in told:
        assert "Acme at acme.test could not be reached: ConnectError: refused" in message
        assert "(gave up after " in message
    assert now() < 300 + 10


@in_virtual_time
async def test_the_tokens_of_a_request_are_set_right_by_its_usage() -> None:
    counted = httpx.Response(200, json={"value": 7, "usage": {"prompt_tokens": 20, "total_tokens": 30}})
    service = Service(counted, pace=Pace(4, tokens_per_minute=100, clock=now))
    service.seconds = 0
    for _ in range(3):
        await service.post(tokens=70)
    assert service.asked_at == [0, 0, 60]


@in_virtual_time
async def test_a_usage_that_is_none_leaves_our_own_count() -> None:
    answers = [
        httpx.Response(200, json={"value": 7, "usage": usage}) for usage in (None, {"total_tokens": "9"}, 3)
    ]
    service = Service(*answers, pace=Pace(4, tokens_per_minute=100, clock=now))
    service.seconds = 0
    for _ in range(3):
        await service.post(tokens=70)
    assert service.asked_at == [0, 60, 120]


async def test_a_listing_is_got_with_the_same_patience_and_the_same_errors() -> None:
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return [answer(503), httpx.Response(200, json={"value": 7}), answer(404)][min(len(asked), 3) - 1]

    async def no_sleep(_seconds: float) -> None:
        pass

    service = JsonService(
        account("https://acme.test/api"),
        pace=Pace(2, sleep=no_sleep),
        patience=Patience(sleep=no_sleep),
        transport=httpx.MockTransport(reply),
    )
    assert await service.get("/v1/models", read_value) == 7
    assert [(request.method, str(request.url), request.content) for request in asked] == [
        ("GET", "https://acme.test/api/v1/models", b"")
    ] * 2
    with pytest.raises(ServiceRefused, match="Acme answered 404"):
        await service.get("/v1/models", read_value)


async def test_the_account_s_headers_go_with_every_request() -> None:
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"value": 7})

    sender = account(HTTP_Referer="https://example.org/docs", X_Title="Docs & more")
    service = JsonService(sender, transport=httpx.MockTransport(reply))
    await service.post("/", {}, read_value)
    await service.get("/", read_value)
    for request in asked:
        assert request.headers["HTTP-Referer"] == "https://example.org/docs"
        assert request.headers["X-Title"] == "Docs & more"
        assert request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "value", ["", " x", "x ", "x\n", "a\r\nX-Evil: 1", "naïve", "\x00", "文", f"my {KEY}"]
)
def test_a_header_that_cannot_be_sent_is_told_without_showing_it(value: str) -> None:
    with pytest.raises(SettingsError, match="X-Title") as caught:
        JsonService(account(X_Title=value))
    assert not value.strip() or value not in str(caught.value)
    assert KEY not in repr(account(X_Title=value))


@pytest.mark.parametrize("name", ["authorization", "Host", "Content-Length", "", "X Title", "X:", "X-Tïtle"])
def test_a_header_that_is_not_the_user_s_to_set_is_told(name: str) -> None:
    sender = Account(
        service="Acme", base_url="https://a.test", api_key=KEY, key_name="ACME_KEY", headers={name: "x"}
    )
    with pytest.raises(SettingsError, match="cannot be set"):
        JsonService(sender)


@in_virtual_time
async def test_no_key_comes_into_what_a_pace_tells(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = httpx.Response(503, json={"error": {"message": f"{KEY} must wait"}}, headers={"Retry-After": "2"})
    pace = Pace(8, clock=now)
    service = Service(echo, pace=pace)

    async def call() -> None:
        assert KEY not in await service.refused()

    await together([call] * 8)
    assert KEY not in await service.refused(within=1)
    assert "left alone" in caplog.text
    assert "at a time from now on" in caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(vars(pace)) + repr(vars(service.http))


class Server:
    """A real one. Refuses with 429 what is more than it bears at a time."""

    def __init__(self, bears: int) -> None:
        self.bears = bears
        self.busy = 0
        self.busiest = 0
        self.refused = 0
        self.answered = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield "http://{}:{}".format(*server.sockets[0].getsockname())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                status = await self._answer()
                body = b'{"value": 7}'
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        except asyncio.IncompleteReadError:
            writer.close()

    async def _answer(self) -> str:
        if self.busy >= self.bears:
            self.refused += 1
            return "429 Too Many Requests"
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        await asyncio.sleep(random.uniform(0.01, 0.02))
        self.busy -= 1
        self.answered += 1
        return "200 OK"


async def test_a_real_server_that_bears_four_at_a_time_is_soon_asked_no_more() -> None:
    server = Server(bears=4)
    pace = Pace(32)
    async with server.listening() as url:
        service = JsonService(account(url), pace=pace, patience=Patience(first_wait_seconds=0.02))
        retries = 0
        todo = iter(range(120))

        async def work() -> None:
            nonlocal retries
            for _ in todo:
                _, more = await service.post("/", {}, read_value)
                retries += more

        with anyio.fail_after(20):
            await together([work] * 32)
        await service.aclose()
    assert server.answered == 120
    assert server.busiest == 4
    assert server.refused == retries <= 24
    assert 2 <= pace.allowed <= 5
    assert pace.in_flight == 0

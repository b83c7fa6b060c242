"""The search API: what it answers, and what it does with what it cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.desk import desk_of
from apps.http.app import create_app
from config.settings import Settings
from pipeline.errors import ServiceUnavailable, StoreUnavailable
from tests.serving import DOCUMENTS, asking, ingested

QUESTION = "parental leave days"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return ingested(tmp_path_factory.mktemp("served"))


async def search(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/v1/search", json={"question": QUESTION, **asked})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def error(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"]["code"] == code
    message: str = answer.json()["error"]["message"]
    return message


async def test_a_hit_can_be_cited(settings: Settings) -> None:
    async with asking(settings) as client:
        found = await search(client, highlights=True, where="source = handbook")
        hit = found["hits"][0]
        assert (hit["rank"], hit["source"], hit["key"]) == (1, "handbook", "leave.md")
        text = DOCUMENTS["handbook/leave.md"]
        assert text[hit["start"] : hit["end"]] == hit["text"]
        marked = {hit["text"][start:end].lower() for start, end in hit["highlights"]}
        assert marked & {"leave", "days", "parental"}
        assert 0 < hit["similarity"] <= 1
        document = (await client.get(hit["document"])).json()
        assert document["title"] == "Parental leave"
        assert document["chunks"][hit["ordinal"]]["text"] == hit["text"]
        assert [chunk["ordinal"] for chunk in document["chunks"]] == list(range(len(document["chunks"])))


async def test_an_address_asks_as_a_body_does(settings: Settings) -> None:
    asked = {"question": QUESTION, "limit": 2, "where": "team = people", "sources": ["handbook", "staff"]}
    async with asking(settings) as client:
        posted = await client.post("/v1/search", json=asked)
        got = await client.get("/v1/search", params=asked)
        assert posted.json() == got.json()
        asked = {"question": QUESTION, "tokens": 200, "sources": "handbook"}
        assert (await client.get("/v1/context", params=asked)).json()["passages"]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
async def test_pages_follow_each_other_without_a_hit_lost_or_twice(settings: Settings, mode: str) -> None:
    async with asking(settings) as client:
        whole = await search(client, mode=mode, limit=100)
        pages: list[dict[str, Any]] = []
        more = True
        while more:
            page = await search(client, mode=mode, limit=2, offset=len(pages))
            pages += page["hits"]
            more = page["more"]
        assert pages == whole["hits"]
        assert [hit["rank"] for hit in pages] == list(range(1, len(pages) + 1))
        assert not whole["more"]


async def test_hits_are_thinned_out_as_asked(settings: Settings) -> None:
    async with asking(settings) as client:
        asked = {"question": "reset the Fern sensor", "limit": 100}
        whole = (await client.post("/v1/search", json=asked)).json()["hits"]
        texts = [hit["text"] for hit in whole]
        assert len(texts) > len(set(texts))
        once = (await client.post("/v1/search", json={**asked, "deduplicate": True})).json()["hits"]
        assert [hit["text"] for hit in once] == list(dict.fromkeys(texts))
        one = (await client.post("/v1/search", json={**asked, "per_document": 1})).json()["hits"]
        keys = [(hit["source"], hit["key"]) for hit in one]
        assert len(keys) == len(set(keys)) == len({(hit["source"], hit["key"]) for hit in whole})
        near = (await client.post("/v1/search", json={**asked, "min_score": 0.3})).json()["hits"]
        assert near == [hit | {"rank": n} for n, hit in enumerate(
            (hit for hit in whole if hit["similarity"] >= 0.3), start=1)]  # fmt: skip
        assert 0 < len(near) < len(whole)
        spread = (await client.post("/v1/search", json={**asked, "diversity": 0.7})).json()["hits"]
        assert spread[0]["text"] != spread[1]["text"]
        assert whole[0]["text"] == whole[1]["text"]


async def test_weights_decide_what_counts(settings: Settings) -> None:
    async with asking(settings) as client:
        words = await search(client, mode="text", limit=5)
        only = await search(client, text_weight=1, vector_weight=0, limit=5)
        assert [hit["text"] for hit in only["hits"]][:3] == [hit["text"] for hit in words["hits"]][:3]


@pytest.mark.parametrize("unit", ["chunks", "section", "page"])
async def test_a_hit_is_widened_to_what_stands_around_it(settings: Settings, unit: str) -> None:
    async with asking(settings) as client:
        found = await search(client, around=unit, where="path = leave.md", limit=100)
        chunks = (await client.get("/v1/documents/handbook/leave.md")).json()["chunks"]
        assert len(found["hits"]) == len(chunks) > 2
        for hit in found["hits"]:
            around, own = hit["around"], hit["ordinal"]
            if unit == "chunks":
                assert (around["first"], around["last"]) == (max(0, own - 1), min(len(chunks) - 1, own + 1))
            elif unit == "page":  # Markdown has none
                assert (around["first"], around["last"]) == (own, own)
            assert around["first"] <= own <= around["last"]
            run = chunks[around["first"] : around["last"] + 1]
            assert around["text"].split() == " ".join(chunk["text"] for chunk in run).split()
            if unit == "section":
                assert all(chunk["heading_path"] == hit["heading_path"] for chunk in run)


async def test_a_context_fits_and_stands_in_the_documents_order(settings: Settings) -> None:
    from pipeline import tokens  # noqa: PLC0415 - reads a vocabulary

    async with asking(settings) as client:
        for most in (50, 80, 150, 4_000):
            asked = {"question": QUESTION, "tokens": most, "around": "chunks"}
            made = (await client.post("/v1/context", json=asked)).json()
            assert made["tokens"] == tokens.count(made["text"]) <= most
            assert [one["number"] for one in made["passages"]] == list(range(1, len(made["passages"]) + 1))
            for one in made["passages"]:
                assert f"[{one['number']}] {one['heading']}\n" in made["text"]
                assert one["text"] in made["text"]
            places = [(one["source"], one["key"], one["first"]) for one in made["passages"]]
            documents = list(dict.fromkeys((source, key) for source, key, _ in places))
            assert places == sorted(places, key=lambda place: (documents.index(place[:2]), place[2]))
        assert {one["key"] for one in made["passages"]} >= {"leave.md", "pay.md", "merger.md"}
        whole = next(one for one in made["passages"] if one["key"] == "leave.md")
        assert whole["first"] == 0
        assert "Tell your lead" in whole["text"]


async def test_what_the_tables_hold_is_told(settings: Settings) -> None:
    async with asking(settings) as client:
        found = (await client.get("/v1/sources")).json()
        assert {one["name"]: one["documents"] for one in found["sources"]} == {
            "handbook": 3, "staff": 1, "board": 1,
        }  # fmt: skip
        assert found["columns"] == [{"name": "year", "type": "integer"}, {"name": "team", "type": "text"}]
        status = (await client.get("/v1/status")).json()
        assert status["documents"] == 5
        assert status["space"]["dimensions"] == 1024
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("asked", "status", "code", "says"),
    [
        ({}, 422, "invalid_request", "question: Field required"),
        ({"question": ""}, 422, "invalid_request", "question"),
        ({"question": "  "}, 422, "invalid_request", "question"),
        ({"question": "x" * 4_001}, 422, "invalid_request", "question"),
        ({"question": "x", "limit": 101}, 422, "invalid_request", "limit"),
        ({"question": "x", "offset": -1}, 422, "invalid_request", "offset"),
        ({"question": "x", "mode": "magic"}, 422, "invalid_request", "mode"),
        ({"question": "x", "nonsense": 1}, 422, "invalid_request", "nonsense: is no option; valid: "),
        ({"question": "x", "limitt": 1}, 422, "invalid_request", "did you mean 'limit'?"),
        ({"querry": "x", "limit": 0}, 422, "invalid_request", "limit: Input should be greater"),
        ({"question": "x", "where": "a ="}, 400, "bad_request", "a value must stand here"),
        ({"question": "x", "where": "year > soon"}, 400, "bad_request", "whole numbers"),
        ({"question": "x", "where": "yeer > 1"}, 400, "bad_request", "the tables have year, team"),
        ({"question": "x", "mode": "text", "min_score": 0.5}, 400, "bad_request", "no scale"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    settings: Settings, asked: dict[str, Any], status: int, code: str, says: str
) -> None:
    async with asking(settings) as client:
        assert says in error(await client.post("/v1/search", json=asked), status, code)
        if asked:
            assert says in error(await client.get("/v1/search", params=asked), status, code)


async def test_paths_methods_and_bodies_that_are_none_are_told_in_the_same_shape(settings: Settings) -> None:
    async with asking(settings) as client:
        error(await client.get("/nowhere"), 404, "not_found")
        error(await client.put("/v1/search"), 405, "method_not_allowed")
        error(await client.get("/v1/documents/handbook/none.md"), 404, "not_found")
        error(await client.get("/v1/documents/nothing/leave.md"), 404, "not_found")
        headers = {"Content-Type": "application/json"}
        error(await client.post("/v1/search", content=b"{", headers=headers), 422, "invalid_request")
        error(await client.post("/v1/search", content=b"[" * 100_000, headers=headers), 400, "bad_request")
        error(await client.post("/v1/search", content=b"x" * 300_000), 413, "too_large")

        async def endless() -> Any:
            while True:
                yield b" " * 10_000

        error(await client.post("/v1/search", content=endless()), 413, "too_large")


async def test_an_outage_is_told_without_a_detail(settings: Settings) -> None:
    desk = desk_of(settings)

    async def away() -> Any:
        raise StoreUnavailable("s3://bucket/secret does not answer")

    desk.tables[0].open_reader = away
    app = create_app(desk, settings.serve, is_open=True)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for path in ("/v1/search?question=x", "/v1/sources", "/readyz"):
            assert "secret" not in error(await client.get(path), 503, "unavailable")

        async def broken() -> Any:
            raise RuntimeError("a secret detail")

        desk.tables[0].open_reader = broken
        answer = await client.get("/v1/sources")
        assert "secret" not in error(answer, 500, "internal")
        assert "Traceback" not in answer.text


async def test_who_asks_without_a_key_whether_it_is_ready_is_told_no_tables_name(settings: Settings) -> None:
    desk = desk_of({"team": settings, "merger": settings})

    async def away() -> Any:
        raise StoreUnavailable("s3://bucket does not answer")

    desk.tables[1].open_reader = away
    transport = httpx.ASGITransport(
        create_app(desk, settings.serve, is_open=True), raise_app_exceptions=False
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert "merger" in error(await client.get("/v1/search?question=x"), 503, "unavailable")
        assert "merger" not in error(await client.get("/readyz"), 503, "unavailable")


async def test_a_question_that_cannot_be_embedded_can_be_asked_by_its_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> Any:
        raise ServiceUnavailable("api.example.com: 503")

    monkeypatch.setattr("pipeline.embedders.local.LocalEmbedder.embed_query", away)
    async with asking(settings) as client:
        answer = await client.post("/v1/search", json={"question": QUESTION})
        assert '"text"' in error(answer, 503, "unavailable")
        assert (await search(client, mode="text"))["hits"]


async def test_before_an_ingest_it_is_not_ready(tmp_path: Path, settings: Settings) -> None:
    store = settings.store.model_copy(update={"uri": str(tmp_path / "empty")})
    async with asking(settings.model_copy(update={"store": store})) as client:
        error(await client.get("/readyz"), 503, "unavailable")
        told = error(await client.get("/v1/search?question=x"), 503, "unavailable")
        assert told == "nothing is stored yet: the first ingest has not ended"
        assert (await client.get("/v1/sources")).json()["sources"] == []
        assert (await client.get("/healthz")).status_code == 200


async def test_what_takes_too_long_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr("pipeline.embedders.local.LocalEmbedder.embed_query", slow)
    serve = settings.serve.model_copy(update={"timeout_seconds": 0.1})
    async with asking(settings.model_copy(update={"serve": serve})) as client:
        assert "0.1 s" in error(await client.get("/v1/search?question=x"), 504, "timed_out")


async def test_who_asks_too_much_is_told_when_to_come_back(settings: Settings) -> None:
    serve = settings.serve.model_copy(update={"requests_per_minute": 3})
    async with asking(settings.model_copy(update={"serve": serve})) as client:
        answers = [await client.get("/v1/status") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        error(answers[-1], 429, "too_many_requests")
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20
        assert (await client.get("/healthz")).status_code == 200


async def test_a_question_is_embedded_once_however_often_it_is_asked(settings: Settings) -> None:
    desk = desk_of(settings)
    [asked] = desk.asked.values()
    await asyncio.gather(*[asked.embed_query("the same") for _ in range(5)])
    assert (asked.embedded, asked.found) == (1, 0)
    await asked.embed_query("the same")
    assert (asked.embedded, asked.found) == (1, 1)
    asked.most = 2
    for text in ("a", "b", "the same"):
        await asked.embed_query(text)
    assert asked.embedded == 4


async def test_no_page_of_another_origin_may_ask_unless_the_settings_say_so(settings: Settings) -> None:
    asks = {"Origin": "https://chat.example.com", "Access-Control-Request-Method": "POST"}
    async with asking(settings) as client:
        answer = await client.options("/v1/search", headers=asks)
        assert "access-control-allow-origin" not in answer.headers
    serve = settings.serve.model_copy(update={"cors_origins": ("https://chat.example.com",)})
    async with asking(settings.model_copy(update={"serve": serve})) as client:
        answer = await client.options("/v1/search", headers=asks)
        assert answer.headers["access-control-allow-origin"] == "https://chat.example.com"
        answer = await client.options("/v1/search", headers={**asks, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


async def test_without_keys_only_this_machines_names_are_answered_for(settings: Settings) -> None:
    async with asking(settings) as client:
        for host in ("evil.example", "127.0.0.1.evil.example", "", "localhost.evil:8321"):
            error(await client.get("/v1/status", headers={"Host": host}), 421, "wrong_host")
        for host in ("localhost", "127.0.0.1:1", "[::1]:8321", "LOCALHOST:80"):
            assert (await client.get("/v1/status", headers={"Host": host})).status_code == 200
    serve = settings.serve.model_copy(update={"hosts": ("search.lan",)})
    async with asking(settings.model_copy(update={"serve": serve})) as client:
        assert (await client.get("/v1/status", headers={"Host": "search.lan"})).status_code == 200


async def test_the_description_has_examples_and_says_how_to_show_a_key(settings: Settings) -> None:
    async with asking(settings) as client:
        described = (await client.get("/openapi.json")).json()
    asked = described["components"]["schemas"]["SearchRequest"]["properties"]
    assert asked["question"]["examples"]
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert set(described["paths"]) >= {
        "/v1/search", "/v1/context", "/v1/documents/{source}/{key}", "/v1/sources", "/v1/status",
        "/retrieval", "/v1/vector_stores/{vector_store_id}/search", "/healthz", "/readyz",
    }  # fmt: skip

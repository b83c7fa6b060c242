"""The paths of other APIs: their shapes, and the same hits as our own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from config.settings import Settings
from tests.serving import asking, ingested, new_key

QUESTION = "parental leave days"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return ingested(tmp_path_factory.mktemp("served"))


@pytest.fixture(autouse=True)
def _no_keys(settings: Settings) -> None:
    Path(settings.serve.keys).unlink(missing_ok=True)


async def dify(client: httpx.AsyncClient, **more: Any) -> httpx.Response:
    asked = {
        "knowledge_id": "all",
        "query": QUESTION,
        "retrieval_setting": {"top_k": 50, "score_threshold": 0.0},
        **more,
    }
    return await client.post("/retrieval", json=asked)


async def openai(client: httpx.AsyncClient, store: str = "all", **more: Any) -> httpx.Response:
    asked = {"query": QUESTION, "max_num_results": 50, **more}
    return await client.post(f"/v1/vector_stores/{store}/search", json=asked)


async def test_every_path_gives_the_same_hits(settings: Settings) -> None:
    async with asking(settings) as client:
        for source in ("all", "handbook"):
            sources = [] if source == "all" else [source]
            asked = {"question": QUESTION, "limit": 50, "sources": sources}
            ours = (await client.post("/v1/search", json=asked)).json()["hits"]
            theirs = (await dify(client, knowledge_id=source)).json()["records"]
            assert [one["content"] for one in theirs] == [hit["text"] for hit in ours]
            assert [one["score"] for one in theirs] == [max(0, hit["similarity"]) for hit in ours]
            assert [one["metadata"]["path"] for one in theirs] == [hit["key"] for hit in ours]
            page = (await openai(client, source)).json()
            assert [one["content"][0]["text"] for one in page["data"]] == [hit["text"] for hit in ours]
            assert [one["filename"] for one in page["data"]] == [hit["key"] for hit in ours]
            assert (page["object"], page["search_query"]) == ("vector_store.search_results.page", [QUESTION])
            assert (page["has_more"], page["next_page"]) == (False, None)


async def test_a_threshold_is_of_the_similarity(settings: Settings) -> None:
    async with asking(settings) as client:
        setting = {"top_k": 50, "score_threshold": 0.3}
        some = (await dify(client, retrieval_setting=setting)).json()["records"]
        assert 0 < len(some) < len((await dify(client)).json()["records"])
        assert all(one["score"] >= 0.3 for one in some)
        page = (await openai(client, ranking_options={"score_threshold": 0.3})).json()
        assert [one["content"][0]["text"] for one in page["data"]] == [one["content"] for one in some]


@pytest.mark.parametrize(
    ("conditions", "keys"),
    [
        ([("source", "is", "staff")], {"pay.md"}),
        ([("year", ">", 2023)], {"pay.md"}),
        ([("year", "≤", 2023)], {"leave.md", "fern.md", "copy.md"}),
        ([("year", "not empty", None)], {"leave.md", "fern.md", "copy.md", "pay.md"}),
        ([("year", "empty", None)], {"merger.md"}),
        ([("team", "contains", "eopl")], {"leave.md", "fern.md", "copy.md"}),
        ([("team", "contains", "people")], {"leave.md", "fern.md", "copy.md"}),
        ([("team", "not contains", "eopl")], {"pay.md", "merger.md"}),
        ([("team", "start with", "peo"), ("team", "end with", "ple")], {"leave.md", "fern.md", "copy.md"}),
        ([("team", "start with", "*")], set()),
        ([("title", "contains", "Pay of")], {"pay.md"}),
        ([("grade", "is", "B")], {"pay.md"}),
        ([("grade", "is not", "B")], {"leave.md", "fern.md", "copy.md", "merger.md"}),
        ([("grade", "in", ["A", "B"])], {"pay.md"}),
        ([(["grade", "team"], "=", "people")], {"leave.md", "fern.md", "copy.md"}),
    ],
)
async def test_difys_conditions_are_filters(
    settings: Settings, conditions: list[tuple[Any, str, Any]], keys: set[str]
) -> None:
    given = [
        {"name": name, "comparison_operator": operator, "value": value}
        for name, operator, value in conditions
    ]
    async with asking(settings) as client:
        answer = await dify(client, metadata_condition={"logical_operator": "and", "conditions": given})
        assert {one["metadata"]["path"] for one in answer.json()["records"]} == keys


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({"type": "eq", "key": "source", "value": "staff"}, {"pay.md"}),
        ({"type": "gte", "key": "year", "value": 2024}, {"pay.md"}),
        ({"type": "in", "key": "path", "value": ["pay.md", "fern.md"]}, {"pay.md", "fern.md"}),
        ({"type": "nin", "key": "source", "value": ["handbook", "board"]}, {"pay.md"}),
        ({"type": "ne", "key": "grade", "value": "B"}, {"leave.md", "fern.md", "copy.md", "merger.md"}),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "grade", "value": "B"},
                    {
                        "type": "and",
                        "filters": [
                            {"type": "eq", "key": "team", "value": "people"},
                            {"type": "eq", "key": "path", "value": "fern.md"},
                        ],
                    },
                ],
            },
            {"pay.md", "fern.md"},
        ),
    ],
)
async def test_openais_filters_are_filters(settings: Settings, filters: Any, keys: set[str]) -> None:
    async with asking(settings) as client:
        page = (await openai(client, filters=filters)).json()
        assert {one["filename"] for one in page["data"]} == keys


async def test_errors_have_the_shape_that_the_path_is_known_for(settings: Settings) -> None:
    async with asking(settings) as client:
        for answer, status, code in [
            (await dify(client, knowledge_id="nothing"), 404, 2001),
            (await dify(client, query=""), 422, 422),
            (await dify(client, metadata_condition={"conditions": [
                {"name": "year", "comparison_operator": "like", "value": "x"}]}), 400, 400),
        ]:  # fmt: skip
            assert (answer.status_code, answer.json()["error_code"]) == (status, code)
            assert set(answer.json()) == {"error_code", "error_msg"}
        for answer, status, kind in [
            (await openai(client, "nothing"), 404, "invalid_request_error"),
            (await openai(client, query=[]), 422, "invalid_request_error"),
            (await openai(client, filters={"type": "gt", "key": "grade", "value": 1}), 400,
             "invalid_request_error"),
        ]:  # fmt: skip
            assert answer.status_code == status
            assert answer.json()["error"]["type"] == kind
            assert answer.json()["error"]["message"]


async def test_who_is_not_let_in_is_told_so_in_that_shape(settings: Settings) -> None:
    new_key(settings, "k")
    async with asking(settings, {"Authorization": "Bearer dw_no"}) as client:
        answer = await dify(client)
        assert (answer.status_code, answer.json()["error_code"]) == (401, 1002)
        answer = await openai(client)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


async def test_open_webui_gets_what_it_reads_of_a_web_search(settings: Settings) -> None:
    async with asking(settings) as client:
        ours = (await client.post("/v1/search", json={"question": QUESTION, "limit": 3})).json()["hits"]
        answer = await client.post("/open_webui/search", json={"query": QUESTION, "count": 3})
        assert answer.status_code == 200
        results = answer.json()
        assert [set(one) for one in results] == [{"link", "title", "snippet"}] * 3
        assert [(one["title"], one["snippet"]) for one in results] == [
            (hit["title"], hit["text"]) for hit in ours
        ]
        # None of these has a link of the web: they lead to the page of this server.
        assert [unquote(one["link"]) for one in results] == [
            f"http://127.0.0.1:8321/#/document/{hit['source']}/{hit['key']}?chunk={hit['ordinal']}"
            for hit in ours
        ]
        assert (await client.post("/open_webui/search", json={"query": " "})).status_code == 422


async def test_an_app_that_was_told_no_key_is_as_one_that_sends_none(settings: Settings) -> None:
    for empty in ("Bearer ", "Bearer", "bearer"):
        async with asking(settings, {"Authorization": empty}) as client:
            assert (await client.post("/open_webui/search", json={"query": "x"})).status_code == 200
    async with asking(settings, {"Authorization": "Bearer anything"}) as client:
        answer = await openai(client)  # its clients always send one
        assert answer.status_code == 401
        assert "docweave keys create" in answer.json()["error"]["message"]
    new_key(settings, "k")
    async with asking(settings, {"Authorization": "Bearer "}) as client:
        assert (await client.post("/open_webui/search", json={"query": "x"})).status_code == 401


async def test_apps_can_make_tools_of_the_description(settings: Settings) -> None:
    """They call a tool by the operation's name, and models take letters, digits and _ alone."""
    async with asking(settings) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    operations = [one for methods in paths.values() for one in methods.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    assert {"search", "context", "document", "sources"} <= set(names)
    assert all(re.fullmatch(r"[a-z_]{1,64}", name) for name in names)
    assert all(one["description"] for one in operations)

"""A key cannot tell whether what it may not see is there: it asks two servers, of which only one has that.

Whatever is asked, both answer the same. Left out of the comparison is what the documentation says of it: the
words of the whole corpus weigh in the scores of a search by words.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from apps.desk import desk_of
from apps.mcp.server import build
from apps.page.routes import add_page
from config.load import load_settings
from config.settings import Settings
from tests.ingested import ingest_now, written
from tests.serving import asking, new_key

SETTINGS = """
chunking: {max_tokens: 24}
columns: {year: integer, team: text, due: date}
sources:
  handbook: {type: files, path: docs/handbook, metadata: {team: people, year: 2023}}
  staff: {type: files, path: docs/staff, access: [staff], metadata: {team: staff}}
  board: {type: files, path: docs/board, access: [board]}
"""
LEAVE = (
    "---\ngrade: 3\n---\n# Parental leave\n\nParents take 25 days of leave a year.\n\n"
    "## Carrying over\n\nUp to five days of leave may be carried over.\n"
)
SEEN = {
    "handbook/leave.md": LEAVE,
    "handbook/fern.md": "# Fern\n\nA soil sensor.\n\n## Resetting it\n\nHold the button for ten seconds.\n",
}
HIDDEN = {
    "staff/leave.md": LEAVE,  # the same key, and the same text
    "staff/pay.md": "---\ngrade: B\nyear: 2024\ndue: 2024-05-01\nnested: {deep: [1, two, {x: 3}]}\n---\n"
    "# Pay\n\nThe secret salary is 100.\n\n## Bonus\n\nThe secret bonus for leave is 7.\n",
    "board/merger/oak.md": '---\ngrade: [1, "B"]\n---\n# Merger\n\nThe secret merger with Oak.\n',
}
FILTERS = [
    "source = staff",
    "source in (board, staff) or path ~ '**'",
    "not source = handbook",
    "path = pay.md",
    "path = 'leave.md' and not source = handbook",
    "path ~ 'merger/**'",
    "url ~ '**/staff/**'",
    "url ~ '**/pay.md' or url ~ '**/oak.md'",
    "url exists and not url ~ '**/handbook/**'",
    "title = Pay or title ~ 'Mer**'",
    "year = 2024",
    "year >= 2024 or due exists",
    "due < 2030-01-01",
    "team = staff",
    "grade = B",
    "grade = 3",
    "not grade = 3",
    "grade >= 2",
    "nested.deep = two",
    "nested exists",
    "access = staff",
    "metadata.access exists",
    "page = 1",
    "no_such_name = 1",
    "year = soon",
]
QUESTION = "the secret leave, salary, bonus, merger and sensor"
SEARCHES: list[dict[str, Any]] = [
    *({"where": where} for where in FILTERS),
    *({"where": where, "mode": "text"} for where in FILTERS[:4]),
    *({"sources": [name]} for name in ("staff", "board", "nothing", "handbook")),
    {"question": "secret salary of Oak", "mode": "text"},
    {"question": "secret salary of Oak", "mode": "vector", "highlights": True},
    {"around": "chunks", "around_chunks": 20},
    {"around": "section", "highlights": True},
    {"deduplicate": True},
    {"per_document": 1, "diversity": 0.5},
    {"min_score": 0.2},
    {"mode": "vector", "limit": 4},
    {"mode": "vector", "limit": 2, "offset": 3},
]
DOCUMENTS = [
    "staff/pay.md",
    "staff/leave.md",
    "staff/nothing.md",
    "staff",
    "staff/",
    "board/merger/oak.md",
    "board/merger",
    "handbook/../staff/pay.md",
    "handbook/leave.md",
]
NOT_COMPARED = frozenset({"updated_at", "newest", "oldest"})
"""When it was ingested: the two were not at the same time."""
BY_WORDS = frozenset({"score", "text_rank", "rank"})
"""What the words of the whole corpus weigh in."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Settings]:
    """The settings of a server that has nothing hidden, and of one that has."""

    def made(documents: dict[str, str], *sources: str) -> Settings:
        folder = tmp_path_factory.mktemp("of")
        config = written(folder, SETTINGS, {f"docs/{name}": text for name, text in documents.items()})
        assert all(report.complete for report in ingest_now(config, *sources))
        return load_settings(config)

    return made(SEEN, "handbook"), made(SEEN | HIDDEN)


@pytest.fixture(autouse=True)
def _no_keys(both: tuple[Settings, Settings]) -> None:
    for settings in both:
        Path(settings.serve.keys).unlink(missing_ok=True)


@asynccontextmanager
async def clients(
    both: tuple[Settings, Settings], *labels: str
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Of each server, with a key of these labels."""
    without, having = both
    async with (
        asking(without, new_key(without, "k", *labels), is_open=False, also=[add_page]) as one,
        asking(having, new_key(having, "k", *labels), is_open=False, also=[add_page]) as other,
    ):
        yield one, other


def told(value: Any, *, by_words: bool = True) -> Any:
    """What is compared of an answer: lists of hits without their order, where words decide on it."""
    dropped = NOT_COMPARED | (BY_WORDS if by_words else frozenset())
    if isinstance(value, dict):
        return {name: told(one, by_words=by_words) for name, one in value.items() if name not in dropped}
    if isinstance(value, list):
        parts = [told(one, by_words=by_words) for one in value]
        return sorted(parts, key=lambda one: json.dumps(one, sort_keys=True)) if by_words else parts
    return value


def questions() -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Path, body, and whether words weigh in the order."""
    for more in SEARCHES:
        body = {"question": QUESTION, "limit": 50, **more}
        yield "/v1/search", body, body.get("mode") != "vector"
    for where in FILTERS:
        # By meaning: what it begins with, and so what fits, is the same.
        yield "/v1/context", {"question": QUESTION, "mode": "vector", "tokens": 60, "where": where}, False
    for name in ("all", "handbook", "staff", "nothing"):
        setting = {"top_k": 50, "score_threshold": 0.0}
        asked = {"knowledge_id": name, "query": QUESTION, "retrieval_setting": setting}
        yield "/retrieval", asked, True
        conditions = [{"name": "url", "comparison_operator": "contains", "value": "staff"}]
        yield "/retrieval", {**asked, "metadata_condition": {"conditions": conditions}}, True
        of_openai = {"query": QUESTION, "max_num_results": 50}
        yield f"/v1/vector_stores/{name}/search", of_openai, True
        test = {"type": "ne", "key": "path", "value": "leave.md"}
        yield f"/v1/vector_stores/{name}/search", {**of_openai, "filters": test}, True
    yield "/open_webui/search", {"query": QUESTION, "count": 50}, True


async def test_no_question_tells_whether_something_hidden_is_there(both: tuple[Settings, Settings]) -> None:
    asked = 0
    async with clients(both, "nobody's") as (without, having):
        for path, body, by_words in questions():
            one, other = [await client.post(path, json=body) for client in (without, having)]
            assert one.status_code == other.status_code, (path, body, one.text, other.text)
            assert told(one.json(), by_words=by_words) == told(other.json(), by_words=by_words), (path, body)
            assert "secret" not in other.text.replace(QUESTION, "").replace("secret salary of Oak", "")
            asked += one.status_code == 200
    assert asked > 60, "most of them are answered, not refused"


async def test_no_address_tells_whether_something_hidden_is_there(both: tuple[Settings, Settings]) -> None:
    async with clients(both) as (without, having):
        paths = [f"/v1/documents/{name}" for name in DOCUMENTS]
        paths += ["/v1/sources", "/v1/status", "/v1/freshness", "/v1/map", "/v1/spending", "/readyz"]
        for path in paths:
            one, other = [await client.get(path) for client in (without, having)]
            assert one.status_code == other.status_code, path
            if one.is_redirect:
                assert one.headers["location"] == other.headers["location"]
                continue
            assert told(one.json(), by_words=False) == told(other.json(), by_words=False), path
        hidden = [await having.get(f"/v1/documents/staff/{name}.md") for name in ("pay", "nothing")]
        assert hidden[0].content == hidden[1].content
        seen = {one["name"] for one in (await having.get("/v1/sources")).json()["sources"]}
        assert seen == {"handbook"}


async def test_no_tool_tells_whether_something_hidden_is_there(both: tuple[Settings, Settings]) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        *(("search", {"query": QUESTION, "limit": 50, "where": where}) for where in FILTERS),
        *(("fetch", {"id": f"{name}{end}"}) for name in DOCUMENTS for end in ("", "#0", "#99")),
        ("search", {"query": QUESTION, "limit": 50, "sources": ["staff", "board"]}),
        ("list_sources", {}),
    ]
    answers: list[list[Any]] = []
    for settings in both:
        desk = desk_of(settings)
        desk.only_web = True  # where its files lie is another place for each of the two
        async with Client(build(desk, lambda _asking: ("nobody's",))) as client:
            told_of: list[Any] = []
            for tool, arguments in calls:
                done = await client.call_tool(tool, arguments)
                [content] = done.content
                assert content.type == "text"
                said = content.text if done.is_error else told(json.loads(content.text))
                told_of.append((done.is_error, said))
            for name in DOCUMENTS:
                try:
                    read = await client.read_resource(f"docweave://{name}")
                    told_of.append(read.contents[0].text)
                except MCPError as error:
                    told_of.append(str(error))
            answers.append(told_of)
        await desk.aclose()
    assert answers[0] == answers[1]
    assert "secret" not in json.dumps(answers[1])


async def test_no_filter_tells_where_a_file_lies_on_the_server(both: tuple[Settings, Settings]) -> None:
    """Its link is not told, and so cannot be asked for: by patterns it could be guessed, sign by sign."""
    patterns = ["file:**", "/**", "**", "**/leave.md", "[!h]**", "{file,http}**"]
    async with clients(both, "staff") as (_, having):
        for where in [*(f"url ~ '{pattern}'" for pattern in patterns), "url exists", "not not url exists"]:
            found = await having.post("/v1/search", json={"question": QUESTION, "where": where})
            assert (found.status_code, found.json()["hits"]) == (200, []), where
        found = await having.post("/v1/search", json={"question": QUESTION, "where": "not url exists"})
        assert {hit["key"] for hit in found.json()["hits"]} == {"leave.md", "fern.md", "pay.md"}
        setting = {"top_k": 50, "score_threshold": 0.0}
        asked = {"knowledge_id": "all", "query": QUESTION, "retrieval_setting": setting}
        conditions = [{"name": "url", "comparison_operator": "start with", "value": "file:"}]
        found = await having.post(
            "/retrieval", json={**asked, "metadata_condition": {"conditions": conditions}}
        )
        assert found.json() == {"records": []}


async def test_whoever_may_see_it_is_told(both: tuple[Settings, Settings]) -> None:
    """The two differ, or there would be nothing to compare."""
    async with clients(both, "staff") as (without, having):
        body = {"question": QUESTION, "where": "path = pay.md"}
        one, other = [await client.post("/v1/search", json=body) for client in (without, having)]
        assert (len(one.json()["hits"]), len(other.json()["hits"])) == (0, 2)

"""The tables of several settings files, asked at once: LanceDB tables of two spaces, by every face."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client.client import Client
from typer.testing import CliRunner, Result

from apps.cli import app
from apps.desk import desk_of, name_of, named_settings
from apps.http.app import create_app
from apps.mcp.server import build
from apps.page.routes import add_page
from docweave import Index
from docweave.langchain import DocweaveRetriever
from pipeline.errors import ServiceRefused, SettingsError, StoreError
from pipeline.query_desk import Access
from tests.embedding_service import EmbeddingService, serving
from tests.ingested import ingest_now, written

QUESTION = "How many days of parental leave are there?"
SECRET = "The secret leave of the chair is in May."
SAME = "# Fern\n\nA soil sensor. Hold its button for ten seconds.\n"
TEAM = {
    "docs/leave.md": "---\nyear: 2024\n---\n# Leave in our team\n\nParents take 25 days of leave.\n\n"
    "## Handing over\n\nHand the pager over on the day before the leave.\n",
    "docs/fern.md": SAME,
    "board/chair.md": f"# The chair\n\n{SECRET}\n",
}
COMPANY = {
    "docs/leave.md": "# Parental leave\n\nThe company gives twelve weeks of leave.\n",
    "docs/fern.md": SAME,
    "board/merger.md": "# Merger\n\nThe secret merger comes after the leave of the chair.\n",
}
SOURCES = """
chunking: {max_tokens: 24}
sources:
  handbook: {type: files, path: docs}
  board: {type: files, path: board, access: [board]}
"""
PAID = """
embedding: {{provider: perplexity, model: pplx-embed-context-v1-0.6b, dimensions: 256, base_url: '{}'}}
"""


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Those of `team`, by the embedded default, and of `company`, by a service."""
    folder = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch, serving(EmbeddingService()) as address:
        patch.setenv("PERPLEXITY_API_KEY", "test-key")
        team = written(folder / "team", "columns: {year: integer}\n" + SOURCES, TEAM)
        company = written(folder / "elsewhere", PAID.format(address) + SOURCES, COMPANY)
        company = company.rename(company.with_name("company.yaml"))
        for config in (team, company):
            for report in ingest_now(config):
                assert report.complete
        yield [team, company]


@pytest.fixture(scope="module")
def index(configs: list[Path]) -> Iterator[Index]:
    with Index.open(*configs) as index:
        yield index


@asynccontextmanager
async def asking(configs: list[Path]) -> AsyncIterator[httpx.AsyncClient]:
    settings = named_settings(configs)
    desk = desk_of(settings)
    made = create_app(desk, next(iter(settings.values())).serve, is_open=True, also=[add_page])
    transport = httpx.ASGITransport(made, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    finally:
        await desk.aclose()


def run(configs: list[Path], *arguments: str) -> Result:
    options = [option for config in configs for option in ("--config", str(config))]
    return CliRunner().invoke(app, [*arguments, *options])


def found(configs: list[Path], *arguments: str) -> Any:
    result = run(configs, "search", *arguments, "--json", "--limit", "50")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["hits"]


def test_every_hit_says_whose_it_is(index: Index) -> None:
    hits = index.search(QUESTION, limit=50)
    assert {hit.source for hit in hits} == {
        "team.handbook", "team.board", "company.handbook", "company.board"
    }  # fmt: skip
    assert len({(hit.source, hit.key, hit.ordinal) for hit in hits}) == len(hits) == 7
    assert {len(hit.vector) for hit in hits if hit.vector is not None} == {256, 1024}
    assert dict(index.sources()) == {
        "team.handbook": (2, 3), "team.board": (1, 1), "company.handbook": (2, 2), "company.board": (1, 1)
    }  # fmt: skip
    documents = DocweaveRetriever(index=index, k=50).invoke(QUESTION)
    assert [one.id for one in documents] == [f"{hit.source}/{hit.key}#{hit.ordinal}" for hit in hits]


def test_pages_follow_each_other(index: Index) -> None:
    for options in ({}, {"mode": "text"}, {"mode": "vector"}, {"deduplicate": True, "fusion": "rrf"}):
        whole = index.search("leave of the chair", limit=6, **options)
        pages = [index.find("leave of the chair", limit=2, offset=n, **options) for n in (0, 2, 4)]
        assert [hit for page in pages for hit in page.hits] == whole
        assert [page.more for page in pages[:2]] == [True, True]


def test_one_settings_file_is_asked_as_ever(configs: list[Path]) -> None:
    with Index.open(configs[0]) as alone, Index.open(*configs) as both:
        for mode in ("hybrid", "vector", "text"):
            plain = alone.search(QUESTION, mode=mode)
            assert {hit.source for hit in plain} == {"handbook", "board"}
            named = both.search(QUESTION, mode=mode, sources=["team.handbook", "team.board"])
            assert [(f"team.{hit.source}", hit.key, hit.ordinal, hit.score) for hit in plain] == [
                (hit.source, hit.key, hit.ordinal, hit.score) for hit in named
            ]


def test_a_text_of_both_is_told_once_where_a_context_is_made(index: Index) -> None:
    assert len(index.search("fern button", mode="text")) == 2
    assert len(index.search("fern button", mode="text", deduplicate=True)) == 1
    context = index.context("fern button", tokens=1_000, mode="text")
    assert [one.where for one in context.passages] in (
        ["team.handbook/fern.md"],
        ["company.handbook/fern.md"],
    )
    around = index.find("pager", mode="text", around="chunks")
    [chunks] = around.around.values()
    assert [(one.source, one.ordinal) for one in chunks] == [("team.handbook", 0), ("team.handbook", 1)]


def test_labels_hold_in_each(configs: list[Path]) -> None:
    tricks = ("", "source exists", "source = board or not source = x", "source ~ '*.board' or source ~ '**'")
    for access, boards in (((), set()), (("staff",), set()), (("board",), {"team.board", "company.board"})):
        with Index.open(*configs, access=access) as index:
            for where in tricks:
                hits = index.search("secret leave", limit=50, where=where)
                assert {hit.source for hit in hits if hit.source.endswith("board")} == boards
            assert {name for name in index.sources() if name.endswith("board")} == boards
            for source, key in (("team.board", "chair.md"), ("company.board", "merger.md")):
                assert (index.document(source, key) is not None) == bool(boards)
            assert (SECRET in index.context("secret leave").text) == bool(boards)


def test_documents_are_those_of_their_tables(index: Index) -> None:
    document = index.document("company.handbook", "leave.md")
    assert document is not None
    assert (document.source, "twelve weeks" in document.chunks[0].chunk.text) == ("company.handbook", True)
    assert index.document("handbook", "leave.md") is None
    assert index.document("team.handbook", "merger.md") is None


def test_a_column_that_one_lacks_is_refused_unless_only_the_others_are_asked(index: Index) -> None:
    with pytest.raises(SettingsError, match="year is a column of team, and not of company: declare it"):
        index.search(QUESTION, where="year >= 2024")
    hits = index.search(QUESTION, where="year >= 2024", sources=["team.handbook"])
    assert {(hit.source, hit.key) for hit in hits} == {("team.handbook", "leave.md")}
    by_metadata = index.search(QUESTION, where="metadata.year = 2024")
    assert {(hit.source, hit.key) for hit in by_metadata} == {("team.handbook", "leave.md")}
    assert index.search(QUESTION, sources=["nobody.handbook"]) == []


def test_a_threshold_is_of_each_hits_own_similarity(index: Index) -> None:
    every = index.search(QUESTION, limit=50)
    least = sorted(hit.similarity or 0.0 for hit in every)[3]
    some = index.search(QUESTION, limit=50, min_score=least)
    assert {hit.key for hit in some} == {hit.key for hit in every if (hit.similarity or 0.0) >= least}


def test_where_one_does_not_answer_there_is_no_answer(
    configs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PERPLEXITY_API_KEY", "another-key")
        with Index.open(*configs) as index, pytest.raises(ServiceRefused, match=r"^company: ") as refused:
            index.search(QUESTION)
        assert "another-key" not in str(refused.value)
    empty = written(tmp_path / "empty", SOURCES, TEAM)
    result = run([*configs, empty], "search", "leave", "--mode", "text")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "empty: there is nothing to search yet" in result.stderr
    with Index.open(*configs, empty) as index, pytest.raises(StoreError, match=r"^empty: "):
        index.context("leave", mode="text")


async def test_the_search_api_has_all_of_them(configs: list[Path]) -> None:
    async with asking(configs) as client:
        asked = {"question": QUESTION, "limit": 50, "around": "chunks", "highlights": True}
        hits = (await client.post("/v1/search", json=asked)).json()["hits"]
        assert [hit["rank"] for hit in hits] == list(range(1, 8))
        for hit in hits:
            document = (await client.get(hit["document"])).json()
            assert (document["source"], document["key"]) == (hit["source"], hit["key"])
            assert document["chunks"][hit["ordinal"]]["text"] == hit["text"]
        status = (await client.get("/v1/status")).json()
        assert (status["space"], status["documents"], status["chunks"]) == (None, 6, 7)
        assert [(one["name"], one["space"]["dimensions"], one["chunks"]) for one in status["tables"]] == [
            ("team", 1024, 4), ("company", 256, 3)
        ]  # fmt: skip
        assert (await client.get("/readyz")).status_code == 200
        sources = (await client.get("/v1/sources")).json()
        assert [one["name"] for one in sources["sources"]] == [
            "team.board", "team.handbook", "company.board", "company.handbook"
        ]  # fmt: skip
        assert sources["columns"] == [{"name": "year", "type": "integer"}]
        refused = await client.post("/v1/search", json={"question": "x", "where": "year > 2000"})
        assert (refused.status_code, "not of company" in refused.text) == (400, True)

        dify = {"knowledge_id": "company.handbook", "query": QUESTION, "retrieval_setting": {"top_k": 9}}
        records = (await client.post("/retrieval", json=dify)).json()["records"]
        assert {one["metadata"]["source"] for one in records} == {"company.handbook"}
        stores = await client.post("/v1/vector_stores/team.handbook/search", json={"query": QUESTION})
        assert {one["attributes"]["source"] for one in stores.json()["data"]} == {"team.handbook"}

        fresh = (await client.get("/v1/freshness")).json()
        assert [one["name"] for one in fresh["sources"]] == sorted(one["name"] for one in sources["sources"])
        spent = (await client.get("/v1/spending")).json()
        assert {one["source"] for one in spent["runs"]} == {"company.handbook", "company.board"}
        drawn = await client.get("/v1/map")
        assert (drawn.status_code, "cannot be compared" in drawn.text) == (400, True)


async def test_the_search_api_says_whose_tables_do_not_answer(
    configs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", "another-key")
    async with asking(configs) as client:
        answer = await client.get("/v1/search", params={"question": QUESTION})
        assert answer.status_code == 503
        assert answer.json()["error"]["message"].startswith("company: the question cannot be embedded")
        alone = {"question": QUESTION, "sources": ["team.handbook"]}
        assert len((await client.post("/v1/search", json=alone)).json()["hits"]) == 3


async def test_one_settings_file_is_told_of_as_ever(configs: list[Path]) -> None:
    async with asking(configs[:1]) as client:
        status = (await client.get("/v1/status")).json()
        assert set(status) == {"version", "space", "documents", "chunks"}
        assert status["space"]["dimensions"] == 1024
        assert len((await client.get("/v1/map")).json()["points"]) == 3


async def test_tables_that_are_empty_yet_keep_no_map_from_being_drawn(
    configs: list[Path], tmp_path: Path
) -> None:
    empty = written(tmp_path / "new", SOURCES, COMPANY)  # not ingested
    async with asking([configs[0], empty]) as client:
        drawn = (await client.get("/v1/map")).json()
        assert (drawn["documents"], len(drawn["points"])) == (3, 3)
        refused = await client.get("/v1/search", params={"question": QUESTION})
        assert (refused.status_code, "new: nothing is stored yet" in refused.text) == (503, True)


async def test_an_assistant_reads_what_it_found(configs: list[Path]) -> None:
    everything: Access = None
    desk = desk_of(named_settings(configs))
    async with Client(build(desk, lambda _asking: everything)) as client:

        async def call(tool: str, **given: object) -> Any:
            return json.loads((await client.call_tool(tool, given)).content[0].text)  # type: ignore[union-attr]

        results = (await call("search", query=QUESTION, limit=20))["results"]
        assert len(results) == 7
        for result in results:
            read = await call("fetch", id=result["id"])
            assert read["metadata"]["source"] == result["metadata"]["source"]
            assert result["url"].startswith(("file:", "docweave:"))
        names = [one["name"] for one in (await call("list_sources"))["sources"]]
        resource = await client.read_resource("docweave://company.handbook/leave.md")
        assert "twelve weeks" in resource.contents[0].text  # type: ignore[union-attr]
    assert names == ["team.board", "team.handbook", "company.board", "company.handbook"]
    await desk.aclose()


def test_the_command_line_asks_all_that_are_named(configs: list[Path]) -> None:
    assert {hit["source"] for hit in found(configs, QUESTION)} == {
        "team.handbook", "team.board", "company.handbook", "company.board"
    }  # fmt: skip
    assert {hit["source"] for hit in found(configs, QUESTION, "--source", "company.board")} == {
        "company.board"
    }
    both = found(configs, QUESTION, "--source", "board", "--as", "board")
    assert {hit["source"] for hit in both} == {"team.board", "company.board"}
    result = run(configs, "search", QUESTION, "--source", "company.nothing")
    assert result.exit_code == 2
    assert (
        "no source is called 'company.nothing'; valid: team.handbook, team.board, company.hand"
        in result.stderr
    )
    printed = run(configs, "search", "twelve weeks", "--mode", "text")
    assert "company.handbook/leave.md:1-3" in printed.stdout
    context = run(
        configs, "context", "twelve weeks", "--mode", "text", "--where", "source = company.handbook"
    )
    assert context.stdout.startswith("[1] Parental leave\ncompany.handbook/leave.md\n")


def test_a_search_by_words_needs_no_service(configs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERPLEXITY_API_KEY")
    assert found(configs, "twelve weeks", "--mode", "text")[0]["source"] == "company.handbook"


def test_tables_have_names_of_their_own(tmp_path: Path) -> None:
    assert name_of(tmp_path / "My Team" / "docweave.yaml") == "my-team"
    assert name_of(tmp_path / "company.yaml") == "company"
    assert name_of(tmp_path / "Ärzte & Co.yml") == "rzte-co"
    one = written(tmp_path / "notes", SOURCES, TEAM)
    other = written(tmp_path / "b" / "notes", SOURCES, TEAM)
    third = written(tmp_path / "文書", SOURCES, TEAM)
    assert list(named_settings([one])) == [""]
    with pytest.raises(SettingsError, match=r"the tables of two settings are called 'notes'; give those of"):
        named_settings([one, other])
    with pytest.raises(SettingsError, match=r"give its tables a name: store\.name"):
        named_settings([one, third])
    other.write_text(SOURCES + "store: {name: old-notes}\n")
    assert list(named_settings([one, other])) == ["notes", "old-notes"]
    other.write_text(SOURCES + f"store: {{name: again, uri: '{one.parent}/.docweave/lancedb'}}\n")
    with pytest.raises(SettingsError, match="are about the same tables"):
        named_settings([one, other])
    other.write_text(SOURCES + "store: {name: a.b}\n")
    with pytest.raises(SettingsError, match="is made of a-z, 0-9, _ and -, and begins with a letter"):
        named_settings([other])

"""Docweave from Python, and as a retriever of LangChain and LlamaIndex."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from langchain_core.runnables import RunnableLambda
from llama_index.core.schema import QueryBundle

from docweave import Index, SettingsError
from docweave.langchain import DocweaveRetriever as LangChainRetriever
from docweave.llama_index import DocweaveRetriever as LlamaIndexRetriever
from pipeline.protocols import Reader
from pipeline.query_desk import Desk, Tables
from pipeline.records import EmbeddingSpace
from tests.fakes import OracleEmbedder
from tests.ingested import ingest_now, written

QUESTION = "How do I reset the Fern sensor?"
SETTINGS = """\
sources:
  notes: {type: files, path: notes, metadata: {team: garden}}
  board: {type: files, path: board, access: [board]}
"""
FILES = {
    "notes/fern.md": "# Fern\n\n## Resetting\n\nHold the button for ten seconds.\n",
    "notes/clover.md": "# Clover\n\nPass the magnet over the mark.\n",
    "board/vault.md": "# Vault\n\nThe word is rhubarb.\n",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = written(tmp_path_factory.mktemp("library"), SETTINGS, FILES)
    ingest_now(path)
    return path


@pytest.fixture
def index(config: Path) -> Iterator[Index]:
    with Index.open(config) as index:
        yield index


def test_a_script_finds_passages_contexts_documents_and_sources(index: Index) -> None:
    best = index.search(QUESTION, limit=2)[0]
    assert (best.source, best.key) == ("notes", "fern.md")
    assert "ten seconds" in best.text
    context = index.context(QUESTION, tokens=200)
    assert "[1]" in context.text
    assert context.tokens <= 200
    document = index.document("notes", "clover.md")
    assert document is not None
    assert (document.title, document.metadata, document.access) == ("Clover", {"team": "garden"}, ())
    [passage] = document.passages
    assert (passage.ordinal, passage.heading_path, "magnet" in passage.text) == (0, ("Clover",), True)
    assert passage.text == document.chunks[0].chunk.text  # as it was called before
    assert (passage.vector == document.vectors[0]).all()
    assert document.tokens == passage.tokens > 0
    assert index.document("notes", "nothing.md") is None
    assert dict(index.sources()) == {"notes": (2, 2), "board": (1, 1)}


def test_options_are_those_of_the_http_api(index: Index) -> None:
    hits = index.search("rhubarb magnet button", mode="text", where="source = notes", sources=["notes"])
    assert {hit.source for hit in hits} == {"notes"}
    assert index.find("rhubarb magnet button", limit=1).more


async def test_it_works_where_an_event_loop_runs_as_in_a_notebook(config: Path) -> None:
    with Index.open(config) as index:
        assert index.search(QUESTION, limit=1)[0].key == "fern.md"


def test_several_threads_may_ask_at_once(index: Index) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda _: index.search(QUESTION, limit=1)[0].key, range(40))
    assert set(found) == {"fern.md"}


def test_labels_limit_what_is_seen(config: Path) -> None:
    with Index.open(config, access=["staff"]) as index:
        assert "board" not in {hit.source for hit in index.search("rhubarb")}
        assert index.document("board", "vault.md") is None
        assert "board" not in index.sources()
    with Index.open(config, access=["board"]) as index:
        assert index.search("rhubarb", mode="text")[0].key == "vault.md"


def test_a_wrong_option_is_told(index: Index) -> None:
    with pytest.raises(SettingsError, match="top_k is no option; valid: question, mode"):
        index.search(QUESTION, top_k=3)
    with pytest.raises(SettingsError, match="limit"):
        index.search(QUESTION, limit=0)
    with pytest.raises(SettingsError, match="filter"):
        index.search(QUESTION, where="year >")


def test_langchain_gets_the_same_hits_with_what_a_citation_needs(index: Index) -> None:
    retriever = LangChainRetriever(index=index, k=2, options={"where": "source = notes"})
    documents = retriever.invoke(QUESTION)
    hits = index.search(QUESTION, limit=2, where="source = notes")
    assert [one.id for one in documents] == [f"{hit.source}/{hit.key}#{hit.ordinal}" for hit in hits]
    assert [one.page_content for one in documents] == [hit.text for hit in hits]
    known = documents[0].metadata
    assert known["key"] == "fern.md"
    assert known["team"] == "garden"
    assert known["url"].endswith("fern.md")
    counted = retriever | RunnableLambda(len)
    assert counted.invoke(QUESTION) == 2


async def test_langchain_may_ask_from_an_event_loop(index: Index) -> None:
    documents = await LangChainRetriever(index=index, k=1).ainvoke(QUESTION)
    assert documents[0].metadata["key"] == "fern.md"


def test_llama_index_gets_the_same_hits_with_what_a_citation_needs(index: Index) -> None:
    retriever = LlamaIndexRetriever(index, similarity_top_k=2)
    nodes = retriever.retrieve(QueryBundle(QUESTION))
    hits = index.search(QUESTION, limit=2)
    assert [one.node_id for one in nodes] == [f"{hit.source}/{hit.key}#{hit.ordinal}" for hit in hits]
    assert [one.score for one in nodes] == [hit.score for hit in hits]
    assert nodes[0].metadata["headings"][-1] == hits[0].heading_path[-1]
    assert nodes[0].get_content() == hits[0].text


def test_what_is_held_open_is_given_back_though_a_part_of_it_fails() -> None:
    closed = []

    class Held(OracleEmbedder):
        async def aclose(self) -> None:
            closed.append(self.space.model)
            raise ConnectionError(self.space.model)

    async def nobody_asks() -> Reader:
        raise AssertionError

    def tables(model: str) -> Tables:
        embedder = Held(space=EmbeddingSpace(provider="test", model=model, dimensions=16))
        return Tables(name=model, open_reader=nobody_asks, embedder=embedder)

    index = Index(Desk(tables=[tables("one"), tables("other")]))
    with pytest.raises(ConnectionError):
        index.close()
    assert closed == ["one", "other"]
    with pytest.raises(RuntimeError, match="portal is not running"):
        index.sources()

"""Every interface gives the same hits, in the same order: one index, one server, asked as each app asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio.to_thread
import httpx
import pytest
from llama_index.core.schema import QueryBundle
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from typer.testing import CliRunner

from apps.cli import app as cli
from apps.desk import desk_of
from apps.http.app import create_app
from apps.mcp.http import add_mcp
from config.settings import Settings
from docweave import Index
from docweave.langchain import DocweaveRetriever as LangChainRetriever
from docweave.llama_index import DocweaveRetriever as LlamaIndexRetriever
from tests import serving

Place: TypeAlias = tuple[str, str, int]
LIMIT = 7
"""Fewer than there are: what is left out must be the same, too."""
QUESTIONS = (
    "How many days of leave do parents take?",
    "secret",
    "Fern soil sensor: hold the button",  # two documents have the same text, and the same score
    "merger or salary?\nAnd the bonus?",
)


@dataclass(frozen=True)
class Filtered:
    """One filter, as each interface has it."""

    where: str = ""
    dify: Mapping[str, Any] | None = None
    openai: Mapping[str, Any] | None = None


FILTERS = {
    "nothing": Filtered(),
    "source": Filtered(
        "source = handbook",
        {"conditions": [{"name": "source", "comparison_operator": "is", "value": "handbook"}]},
        {"type": "eq", "key": "source", "value": "handbook"},
    ),
    "column and path": Filtered(
        "year >= 2024 or path in ('fern.md', 'merger.md')",
        {
            "logical_operator": "or",
            "conditions": [
                {"name": "year", "comparison_operator": "≥", "value": 2024},
                {"name": "path", "comparison_operator": "in", "value": ["fern.md", "merger.md"]},
            ],
        },
        {
            "type": "or",
            "filters": [
                {"type": "gte", "key": "year", "value": 2024},
                {"type": "in", "key": "path", "value": ["fern.md", "merger.md"]},
            ],
        },
    ),
}
LABELS: Mapping[str, tuple[str, ...] | None] = {"everything": None, "nothing": (), "staff": ("staff",)}


@dataclass(frozen=True)
class Served:
    """The search API at an address, what it answers over, and a key for each set of labels."""

    config: Path
    address: str
    keys: Mapping[str, dict[str, str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings: Settings = serving.ingested(tmp_path_factory.mktemp("same"))
    keys = {
        name: serving.new_key(settings, name, *(labels or ()), everything=labels is None)
        for name, labels in LABELS.items()
    }
    app = create_app(desk_of(settings), settings.serve, is_open=False, also=[add_mcp])
    with serving.served(app) as address:
        config = Path(settings.store.uri).parent.parent / "docweave.yaml"
        yield Served(config=config, address=address, keys=keys)


Ask: TypeAlias = Callable[[str, Filtered], Awaitable[list[Place]]]


@asynccontextmanager
async def interfaces(served: Served, labels: str) -> AsyncIterator[Mapping[str, Ask]]:
    """How each of them is asked, by somebody with these labels."""
    async with AsyncExitStack() as stack:
        headers = served.keys[labels]
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=served.address, headers=headers))
        mcp_http = httpx.AsyncClient(headers=headers)
        await stack.enter_async_context(mcp_http)
        assistant = Client(streamable_http_client(f"{served.address}/mcp", http_client=mcp_http))
        await stack.enter_async_context(assistant)
        index = stack.enter_context(Index.open(served.config, access=LABELS[labels]))
        yield {
            "http": lambda question, by: over_http(http, question, by),
            "mcp": lambda question, by: over_mcp(assistant, question, by),
            "langchain": lambda question, by: by_langchain(index, question, by),
            "llama_index": lambda question, by: by_llama_index(index, question, by),
            "dify": lambda question, by: as_dify(http, question, by),
            "openai": lambda question, by: as_openai(http, question, by),
        }


async def posted(client: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def over_http(client: httpx.AsyncClient, question: str, by: Filtered) -> list[Place]:
    found = await posted(client, "/v1/search", {"question": question, "limit": LIMIT, "where": by.where})
    return [(hit["source"], hit["key"], hit["ordinal"]) for hit in found["hits"]]


async def over_mcp(client: Client, question: str, by: Filtered) -> list[Place]:
    done = await client.call_tool("search", {"query": question, "limit": LIMIT, "where": by.where})
    assert not done.is_error, done.content
    [content] = done.content
    assert content.type == "text"
    about = [one["metadata"] for one in json.loads(content.text)["results"]]
    return [(one["source"], one["key"], one["ordinal"]) for one in about]


async def by_langchain(index: Index, question: str, by: Filtered) -> list[Place]:
    retriever = LangChainRetriever(index=index, k=LIMIT, options={"where": by.where})
    return [place(one.metadata) for one in await retriever.ainvoke(question)]


async def by_llama_index(index: Index, question: str, by: Filtered) -> list[Place]:
    retriever = LlamaIndexRetriever(index, similarity_top_k=LIMIT, where=by.where)
    nodes = await anyio.to_thread.run_sync(retriever.retrieve, QueryBundle(question))
    return [place(one.metadata) for one in nodes]


def place(about: Mapping[str, Any]) -> Place:
    return about["source"], about["key"], about["ordinal"]


async def as_dify(client: httpx.AsyncClient, question: str, by: Filtered) -> list[Place]:
    setting = {"top_k": LIMIT, "score_threshold": 0.0}
    asked = {"knowledge_id": "all", "query": question, "retrieval_setting": setting}
    found = await posted(client, "/retrieval", {**asked, "metadata_condition": by.dify})
    about = [one["metadata"] for one in found["records"]]
    return [(one["source"], one["path"], one["ordinal"]) for one in about]


async def as_openai(client: httpx.AsyncClient, question: str, by: Filtered) -> list[Place]:
    asked = {"query": question, "max_num_results": LIMIT, "filters": by.openai}
    found = await posted(client, "/v1/vector_stores/all/search", asked)
    about = [one["attributes"] for one in found["data"]]
    return [(one["source"], one["path"], one["ordinal"]) for one in about]


@pytest.mark.parametrize("labels", LABELS)
async def test_every_interface_gives_the_same_hits_in_the_same_order(served: Served, labels: str) -> None:
    seen: set[str] = set()
    async with interfaces(served, labels) as every:
        for question in QUESTIONS:
            for name, by in FILTERS.items():
                found = {face: await ask(question, by) for face, ask in every.items()}
                expected = found["http"]
                assert found == dict.fromkeys(found, expected), (question, name)
                assert expected, (question, name)
                assert len(expected) == len(set(expected)) <= LIMIT
                seen |= {source for source, _, _ in expected}
    assert (
        seen
        == {"handbook"} | {"everything": {"staff", "board"}, "nothing": set(), "staff": {"staff"}}[labels]
    )


async def test_open_webui_gets_the_same_passages(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.address, headers=served.keys["staff"]) as http:
        for question in QUESTIONS:
            hits = (await posted(http, "/v1/search", {"question": question, "limit": LIMIT}))["hits"]
            found = await posted(http, "/open_webui/search", {"query": question, "count": LIMIT})
            assert [one["snippet"] for one in found] == [hit["text"] for hit in hits]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {}),
        (["--where", "source = handbook"], {"where": "source = handbook"}),
        (["--fusion", "rrf"], {"fusion": "rrf"}),
        (["--text-weight", "0"], {"text_weight": 0}),
        (["--vector-weight", "0.1", "--text-weight", "5"], {"vector_weight": 0.1, "text_weight": 5}),
    ],
    ids=str,
)
def test_the_command_line_gives_the_same_hits(
    served: Served, options: list[str], fields: dict[str, Any]
) -> None:
    arguments = ["--as", "staff", "--config", str(served.config), "--json", *options]
    with httpx.Client(base_url=served.address, headers=served.keys["staff"]) as http:
        for question in QUESTIONS[:2]:
            done = CliRunner().invoke(cli, ["search", question, "--limit", str(LIMIT), *arguments])
            assert done.exit_code == 0, done.output
            asked = {"question": question, "limit": LIMIT, **fields}
            hits = http.post("/v1/search", json=asked).json()["hits"]
            assert [(place(one), one["score"]) for one in json.loads(done.stdout)["hits"]] == [
                (place(one), one["score"]) for one in hits
            ]


def test_weights_decide_on_a_context(served: Served) -> None:
    def keys(*options: str) -> list[str]:
        asked = ["context", "salary", "--tokens", "60", "--as", "staff", "--json", *options]
        done = CliRunner().invoke(cli, [*asked, "--config", str(served.config)])
        assert done.exit_code == 0, done.output
        return [one["key"] for one in json.loads(done.stdout)["passages"]]

    assert keys("--vector-weight", "0")[0] == keys("--mode", "text")[0] == "pay.md"
    assert keys("--text-weight", "0") == keys("--mode", "vector")

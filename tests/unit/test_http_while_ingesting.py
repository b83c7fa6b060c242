"""The search API beside an ingest: of a document, whoever asks sees one edition, and all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx

from config.load import load_settings
from tests.ingested import ingest_now, written
from tests.serving import asking

SETTINGS = "chunking: {max_tokens: 40}\nsources:\n  pages: {type: files, path: docs}\n"
DOCUMENTS, EDITIONS = 6, 4
PART = re.compile(r"Leave (\d+)/(\d+)/(\d+)")
Seen = Mapping[str, set[tuple[int, int, int]]]
"""Of each document: edition, part, and how many there are."""


def files(edition: int) -> dict[str, str]:
    """Each with 1 to 6 chunks, longer and shorter by turns."""
    texts = {}
    for number in range(DOCUMENTS):
        size = (edition * 5 + number * 3) % 6 + 1
        leaves = [f"## Heading {part}\n\nLeave {edition}/{part}/{size} of parents.\n" for part in range(size)]
        texts[f"docs/{number}.md"] = f"# Page {number}\n\n" + "\n".join(leaves)
    return texts


def parts(texts: Iterable[tuple[str, str]]) -> Seen:
    """What these texts, each with its document's key, are parts of."""
    seen: dict[str, set[tuple[int, int, int]]] = {}
    for key, text in texts:
        for found in PART.findall(text):
            edition, part, size = map(int, found)
            seen.setdefault(key, set()).add((edition, part, size))
    return seen


def check(seen: Seen) -> None:
    assert len(seen) == DOCUMENTS, seen
    for of_document in seen.values():
        edition, _, size = next(iter(of_document))
        assert of_document == {(edition, part, size) for part in range(size)}


async def found_by(client: httpx.AsyncClient, asked: Mapping[str, object]) -> list[dict[str, Any]]:
    answer = await client.post("/v1/search", json={"question": "leave of parents", "limit": 100, **asked})
    assert answer.status_code == 200, answer.text
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits


WAYS: tuple[Mapping[str, object], ...] = (
    {"mode": "hybrid"},
    {"mode": "text", "where": "source = pages"},
    {"mode": "vector"},
    {"mode": "hybrid", "around": "chunks", "around_chunks": 20},
    {"mode": "hybrid", "per_document": 1, "around": "chunks", "around_chunks": 20},
)


async def test_a_search_beside_an_ingest_never_sees_a_torn_document(tmp_path: Path) -> None:
    config = written(tmp_path, SETTINGS, files(0))
    await anyio.to_thread.run_sync(ingest_now, config)
    ways, editions = cycle(WAYS), set()

    async with asking(load_settings(config)) as client, anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def write() -> None:
            for edition in range(1, EDITIONS):
                written(tmp_path, SETTINGS, files(edition))
                [report] = await anyio.to_thread.run_sync(ingest_now, config)
                assert report.complete
            done.set()

        tasks.start_soon(write)
        last = False
        while not last:
            last = done.is_set()
            for _ in WAYS:
                way = next(ways)
                hits = await found_by(client, way)
                if "around" in way:
                    check(parts((hit["key"], hit["around"]["text"]) for hit in hits))
                if "per_document" not in way:
                    seen = parts((hit["key"], hit["text"]) for hit in hits)
                    check(seen)
                    editions |= {edition for of_document in seen.values() for edition, _, _ in of_document}
    assert seen
    assert max(editions) == EDITIONS - 1

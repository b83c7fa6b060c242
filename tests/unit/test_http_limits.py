"""How much is asked at once, what links tell, and keys that are made at the same time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from apps.desk import desk_of
from apps.http.guard import WAITING, Room, _Refused
from config.keys import create, read, revoke
from config.settings import Settings
from pipeline.query import Question
from pipeline.query_desk import web_link
from tests.serving import asking, ingested


async def test_more_than_may_wait_are_told_to_come_again() -> None:
    room, refused, done = Room(2), list[_Refused](), 0
    leave = anyio.Event()

    async def ask() -> None:
        nonlocal done
        try:
            async with room.taken():
                await leave.wait()
                done += 1
        except _Refused as error:
            refused.append(error)

    async with anyio.create_task_group() as asked:
        for _ in range(2 + 2 * WAITING + 3):
            asked.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        leave.set()
    assert done == 2 + 2 * WAITING
    assert [(one.status, one.headers) for one in refused] == [(503, {"Retry-After": "1"})] * 3
    async with room.taken():  # all is free again
        pass


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return ingested(tmp_path_factory.mktemp("limits"))


async def test_no_answer_tells_where_a_file_lies(settings: Settings) -> None:
    async with asking(settings) as client:
        asked = {"question": "leave sensor", "around": "section"}
        answers = [
            await client.post("/v1/search", json={**asked, "limit": 50}),
            await client.post("/v1/context", json=asked),
            await client.get("/v1/documents/staff/pay.md"),
            await client.post("/v1/vector_stores/all/search", json={"query": "leave sensor"}),
            await client.post(
                "/retrieval",
                json={"knowledge_id": "all", "query": "leave", "retrieval_setting": {"top_k": 9}},
            ),
        ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert "file:" not in answer.text
        assert settings.store.uri.rpartition("/")[0] not in answer.text
    assert answers[2].json()["url"] is None
    desk = desk_of(settings)  # as `docweave search` and MCP over stdio have it
    [hit, *_] = (await desk.search(Question(text="salary"))).hits
    assert (hit.url or "").startswith("file:///")
    await desk.aclose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://a.test/x#L1", "https://a.test/x#L1"),
        ("HTTP://a.test", "HTTP://a.test"),
        ("file:///home/a", None),
        ("/home/a", None),
        ("s3://private/a", None),
        ("", None),
        (None, None),
    ],
)
def test_only_links_of_the_web_are_told(url: str | None, told: str | None) -> None:
    assert web_link(url) == told


def test_keys_that_are_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "keys.json"
    names = [f"key {number}" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda name: create(path, name, None), names))
        assert {key.name for key in read(path)} == set(names)
        list(pool.map(lambda name: revoke(path, name), names[:6]))
    assert {key["name"] for key in json.loads(path.read_text())["keys"]} == set(names[6:])

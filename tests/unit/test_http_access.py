"""Who sees what, over every path of the search API, and what they try to see more."""

from __future__ import annotations

import json
import logging
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from apps.cli import app as cli
from apps.desk import desk_of
from apps.http.app import create_app
from config.keys import KeyRing, create, read, revoke
from config.settings import Settings
from pipeline.errors import SettingsError
from tests.serving import asking, ingested, new_key

PUBLIC = {"handbook/leave.md", "handbook/fern.md", "handbook/copy.md"}
STAFF, BOARD = "staff/pay.md", "board/merger.md"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return ingested(tmp_path_factory.mktemp("served"))


@pytest.fixture(autouse=True)
def _no_keys(settings: Settings) -> None:
    Path(settings.serve.keys).unlink(missing_ok=True)


def documents(found: Any) -> set[str]:
    """Every document that an answer tells anything of, in whatever shape."""
    hits = found.get("hits") or found.get("passages") or found.get("data") or found.get("records") or []
    named = set()
    for hit in hits:
        about = hit if "source" in hit else hit.get("attributes") or hit["metadata"]
        named.add(f"{about['source']}/{about.get('key') or about['path']}")
    return named


async def everything_asked(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    """What each path tells of a question that all documents answer."""
    question = "the secret leave, salary, bonus, merger and sensor"
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        mode: ("/v1/search", {"question": question, "mode": mode, "limit": 100, **more})
        for mode in ("hybrid", "vector", "text")
    }
    asked["around"] = ("/v1/search", {"question": question, "limit": 100, "around": "section", **more})
    asked["context"] = ("/v1/context", {"question": question, "tokens": 10_000, "around": "chunks", **more})
    setting = {"top_k": 100, "score_threshold": 0}
    asked["dify"] = ("/retrieval", {"knowledge_id": "all", "query": question, "retrieval_setting": setting})
    asked["openai"] = ("/v1/vector_stores/all/search", {"query": question, "max_num_results": 50})
    answers = {}
    for name, (path, body) in asked.items():
        answer = await client.post(path, json=body)
        assert answer.status_code == 200, (name, answer.text)
        answers[name] = answer.json()
    return answers


@pytest.mark.parametrize(
    ("access", "sees"),
    [
        ([], PUBLIC),
        (["nobody's", "staff' OR '1'='1", "*", "%", "Staff"], PUBLIC),
        (["staff"], PUBLIC | {STAFF}),
        (["board"], PUBLIC | {BOARD}),
        (["chair's"], PUBLIC | {BOARD}),
        (["staff", "board"], PUBLIC | {STAFF, BOARD}),
        (None, PUBLIC | {STAFF, BOARD}),
    ],
)
async def test_a_key_sees_what_its_labels_say_over_every_path(
    settings: Settings, access: list[str] | None, sees: set[str]
) -> None:
    key = new_key(settings, "k", *(access or ()), everything=access is None)
    async with asking(settings, key) as client:
        for name, found in (await everything_asked(client)).items():
            # In a context, a text stands once.
            once = {"handbook/copy.md", "handbook/fern.md"} if name == "context" else set()
            assert documents(found) | once == sees, name
        counted = {
            one["name"]: one["documents"] for one in (await client.get("/v1/sources")).json()["sources"]
        }
        assert counted == {
            source: sum(one.startswith(source) for one in sees)
            for source in {one.split("/")[0] for one in sees}
        }
        assert (await client.get("/v1/status")).json()["documents"] == len(sees)
        for document in PUBLIC | {STAFF, BOARD}:
            answer = await client.get(f"/v1/documents/{document}")
            assert answer.status_code == (200 if document in sees else 404)


TRICKS = [
    {"where": "source = staff"},
    {"where": "not source = handbook"},
    {"where": "path = pay.md or path = merger.md"},
    {"where": "access = staff"},
    {"where": "access exists or not access exists"},
    {"where": "metadata.access = staff"},
    {"where": "'access IS NULL) OR (1' = 1 or not a = b"},
    {"where": "source in ('staff', \"') OR TRUE --\")"},
    {"where": "path ~ '**'"},
    {"where": "grade = B"},
    {"where": "year = 2024"},
    {"sources": ["staff", "board"]},
    {"sources": ["') OR 1=1 --"]},
    {"per_document": 1, "diversity": 1.0},
    {"min_score": 0.0},
    {"text_weight": 0},
]


@pytest.mark.parametrize("trick", TRICKS, ids=str)
async def test_no_question_gets_around_a_keys_labels(settings: Settings, trick: dict[str, Any]) -> None:
    async with asking(settings, new_key(settings, "public")) as client:
        if "min_score" not in trick:
            found = await everything_asked(client, **trick)
            assert not any("secret" in hit["text"] for name in ("hybrid", "text", "vector", "around")
                           for hit in found[name]["hits"])  # fmt: skip
            assert "secret" not in found["context"]["text"]
            for answer in found.values():
                assert documents(answer) <= PUBLIC
        else:
            asked = {"question": "secret", "limit": 100, **trick}
            assert documents((await client.post("/v1/search", json=asked)).json()) <= PUBLIC


@pytest.mark.parametrize(
    "path",
    [
        "/v1/documents/staff/pay.md",
        "/v1/documents/staff/./pay.md",
        "/v1/documents/staff%2Fpay.md",
        "/v1/documents/handbook/../staff/pay.md",
        "/v1/documents/staff/pay.md%00",
        "/v1/documents/staff/pay.md'%20OR%20'1'='1",
        "/v1/documents/staff'%20OR%20source='staff/pay.md",
        "/v1/documents/STAFF/pay.md",
        "/v1//documents/staff/pay.md",
    ],
)
async def test_no_address_gets_around_a_keys_labels(settings: Settings, path: str) -> None:
    async with asking(settings, new_key(settings, "public")) as client:
        answer = await client.get(path)
        assert answer.status_code == 404
        assert "secret" not in answer.text


async def test_a_document_that_may_not_be_seen_is_as_one_that_is_not_there(settings: Settings) -> None:
    async with asking(settings, new_key(settings, "public")) as client:
        hidden = await client.get("/v1/documents/staff/pay.md")
        missing = await client.get("/v1/documents/staff/nothing.md")
        assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content)
        for name in ("staff", "nothing"):
            body = {"knowledge_id": name, "query": "x", "retrieval_setting": {"top_k": 1}}
            answer = await client.post("/retrieval", json=body)
            assert (answer.status_code, answer.json()["error_code"]) == (404, 2001)
            assert "board" not in answer.text
            answer = await client.post(f"/v1/vector_stores/{name}/search", json={"query": "x"})
            assert answer.status_code == 404


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Bearer dw_", "Bearer x" * 999, "Basic {key}",
     "{key}", "Bearer {key}x", "Bearer {digest}"],
)  # fmt: skip
async def test_without_the_key_nobody_is_let_in(settings: Settings, given: str) -> None:
    secret, key = create(Path(settings.serve.keys), "k", None)
    header = given.replace("{key}", secret).replace("{digest}", key.sha256)
    async with asking(settings, {"Authorization": header}) as client:
        for path in ("/v1/search?question=x", "/v1/sources", "/openapi.json", "/nowhere"):
            answer = await client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
    async with asking(settings) as client:
        assert (await client.get("/v1/sources")).status_code == 401, "once there is a key, all need one"
    async with asking(settings, {"Authorization": f"bearer  {secret}"}) as client:
        assert (await client.get("/v1/sources")).status_code == 200


async def test_a_key_that_is_revoked_or_over_opens_nothing_from_then_on(settings: Settings) -> None:
    path = Path(settings.serve.keys)
    async with asking(settings, new_key(settings, "k")) as client:
        assert (await client.get("/v1/status")).status_code == 200
        revoke(path, "k")
        assert (await client.get("/v1/status")).status_code == 401
    async with asking(settings) as client:
        assert (await client.get("/v1/status")).status_code == 401, "the last key is gone, and it stays shut"
    secret, _ = create(path, "old", None, expires=datetime.now(UTC) - timedelta(seconds=1))
    async with asking(settings, {"Authorization": f"Bearer {secret}"}) as client:
        assert (await client.get("/v1/status")).status_code == 401


async def test_a_file_of_keys_that_cannot_be_read_lets_nobody_in(settings: Settings) -> None:
    path = Path(settings.serve.keys)
    async with asking(settings, new_key(settings, "k")) as client:
        for broken in ("", "{", "[]", '{"keys": [{"name": "k"}]}', '{"keys": 1}'):
            path.write_text(broken)  # noqa: ASYNC240 - a moment's work
            assert (await client.get("/v1/status")).status_code == 401
    ring = KeyRing(path)
    assert ring.find("dw_x") is None


async def test_no_key_is_told_or_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = new_key(settings, "k")
    secret = key["Authorization"].partition(" ")[2]
    async with asking(settings, key) as client:
        for path in ("/v1/search?question=x", "/v1/search", "/nowhere", "/v1/search?question=x&where=a"):
            assert secret not in (await client.get(path)).text
    async with asking(settings, {"Authorization": f"Bearer {secret}x"}) as client:
        assert secret not in (await client.get("/v1/status")).text
    Path(settings.serve.keys).write_text(  # noqa: ASYNC240 - a moment's work
        f'{{"keys": [{{"name": "{secret}!"}}]}}'
    )
    async with asking(settings, key) as client:
        await client.get("/v1/status")
    assert secret not in caplog.text


async def test_no_websocket_is_let_in(settings: Settings) -> None:
    sent = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    app = create_app(desk_of(settings), settings.serve, is_open=True)
    scope = {"type": "websocket", "path": "/mcp", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    assert sent == ["websocket.close"]


async def test_wrong_keys_are_tried_only_so_often(settings: Settings) -> None:
    new_key(settings, "k")
    async with asking(settings, {"Authorization": "Bearer dw_wrong"}) as client:
        answers = [(await client.get("/v1/status")).status_code for _ in range(70)]
    assert answers[:60] == [401] * 60
    assert 429 in answers[60:]  # one more is let through for each second that this takes


def keys(settings: Settings, *arguments: str) -> Result:
    config = Path(settings.store.uri).parent.parent / "docweave.yaml"
    return CliRunner().invoke(cli, ["keys", *arguments, "--config", str(config)])


def test_keys_are_made_listed_and_revoked(settings: Settings) -> None:
    assert "There are no keys" in keys(settings, "list").output
    made = keys(settings, "create", "hr bot", "--access", "staff", "-a", "board", "--days", "3")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert secret.startswith("dw_")
    assert len(secret) == 46
    path = Path(settings.serve.keys)
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [key] = read(path)
    assert (key.name, key.access) == ("hr bot", ("staff", "board"))
    assert KeyRing(path).find(secret) == key
    listed = keys(settings, "list").output
    assert "hr bot" in listed
    assert "staff, board" in listed
    assert secret not in listed
    told = json.loads(keys(settings, "create", "all", "--everything", "--json").stdout)
    assert told["access"] is None
    assert told["key"] != secret
    assert [one["name"] for one in json.loads(keys(settings, "list", "--json").stdout)["keys"]] == [
        "hr bot",
        "all",
    ]
    assert keys(settings, "revoke", "hr bot").exit_code == 0
    assert KeyRing(path).find(secret) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "twice"], "already"),
        (["create", "-- no"], "begins with a letter"),
        (["create", "x\ny"], "begins with a letter"),
        (["create", "x", "--access", " "], "a label"),
        (["create", "x", "--access", "a", "--everything"], "leave one of them out"),
        (["revoke", "nobody"], "no key called 'nobody'; keys: twice"),
    ],
)
def test_keys_that_cannot_be_are_refused(settings: Settings, arguments: list[str], says: str) -> None:
    assert keys(settings, "create", "twice").exit_code == 0
    command = arguments if "-- no" not in arguments else ["create", "--", "-- no"]
    if "--" in command:
        config = str(Path(settings.store.uri).parent.parent / "docweave.yaml")
        result = CliRunner().invoke(cli, ["keys", "create", "--config", config, "--", "-- no"])
    else:
        result = keys(settings, *command)
    assert result.exit_code == 2
    assert says in result.output


def test_a_file_that_holds_no_keys_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"passwords": []}')
    for change in (lambda: create(path, "k", ()), lambda: revoke(path, "k")):
        with pytest.raises(SettingsError, match="does not hold keys"):
            change()
    assert path.read_text() == '{"passwords": []}'
    assert list(tmp_path.iterdir()) == [path]

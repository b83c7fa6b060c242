"""What the YAML may say of the search API and of a reranker."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from apps.desk import desk_of
from apps.http.app import create_app
from config.load import load_settings
from pipeline.errors import SettingsError
from tests.loopback import Asked, Said, serving
from tests.serving import SETTINGS, ingested
from tests.settings_text import Load

SOURCES = "sources:\n  notes: {type: files, path: .}\n"


def test_nothing_said_is_this_machine_alone(load: Load, file: Path) -> None:
    settings = load(SOURCES)
    assert (settings.serve.host, settings.serve.port) == ("127.0.0.1", 8321)
    assert settings.serve.keys == str(file.parent / ".docweave" / "keys.json")
    assert (settings.serve.cors_origins, settings.serve.hosts) == ((), ())
    assert settings.rerank is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("serve: {port: 70000}", "port"),
        ("serve: {timeout_seconds: 0}", "timeout_seconds"),
        ("serve: {max_request_bytes: lots}", "max_request_bytes"),
        ("serve: {keys: ''}", "must be a path"),
        ("serve: {prot: 1}", "prot"),
        ("rerank: {base_url: example.com, model: m}", "must be an address"),
        ("rerank: {base_url: 'https://key@example.com', model: m}", "without a key in it"),
        ("rerank: {base_url: 'https://example.com'}", "model"),
        ("rerank: {base_url: 'https://example.com', model: m, api_key: secret123}", "api_key"),
        ("rerank: {provider: local}", "path"),
        ("rerank: {provider: local, path: models, model: m}", "model"),
        ("rerank: {provider: locl, path: models}", "local"),
    ],
)
def test_what_cannot_be_meant_is_refused(load: Load, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(f"{text}\n{SOURCES}")
    assert says in str(refused.value)
    assert "secret123" not in str(refused.value)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    ingested(tmp_path)
    return tmp_path / "docweave.yaml"


async def test_a_reranker_of_the_settings_orders_the_hits_of_every_path(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RERANK_KEY", "right")

    def backwards(asked: Asked) -> Said:
        assert (asked.path, asked.headers["authorization"]) == ("/v1/rerank", "Bearer right")
        best = range(len(asked.json()["documents"]))
        return Said(content={"results": [{"index": n, "relevance_score": n / 100} for n in reversed(best)]})

    with serving(backwards) as address:
        rerank = f"rerank: {{base_url: {address}/v1, model: m, api_key: '${{RERANK_KEY}}'}}\n"
        served.write_text(SETTINGS + rerank)  # noqa: ASYNC240 - a moment's work
        settings = load_settings(served)
        desk = desk_of(settings)
        transport = httpx.ASGITransport(create_app(desk, settings.serve, is_open=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asked = {"question": "parental leave", "limit": 50}
            plain = (await client.post("/v1/search", json={**asked, "rerank": False})).json()
            found = (await client.post("/v1/search", json=asked)).json()
            assert (plain["reranked"], found["reranked"]) == (False, True)
            texts = [hit["text"] for hit in plain["hits"]]
            assert [hit["text"] for hit in found["hits"]] == texts[::-1]
            assert [hit["rerank_score"] for hit in found["hits"]] == [
                n / 100 for n in reversed(range(len(texts)))
            ]
            asked = {"knowledge_id": "all", "query": "parental leave", "retrieval_setting": {"top_k": 50}}
            records = (await client.post("/retrieval", json=asked)).json()["records"]
            assert [one["content"] for one in records] == texts[::-1]
            assert records[0]["score"] == (len(texts) - 1) / 100
        await desk.aclose()

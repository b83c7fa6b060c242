"""`check` tries everything, each whatever becomes of the others, and raises nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.build import build_embedder, open_store
from config.check import Finding, check
from config.load import load_settings
from config.settings import Settings
from pipeline.records import DocumentState, Embedded, EmbeddingSpace, Prepared
from tests.embedding_service import EmbeddingService, serving

# A test has its loop for itself, and its files are small.
# ruff: noqa: ASYNC240

SETTINGS = """\
store: {uri: db}
sources:
  good: {type: files, path: good}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.md").write_bytes(b"# A")
    (tmp_path / "docweave.yaml").write_text(SETTINGS, "utf-8")
    return tmp_path / "docweave.yaml"


async def findings(file: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in await check(file)}


async def test_what_works_is_said_to_work(file: Path) -> None:
    found = await findings(file)
    assert list(found) == ["settings", "sources.good", "store", "embedding"]
    assert all(finding.ok for finding in found.values()), found
    assert found["sources.good"].message == "lists 1 item; read a.md (3 bytes)"
    assert "is empty so far" in found["store"].message
    assert "embedded a question as 1,024 bytes" in found["embedding"].message
    assert "paid" not in found["embedding"].message


async def test_nothing_is_left_behind(file: Path) -> None:
    before = sorted(file.parent.rglob("*"))
    await check(file)
    assert sorted(file.parent.rglob("*")) == before


async def test_every_problem_of_the_file_is_a_finding(file: Path) -> None:
    file.write_text("chunking: {max_tokens: 1}\nsources: {a: {type: fils}}\n", "utf-8")
    found = await check(file)
    assert [(finding.what, finding.ok) for finding in found] == [("settings", False)] * 2
    assert "docweave.yaml:1:24: chunking.max_tokens" in found[0].message


async def test_one_failure_does_not_hide_the_others(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERPLEXITY_API_KEY", raising=False)
    (file.parent / "empty").mkdir()
    (file.parent / "db").write_bytes(b"a file where the store should be")
    file.write_text(
        SETTINGS
        + "  gone: {type: files, path: gone}\n"
        + "  empty: {type: files, path: empty}\n"
        + "  large: {type: files, path: good, max_bytes: 1}\n"
        + "embedding: {provider: perplexity}\n",
        "utf-8",
    )
    found = await findings(file)
    assert {what: finding.ok for what, finding in found.items()} == {
        "settings": True,
        "sources.good": True,
        "sources.gone": False,
        "sources.empty": False,
        "sources.large": False,
        "store": False,
        "embedding": False,
    }
    assert "does not exist" in found["sources.gone"].message
    assert "is a file" in found["store"].message
    assert "lists nothing" in found["sources.empty"].message
    assert "sources.large.max_bytes" in found["sources.large"].message
    assert "PERPLEXITY_API_KEY is not set" in found["embedding"].message


async def test_an_item_that_cannot_be_read_is_no_failure_while_another_can(file: Path) -> None:
    (file.parent / "good" / "0.md").write_bytes(b"x" * 100)
    file.write_text(SETTINGS.replace("path: good", "path: good, max_bytes: 50"), "utf-8")
    found = await findings(file)
    assert found["sources.good"].message == "lists 2 items; read a.md (3 bytes)"


async def test_only_the_first_items_of_a_source_are_listed(file: Path) -> None:
    for number in range(150):
        (file.parent / "good" / f"{number:03}.md").write_bytes(b"x")
    found = await findings(file)
    assert found["sources.good"].message.startswith("lists 100 items or more; ")


@pytest.mark.parametrize(
    ("embedding", "vector_bytes"),
    [
        ("provider: perplexity, base_url: '{0}', encoding_format: base64_binary", "128 bytes"),
        ("provider: openrouter, base_url: '{0}/api/v1', dimensions: 256", "512 bytes"),
    ],
)
async def test_a_service_is_asked_one_question_that_is_said_to_be_paid(
    file: Path, monkeypatch: pytest.MonkeyPatch, embedding: str, vector_bytes: str
) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", "test-key")
    monkeypatch.setenv("OPENROUTER_API_KEY", "test-key")
    service = EmbeddingService()
    with serving(service) as base_url:
        file.write_text(f"{SETTINGS}embedding: {{{embedding.format(base_url)}}}\n", "utf-8")
        found = await findings(file)
    assert found["embedding"].ok, found
    assert f"embedded a question as {vector_bytes} (one paid call" in found["embedding"].message
    assert len(service.requests) == 1


async def make_tables(settings: Settings, space: EmbeddingSpace) -> None:
    state = DocumentState(
        source="good", key="a.md", version="1", recipe="r", content_key="c", group_keys=(), row_key="r"
    )
    empty = Prepared(state=state, title="A", url=None, media_type="text/plain", metadata={}, groups=())
    await (await open_store(settings, space)).replace([Embedded(prepared=empty, vectors=())])


async def test_a_store_of_another_space_is_said_to_be(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = EmbeddingSpace(provider="perplexity", model="pplx-embed-context-v1-0.6b", dimensions=256)
    await make_tables(load_settings(file), other)
    found = await findings(file)
    assert not found["store"].ok
    assert str(other) in found["store"].message
    assert "local/" in found["store"].message


async def test_a_store_of_this_space_is_said_to_be(file: Path) -> None:
    settings = load_settings(file)
    await make_tables(settings, build_embedder(settings).space)
    found = await findings(file)
    assert found["store"].ok
    assert "holds vectors of local/" in found["store"].message

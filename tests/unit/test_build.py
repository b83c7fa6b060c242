"""Settings become live objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.build import build_embedder, build_pipeline, connectors, open_reader
from pipeline.errors import SettingsError
from pipeline.ingest import ingest_source
from pipeline.records import EmbeddingSpace, Filter
from tests.settings_text import SOURCES, Load


class TestBuilding:
    def test_a_missing_key_is_named(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PERPLEXITY_API_KEY", raising=False)
        with pytest.raises(SettingsError, match="PERPLEXITY_API_KEY is not set"):
            build_embedder(load("embedding: {provider: perplexity}\n" + SOURCES))

    async def test_the_key_comes_from_the_usual_variable(
        self, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PERPLEXITY_API_KEY", "pplx-1")
        embedder = build_embedder(load("embedding: {provider: perplexity, dimensions: 256}\n" + SOURCES))
        assert embedder.space == EmbeddingSpace(
            provider="perplexity", model="pplx-embed-context-v1-0.6b", dimensions=256
        )
        await embedder.aclose()

    async def test_another_server_may_ask_for_no_key(
        self, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PERPLEXITY_API_KEY", raising=False)
        embedder = build_embedder(
            load("embedding: {provider: perplexity, base_url: 'http://localhost:1'}\n" + SOURCES)
        )
        await embedder.aclose()

    async def test_the_default_embedder_is_built(self, load: Load) -> None:
        embedder = build_embedder(load(SOURCES))
        assert embedder.space.provider == "local"
        await embedder.aclose()

    async def test_a_pipeline_ingests_what_a_reader_then_finds(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "a.md").write_text("# Tea\n\nThe kettle is on the second floor.\n", "utf-8")
        settings = load(SOURCES)
        [(connector, metadata)] = connectors(settings)
        async with build_pipeline(settings) as pipeline:
            report = await ingest_source(connector, pipeline, metadata=metadata)
        assert (report.added, report.failures) == (1, [])
        reader = await open_reader(settings)
        assert await reader.space() == pipeline.embedder.space
        assert [hit.key for hit in await reader.matching("kettle", limit=3, where=Filter())] == ["a.md"]

    async def test_the_chunk_size_and_the_concurrency_are_those_of_the_settings(self, load: Load) -> None:
        settings = load("chunking: {max_tokens: 20}\nembedding: {concurrency: 7}\n" + SOURCES)
        async with build_pipeline(settings) as pipeline:
            assert "20" in pipeline.chunker.recipe
            assert pipeline.concurrency == 7

    def test_all_sources_are_connected_or_those_named(self, load: Load) -> None:
        settings = load(
            "sources:\n  a: {type: files, path: a, metadata: {team: x}}\n  b: {type: files, path: b}\n"
            "  c: {type: files, path: c}\n"
        )
        assert [(connector.source, metadata) for connector, metadata in connectors(settings)] == [
            ("a", {"team": "x"}),
            ("b", {}),
            ("c", {}),
        ]
        assert [connector.source for connector, _ in connectors(settings, ["c", "a", "c"])] == ["c", "a"]

    def test_an_unknown_source_suggests_the_nearest(self, load: Load) -> None:
        with pytest.raises(
            SettingsError, match=r"no source is called 'dcos'; valid: docs; did you mean 'docs'[?]"
        ):
            connectors(load(SOURCES), ["dcos"])

"""Settings become live objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.build import build_embedder, build_pipeline, connectors, open_reader
from pipeline.errors import SettingsError
from pipeline.ingest import ingest_source
from pipeline.records import EmbeddingSpace, EmbedLimits, Filter, Grouping, Lead
from tests.embedding_service import EmbeddingService, serving
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

    @pytest.mark.parametrize(
        ("embedding", "space"),
        [
            (
                "provider: perplexity, model: pplx-embed-v1-4b, encoding_format: base64_binary",
                EmbeddingSpace(
                    provider="perplexity", model="pplx-embed-v1-4b", dimensions=2560, encoding="binary"
                ),
            ),
            (
                "provider: openrouter, model: qwen/qwen3-embedding-4b, dimensions: 512",
                EmbeddingSpace(
                    provider="openrouter",
                    model="qwen/qwen3-embedding-4b",
                    dimensions=512,
                    encoding="float16",
                ),
            ),
            (
                "provider: openrouter, encoding_format: base64",
                EmbeddingSpace(
                    provider="openrouter",
                    model="perplexity/pplx-embed-v1-4b",
                    dimensions=2560,
                    encoding="float16",
                ),
            ),
        ],
    )
    async def test_the_embedder_of_each_service_has_the_space_of_the_settings(
        self, load: Load, monkeypatch: pytest.MonkeyPatch, embedding: str, space: EmbeddingSpace
    ) -> None:
        monkeypatch.setenv("PERPLEXITY_API_KEY", "k")
        monkeypatch.setenv("OPENROUTER_API_KEY", "k")
        settings = load(f"embedding: {{{embedding}}}\n" + SOURCES)
        embedder = build_embedder(settings)
        assert embedder.space == space
        assert embedder.limits == settings.embedding.limits
        assert embedder.limits.group_chunks == 1
        await embedder.aclose()

    async def test_limits_and_price_of_another_model_are_those_that_are_stated(
        self, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENROUTER_API_KEY", "k")
        embedder = build_embedder(
            load(
                "embedding: {provider: openrouter, model: some/other, dimensions: 384, max_tokens: 8192,"
                " usd_per_million_tokens: 0.01, request_tokens: 24000, request_texts: 32}\n" + SOURCES
            )
        )
        assert embedder.limits == EmbedLimits(
            group_tokens=7936, group_chunks=1, request_tokens=23_000, request_groups=32, request_chunks=64
        )
        assert embedder.usd_per_million_tokens == 0.01
        await embedder.aclose()

    @pytest.mark.parametrize(
        ("embedding", "named"),
        [
            ("provider: openrouter", "OPENROUTER_API_KEY is not set, and https://openrouter.ai/api/v1"),
            (
                "provider: openrouter, base_url: 'https://eu.openrouter.ai/api/v1'",
                "OPENROUTER_API_KEY is not set",
            ),
            ("provider: openrouter, api_key: '${EMPTY:-}'", "OPENROUTER_API_KEY is not set"),
        ],
    )
    def test_a_missing_key_of_openrouter_is_named(
        self, load: Load, monkeypatch: pytest.MonkeyPatch, embedding: str, named: str
    ) -> None:
        monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
        with pytest.raises(SettingsError, match=named):
            build_embedder(load(f"embedding: {{{embedding}}}\n" + SOURCES))

    async def test_what_is_set_reaches_the_service(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        """All options, over a real connection, to a server that refuses what it does not know."""
        monkeypatch.setenv("OPENROUTER_API_KEY", "test-key")
        service = EmbeddingService()
        with serving(service) as base_url:
            embedder = build_embedder(
                load(
                    f"""\
embedding:
  provider: openrouter
  base_url: {base_url}/api/v1
  model: qwen/qwen3-embedding-4b
  dimensions: 64
  encoding_format: base64
  input_type: true
  routing:
    order: [deepinfra]
    allow_fallbacks: false
    data_collection: deny
    zdr: true
    quantizations: [bf16, fp8]
    sort: latency
    preferred_max_latency: 3
    preferred_min_throughput: {{p90: 50}}
    max_price: {{prompt: 0.03}}
  user: somebody
  referer: https://example.org
  app_title: Docweave
  requests_per_minute: 100
  tokens_per_minute: 100000
{SOURCES}"""
                )
            )
            vector = await embedder.embed_query("who pays?")
            await embedder.aclose()
        assert vector.shape == (64,)
        assert not service.refused

    @pytest.mark.parametrize(
        ("embedding", "grouping"),
        [
            ("provider: local", Grouping(overlap_tokens=1000, lead=Lead.NONE)),
            ("provider: local, overlap_tokens: 50", Grouping(overlap_tokens=50, lead=Lead.NONE)),
            ("provider: perplexity", Grouping(overlap_tokens=1000, lead=Lead.OPENING, lead_tokens=200)),
            (
                "provider: perplexity, lead: title, lead_tokens: 50, overlap_tokens: 0",
                Grouping(overlap_tokens=0, lead=Lead.TITLE, lead_tokens=50),
            ),
            (
                "provider: perplexity, model: pplx-embed-v1-0.6b",
                Grouping(overlap_tokens=0, lead=Lead.HEADINGS),
            ),
            (
                "provider: perplexity, base_url: 'http://x', model: mine, dimensions: 8, contextual: false",
                Grouping(overlap_tokens=0, lead=Lead.HEADINGS),
            ),
            ("provider: openrouter", Grouping(overlap_tokens=0, lead=Lead.HEADINGS)),
            ("provider: openrouter, lead: none", Grouping(overlap_tokens=0, lead=Lead.NONE)),
        ],
    )
    async def test_documents_are_divided_as_the_settings_say(
        self, load: Load, monkeypatch: pytest.MonkeyPatch, embedding: str, grouping: Grouping
    ) -> None:
        monkeypatch.setenv("PERPLEXITY_API_KEY", "k")
        monkeypatch.setenv("OPENROUTER_API_KEY", "k")
        async with build_pipeline(load(f"embedding: {{{embedding}}}\n" + SOURCES)) as pipeline:
            assert pipeline.grouping == grouping
            assert pipeline.journal == ("local" not in embedding)

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

"""What the YAML may say, what it means, and what is said of what it may not."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from config.build import store_options
from config.embedding import LocalEmbedding, OpenRouterEmbedding, PerplexityEmbedding
from config.load import load_settings
from connectors.files import DOCUMENTS
from pipeline.embedders.openrouter import QWEN_TASK
from pipeline.errors import SettingsError
from tests.settings_text import SOURCES, Load, complaints


class TestWhatItMeans:
    def test_sources_alone_are_enough(self, load: Load, tmp_path: Path) -> None:
        settings = load(SOURCES)
        assert settings.store.uri == str(tmp_path / ".docweave/lancedb")
        assert settings.embedding == LocalEmbedding()
        assert settings.chunking.max_tokens == 512
        source = settings.sources["docs"]
        assert (source.path, source.hidden) == (tmp_path / "docs", False)
        assert source.include == [f"**/*.{{{','.join(DOCUMENTS)}}}"]

    def test_two_lines_change_the_embedder(self, load: Load) -> None:
        settings = load("embedding:\n  provider: perplexity\n  model: pplx-embed-context-v1-4b\n" + SOURCES)
        assert isinstance(settings.embedding, PerplexityEmbedding)
        assert settings.embedding.width == 2560

    def test_the_provider_alone_chooses_its_default_model(self, load: Load) -> None:
        embedding = load("embedding: {provider: perplexity}\n" + SOURCES).embedding
        assert isinstance(embedding, PerplexityEmbedding)
        assert (embedding.model, embedding.width) == ("pplx-embed-context-v1-0.6b", 1024)
        assert embedding.base_url == "https://api.perplexity.ai"

    def test_openrouter_has_a_default_model_and_takes_any_other_that_is_described(self, load: Load) -> None:
        embedding = load("embedding: {provider: openrouter}\n" + SOURCES).embedding
        assert isinstance(embedding, OpenRouterEmbedding)
        assert (embedding.model, embedding.width) == ("perplexity/pplx-embed-v1-4b", 2560)
        assert embedding.base_url == "https://openrouter.ai/api/v1"
        embedding = load(
            "embedding: {provider: openrouter, model: some/other, dimensions: 384, max_tokens: 8192, "
            "usd_per_million_tokens: 0}\n" + SOURCES
        ).embedding
        assert (embedding.width, embedding.limits.group_tokens) == (384, 7936)

    def test_a_standard_model_of_perplexity_is_chosen_by_its_name(self, load: Load) -> None:
        embedding = load("embedding: {provider: perplexity, model: pplx-embed-v1-4b}\n" + SOURCES).embedding
        assert isinstance(embedding, PerplexityEmbedding)
        assert not embedding.is_contextual
        assert embedding.limits.group_chunks == 1

    def test_a_model_of_ones_own_may_be_contextual_or_not(self, load: Load) -> None:
        own = "embedding: {{provider: perplexity, base_url: 'http://x', model: mine, dimensions: 8{}}}\n"
        assert load(own.format("") + SOURCES).embedding.limits.group_chunks > 1
        assert load(own.format(", contextual: false") + SOURCES).embedding.limits.group_chunks == 1

    @pytest.mark.parametrize(
        ("settings", "task"),
        [
            ("model: qwen/qwen3-embedding-4b", QWEN_TASK),
            ("model: qwen/qwen3-embedding-4b, query_instruction: ''", ""),
            ("model: qwen/qwen3-embedding-4b, query_instruction: ' Find it '", "Find it"),
            ("model: perplexity/pplx-embed-v1-4b", ""),
            (
                "model: Qwen3-Embedding-8B, dimensions: 4096, max_tokens: 32000, usd_per_million_tokens: 0",
                QWEN_TASK,
            ),
        ],
    )
    def test_questions_to_qwen_are_given_a_task_unless_another_or_none_is_wanted(
        self, load: Load, settings: str, task: str
    ) -> None:
        embedding = load(f"embedding: {{provider: openrouter, {settings}}}\n" + SOURCES).embedding
        assert isinstance(embedding, OpenRouterEmbedding)
        assert embedding.options.query_instruction == task

    def test_routing_is_sent_as_openrouter_documents_it_and_only_what_is_said(self, load: Load) -> None:
        def routing(text: str) -> object:
            embedding = load(f"embedding: {{provider: openrouter, routing: {text}}}\n" + SOURCES).embedding
            assert isinstance(embedding, OpenRouterEmbedding)
            return embedding.options.routing

        assert routing("{}") == {}
        assert routing("{sort: latency, allow_fallbacks: false}") == {
            "sort": "latency",
            "allow_fallbacks": False,
        }
        assert routing("{max_price: {prompt: 0.03}, preferred_max_latency: 3}") == {
            "max_price": {"prompt": 0.03},
            "preferred_max_latency": {"p50": 3.0},
        }
        assert routing("{order: [a, b], ignore: [], preferred_min_throughput: {p90: 10}}") == {
            "order": ["a", "b"],
            "ignore": [],
            "preferred_min_throughput": {"p90": 10.0},
        }

    def test_the_provider_may_be_left_out(self, load: Load) -> None:
        assert load("embedding: {concurrency: 2}\n" + SOURCES).embedding == LocalEmbedding(concurrency=2)

    def test_relative_paths_are_relative_to_the_file_and_absolute_ones_stay(
        self, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("/")
        settings = load(
            "store: {uri: ../db}\nsources:\n"
            "  a: {type: files, path: ../x/./y}\n  b: {type: files, path: /z}\n"
        )
        assert settings.store.uri == str(tmp_path.parent / "db")
        assert [source.path for source in settings.sources.values()] == [tmp_path.parent / "x/y", Path("/z")]

    def test_a_relative_file_name_is_resolved_from_where_one_is(
        self, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load(SOURCES)
        monkeypatch.chdir(tmp_path)
        assert load_settings(Path("docweave.yaml")).sources["docs"].path == tmp_path / "docs"

    def test_home_is_home(self, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        settings = load("store: {uri: ~/db}\nsources: {docs: {type: files, path: ~/docs}}\n")
        assert settings.store.uri == str(tmp_path / "home/db")
        assert settings.sources["docs"].path == tmp_path / "home/docs"

    def test_object_storage_is_left_as_it_is_written(self, load: Load) -> None:
        assert (
            load("store: {uri: s3://bucket/some/prefix}\n" + SOURCES).store.uri == "s3://bucket/some/prefix"
        )

    def test_options_of_the_store_are_text_and_secret_where_they_are_called_so(
        self, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("S3_SECRET", "hunter2")
        settings = load(
            "store:\n  uri: s3://b/p\n  options:\n    allow_http: true\n    timeout: 30\n    region: eu\n"
            "    aws_secret_access_key: ${S3_SECRET}\n" + SOURCES
        )
        assert store_options(settings) == {
            "allow_http": "true",
            "timeout": "30",
            "region": "eu",
            "aws_secret_access_key": "hunter2",
        }
        assert "hunter2" not in repr(settings)
        assert "hunter2" not in settings.model_dump_json()

    def test_metadata_is_what_json_has_and_nothing_is_guessed(self, load: Load) -> None:
        metadata = load(
            "sources:\n  docs:\n    type: files\n    path: docs\n    metadata:\n"
            "      {a: 1, b: 1.5, c: true, d: null, e: [x, {f: y}], country: NO, "
            "since: 2026-01-31, at: 12:30,"
            ' zip: 01234, version: "1.0", ~: tilde, 7: seven}\n'
        )
        assert metadata.sources["docs"].metadata == {
            "a": 1,
            "b": 1.5,
            "c": True,
            "d": None,
            "e": ["x", {"f": "y"}],
            "country": "NO",
            "since": "2026-01-31",
            "at": "12:30",
            "zip": "01234",
            "version": "1.0",
            "~": "tilde",
            "7": "seven",
        }

    def test_sizes_may_be_written_as_people_do(self, load: Load) -> None:
        settings = load("sources: {docs: {type: files, path: docs, max_bytes: 20MB}}\n")
        assert settings.sources["docs"].max_bytes == 20_000_000

    def test_an_alias_is_what_it_stands_for_and_a_merged_key_gives_way(self, load: Load) -> None:
        settings = load(
            "sources:\n  a: &a {type: files, path: a, metadata: &m {team: x}}\n"
            "  b: {<<: *a, path: b}\n  c: {type: files, path: c, metadata: *m}\n"
        )
        assert [str(source.path.name) for source in settings.sources.values()] == ["a", "b", "c"]
        assert all(source.metadata == {"team": "x"} for source in settings.sources.values())

    def test_a_byte_order_mark_is_no_part_of_the_settings(self, file: Path) -> None:
        file.write_bytes(b"\xef\xbb\xbf" + SOURCES.encode())
        assert "docs" in load_settings(file).sources

    def test_settings_cannot_be_changed(self, load: Load) -> None:
        with pytest.raises(ValidationError):
            load(SOURCES).chunking.max_tokens = 1  # type: ignore[misc]


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"TEAM": "people", "DIM": "256", "YES": "true", "EMPTY": ""}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TRICKY", "x, evil: [1]\n- ${TEAM} # not a comment")
        monkeypatch.delenv("UNSET", raising=False)

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("${TEAM}", "people"),
            ("a-${TEAM}-${TEAM}", "a-people-people"),
            ("${UNSET:-nobody}", "nobody"),
            ("${TEAM:-nobody}", "people"),
            ("${EMPTY:-nobody}", "nobody"),
            ("${EMPTY}", ""),
            ("${UNSET:-}", ""),
            ("${UNSET:-a:-b}", "a:-b"),
            ("$${TEAM}", "${TEAM}"),
            ("$$${TEAM}", "$${TEAM}"),
            ("$TEAM and $5", "$TEAM and $5"),
            ("${TRICKY}", "x, evil: [1]\n- ${TEAM} # not a comment"),
        ],
    )
    def test_a_variable_stands_for_text(self, load: Load, written: str, meant: str) -> None:
        quoted = f"sources: {{docs: {{type: files, path: x, metadata: {{team: '{written}'}}}}}}\n"
        assert load(quoted).sources["docs"].metadata == {"team": meant}

    def test_a_variable_may_stand_for_a_number_or_a_truth(self, load: Load) -> None:
        settings = load(
            "embedding:\n  provider: perplexity\n  dimensions: ${DIM}\n  timeout_seconds: ${UNSET:-2.5}\n"
            "chunking:\n  max_tokens: ${UNSET:-128}\n"
            "sources:\n  docs:\n    type: files\n    path: x\n    hidden: ${YES}\n"
        )
        assert isinstance(settings.embedding, PerplexityEmbedding)
        assert (settings.embedding.width, settings.embedding.timeout_seconds) == (256, 2.5)
        assert settings.chunking.max_tokens == 128
        assert settings.sources["docs"].hidden is True

    def test_a_variable_may_choose_the_provider(self, load: Load) -> None:
        assert isinstance(
            load("embedding:\n  provider: ${UNSET:-perplexity}\n" + SOURCES).embedding, PerplexityEmbedding
        )

    def test_a_variable_that_is_not_set_is_named_with_its_line(self, load: Load) -> None:
        assert complaints(load, "chunking:\n  max_tokens: ${UNSET}\n" + SOURCES) == [
            "2:15: chunking.max_tokens: the environment variable UNSET is not set, and has no default"
        ]

    @pytest.mark.parametrize("written", ["${}", "${1A}", "${TEAM", "${TEAM-x}", "${TEAM:x}"])
    def test_what_is_no_variable_is_an_error(self, load: Load, written: str) -> None:
        [said] = complaints(load, f"store: {{uri: '{written}'}}\n" + SOURCES)
        assert "write ${NAME} or ${NAME:-default}" in said

    def test_what_the_environment_holds_is_not_shown(
        self, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DIM", "hunter2")
        [said] = complaints(load, "embedding:\n  provider: perplexity\n  dimensions: ${DIM}\n" + SOURCES)
        assert said == "3:15: embedding.dimensions: must be a whole number (found: ${DIM})"


class TestSecrets:
    @pytest.mark.parametrize(
        "written", ["pplx-hunter2", "${KEY:-pplx-hunter2}", "Bearer ${KEY}", "12345", "[hunter2]"]
    )
    def test_a_key_that_is_written_down_is_refused_and_not_repeated(
        self, load: Load, written: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KEY", "pplx-hunter2")
        [said] = complaints(load, f"embedding:\n  provider: perplexity\n  api_key: {written}\n" + SOURCES)
        assert said.startswith("3:12: embedding.api_key: is a secret")
        assert "${NAME}" in said
        assert not re.search("hunter2|12345|Bearer", said)

    @pytest.mark.parametrize(
        "name", ["aws_access_key_id", "client_SECRET", "azure_storage_sas_token", "Password"]
    )
    def test_a_secret_option_that_is_written_down_is_refused(self, load: Load, name: str) -> None:
        [said] = complaints(load, f"store:\n  options:\n    {name}: hunter2\n" + SOURCES)
        assert said.startswith(f"3:{len(name) + 7}: store.options.{name}: is a secret")
        assert "hunter2" not in said

    def test_a_secret_under_a_misspelt_key_is_not_repeated(self, load: Load) -> None:
        said = complaints(load, "embedding:\n  provider: perplexity\n  api_kye: hunter2\n" + SOURCES)
        assert "did you mean 'api_key'?" in said[0]
        assert "hunter2" not in said[0]

    def test_a_password_in_an_address_is_refused_and_not_repeated(self, load: Load) -> None:
        [said] = complaints(
            load, "embedding:\n  provider: perplexity\n  base_url: https://me:hunter2@host\n" + SOURCES
        )
        assert "without user" in said
        assert "hunter2" not in said

    def test_the_key_is_kept_secret(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_KEY", "hunter2")
        settings = load("embedding:\n  provider: perplexity\n  api_key: ${MY_KEY}\n" + SOURCES)
        assert isinstance(settings.embedding, PerplexityEmbedding)
        assert settings.embedding.api_key == SecretStr("hunter2")
        assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("budget", "of_source"), [("budget: {usd: 1}", ""), ("", ", budget: {usd: 1}")], ids=["run", "source"]
)
def test_a_budget_in_dollars_needs_a_price(load: Load, budget: str, of_source: str) -> None:
    settings = f"""
        embedding:
          provider: perplexity
          base_url: http://127.0.0.1:1
          model: our-own
          dimensions: 512
        {budget}
        sources:
          notes: {{type: files, path: .{of_source}}}
        """
    with pytest.raises(SettingsError, match=r"what our-own costs is not known here"):
        load(textwrap.dedent(settings))
    priced = settings.replace("model: our-own", "model: our-own\n          usd_per_million_tokens: 0")
    assert load(textwrap.dedent(priced)).embedding.provider == "perplexity"

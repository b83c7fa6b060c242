"""What is said of a YAML file that cannot be meant."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config.embedding import PerplexityEmbedding
from config.load import examine, load_settings
from config.settings import Settings
from config.yaml_file import YamlFile
from connectors.registry import SOURCE_TYPES
from pipeline.errors import SettingsError
from tests.settings_text import SOURCES, Load, complaints

TYPES = ", ".join(SOURCE_TYPES)
PARTS = ", ".join(Settings.model_fields)
OF_FILES = ", ".join(SOURCE_TYPES["files"].model_fields)

KEYS = """
store uri options secret embedding provider model dimensions base_url api_key concurrency chunking max_tokens
contextual encoding_format usd_per_million_tokens lead lead_tokens overlap_tokens requests_per_minute budget
request_tokens request_texts send_dimensions input_type query_instruction routing user referer app_title sort
max_price preferred_max_latency p50 order sources a b type path include exclude hidden max_bytes metadata
"""
NAMES = "local perplexity openrouter qwen/qwen3-embedding-4b latency none "
NAMES += "files x ** [a] {a,b} ~nobody/x http://a:b s3://b/p 20MB 1e999 ${NO} ${NO:-1} &a"


class TestWhatIsWrong:
    def test_everything_is_said_at_once_in_the_order_of_the_file(self, load: Load) -> None:
        text = """\
store:
  urii: x
embedding:
  provider: perplexitty
chunking:
  max_tokens: 5
sourcess: {}
sources:
  Hand Book:
    type: files
    path: x
    include: "*.md"
  b:
    type: filse
  c:
    path: x
  d:
  e:
    type: files
    hidden: maybe
    incldue: []
    include: [5, "**.md"]
"""
        assert (
            "\n".join(complaints(load, text))
            == f"""\
2:3: store.urii: is an unknown key; valid: name, uri, options, journal, when_busy, wait_minutes, upkeep; \
did you mean 'uri'?
4:13: embedding.provider: is unknown; valid: local, perplexity, openrouter; did you mean 'perplexity'? \
(found: perplexitty)
6:15: chunking.max_tokens: must be at least 16 and at most 8,192 (found: 5)
7:1: sourcess: is an unknown key; valid: {PARTS}; \
did you mean 'sources'?
9:3: sources.Hand Book: a source's name is made of a-z, 0-9, _ and -, and begins with a letter or digit
12:14: sources.Hand Book.include: must be a list: [one, two] (found: *.md)
14:11: sources.b.type: is unknown; valid: {TYPES}; did you mean 'files'? (found: filse)
15:3: sources.c.type: is missing; valid: {TYPES}
17:5: sources.d: must be a mapping: lines of `key: value` below it, indented; \
nothing is written there: give it a value, or delete the line
20:13: sources.e.hidden: must be true or false (found: maybe)
21:5: sources.e.incldue: is an unknown key; \
valid: {OF_FILES}; \
did you mean 'include'?
22:15: sources.e.include[0]: must be text; put it in quotes if it looks like a number, true, false or null \
(found: 5)
22:18: sources.e.include[1]: ** stands for whole folders and alone between slashes: **/*.md, not **.md \
(found: **.md)"""
        )

    def test_the_message_names_the_file(self, load: Load, file: Path) -> None:
        with pytest.raises(
            SettingsError, match=re.escape(f"{file}:1:11: sources: must have at least one entry")
        ):
            load("sources:  {}\n")

    def test_sources_are_needed(self, load: Load) -> None:
        assert complaints(load, "store: {uri: x}\n") == [
            "1:1: sources: is missing. Where the documents are: a name of yours, and its settings."
        ]

    @pytest.mark.parametrize(
        "key", ["model: pplx-embed-context-v1-4b", "base_url: http://x", "dimensions: 512"]
    )
    def test_a_key_of_the_other_provider_says_whose_it_is(self, load: Load, key: str) -> None:
        [said] = complaints(load, f"embedding:\n  {key}\n" + SOURCES)
        assert "belongs to `provider: perplexity` or `provider: openrouter`, and this is local" in said

    def test_a_key_of_one_other_provider_names_that_one(self, load: Load) -> None:
        [said] = complaints(load, "embedding: {provider: perplexity, routing: {}}\n" + SOURCES)
        assert "belongs to `provider: openrouter`, and this is perplexity" in said

    @pytest.mark.parametrize(
        ("embedding", "said"),
        [
            ("model: pplx-embed-contxt-v1-0.6b", "did you mean 'pplx-embed-context-v1-0.6b'?"),
            ("model: perplexity/pplx-embed-v1-4b", "did you mean 'pplx-embed-v1-4b'?"),
            ("model: mine, base_url: 'https://api.perplexity.ai/'", "is no embedding model of Perplexity's"),
            ("dimensions: 129, encoding_format: base64_binary", "129 cannot be divided by 8"),
            ("encoding_format: base64_int9", "did you mean 'base64_int8'?"),
            ("encoding_format: float", "is unknown; valid: base64_int8, base64_binary"),
            ("contextual: true", "does nothing: pplx-embed-context-v1-0.6b is known to be contextual"),
            ("model: pplx-embed-v1-4b, contextual: true", "is known to be not contextual"),
            ("model: pplx-embed-v1-4b, overlap_tokens: 500", "pplx-embed-v1-4b embeds each chunk by itself"),
            (
                "base_url: 'http://x', model: mine, dimensions: 8, contextual: false, overlap_tokens: 500",
                "mine embeds each chunk by itself",
            ),
            ("overlap_tokens: 8001", "must be at least 0 and at most 8,000"),
            ("lead: openin", "valid: none, title, headings, opening; did you mean 'opening'?"),
            ("lead: none, lead_tokens: 100", "does nothing with `lead: none`"),
            ("lead_tokens: 15", "must be at least 16 and at most 2,000"),
            ("requests_per_minute: 0", "must be at least 1"),
            ("tokens_per_minute: lots", "must be a whole number"),
            ("usd_per_million_tokens: -1", "must be at least 0"),
            ("usd_per_milion_tokens: 1", "did you mean 'usd_per_million_tokens'?"),
            ("dimensions: 1025", "must be from 128 to 1024 for pplx-embed-context-v1-0.6b (found: 1025)"),
            ("dimensions: 127", "must be from 128"),
            ("dimensions: 0", "must be at least 1"),
            ("dimensions: 512.5", "must be a whole number"),
            ("dimensions: true", "must be a number"),
            ("model: pplx-embed-context-v1-4b, dimensions: 2561", "must be from 128 to 2560"),
            ("base_url: 'http://localhost:1', model: mine", "must be given"),
            ("base_url: localhost:8000", "must begin with http:// or https://"),
            ("base_url: 'http://[x'", "is not an address"),
            ("base_url: 'http://host:port'", "is not an address"),
            ("concurrency: 0", "must be at least 1 and at most 64"),
            ("timeout_seconds: 0", "must be more than 0 and at most 3,600"),
            ("model: ''", "must not be empty"),
        ],
    )
    def test_an_embedder_that_cannot_be_is_refused(self, load: Load, embedding: str, said: str) -> None:
        [complaint] = complaints(load, f"embedding: {{provider: perplexity, {embedding}}}\n" + SOURCES)
        assert said in complaint

    @pytest.mark.parametrize(
        ("embedding", "said"),
        [
            ("dimensions: 127", "must be from 128 to 2560 for perplexity/pplx-embed-v1-4b"),
            ("model: qwen/qwen3-embedding-4b, dimensions: 31", "must be from 32 to 2560"),
            ("max_tokens: 40000", "must be at most 32,000 for perplexity/pplx-embed-v1-4b"),
            ("encoding_format: base64_int8", "valid: float, base64"),
            ("overlap_tokens: 5", "belongs to `provider: local` or `provider: perplexity`"),
            ("send_dimensions: false, dimensions: 256", "must be true: by itself"),
            ("query_instruction: Find it", "takes questions as they are"),
            ("referer: example.org", "begins with http:// or https://"),
            ("app_title: 'Ä'", "must be printable ASCII"),
            ("app_title: ' A '", "no blank at either end"),
            ("request_texts: 0", "must be at least 1"),
            ("routing: 5", "must be a mapping"),
            ("routing: {sorrt: latency}", "embedding.routing.sorrt: is an unknown key; valid: order, only"),
            ("routing: {sorrt: latency}", "did you mean 'sort'?"),
            ("routing: {sort: latencyy}", "valid: price, throughput, latency; did you mean 'latency'?"),
            ("routing: {order: together}", "must be a list"),
            ("routing: {only: ['']}", "must not be empty"),
            ("routing: {data_collection: denied}", "valid: allow, deny"),
            ("routing: {allow_fallbacks: perhaps}", "must be true or false"),
            ("routing: {quantizations: [fp8, fp9]}", "routing.quantizations[1]: is unknown; valid: int4"),
            ("routing: {max_price: {promt: 1}}", "did you mean 'prompt'?"),
            ("routing: {max_price: {prompt: -1}}", "must be at least 0"),
            ("routing: {preferred_max_latency: {p91: 2}}", "valid: p50, p75, p90, p99"),
            ("routing: {preferred_max_latency: quick}", "must be a number"),
        ],
    )
    def test_an_embedder_behind_openrouter_that_cannot_be_is_refused(
        self, load: Load, embedding: str, said: str
    ) -> None:
        [complaint] = complaints(load, f"embedding: {{provider: openrouter, {embedding}}}\n" + SOURCES)
        assert said in complaint

    def test_what_is_not_known_of_a_model_behind_openrouter_must_be_said(self, load: Load) -> None:
        said = complaints(load, "embedding: {provider: openrouter, model: some/other}\n" + SOURCES)
        assert [line.split(": ")[1] for line in said] == [
            "embedding.dimensions",
            "embedding.usd_per_million_tokens",
            "embedding.max_tokens",
        ]
        assert all("must be given" in line for line in said)

    def test_chunks_that_the_model_cannot_take_are_refused_with_the_number_that_it_can(
        self, load: Load
    ) -> None:
        model = "model: a/b, dimensions: 384, max_tokens: 512, usd_per_million_tokens: 0.01"
        settings = f"embedding: {{provider: openrouter, {model}}}\n{SOURCES}"
        [said] = complaints(load, settings)
        assert "chunking: max_tokens must be at most 432" in said
        assert load(settings + "chunking: {max_tokens: 432}\n").chunking.max_tokens == 432
        [said] = complaints(load, settings + "chunking: {max_tokens: 433}\n")
        assert said.startswith("3:11: chunking: max_tokens must be at most 432")

    def test_another_server_may_have_other_models(self, load: Load) -> None:
        embedding = load(
            "embedding:\n  provider: perplexity\n  base_url: http://localhost:8000/\n"
            "  model: mine\n  dimensions: 64\n" + SOURCES
        ).embedding
        assert isinstance(embedding, PerplexityEmbedding)
        assert (embedding.base_url, embedding.model, embedding.width) == ("http://localhost:8000", "mine", 64)

    @pytest.mark.parametrize("uri", ["db://x/y", "S3://b/p", "s3:/b/p", "s3:///p", "http://x/y", "xy:z"])
    def test_a_store_elsewhere_is_refused(self, load: Load, uri: str) -> None:
        [said] = complaints(load, f"store: {{uri: '{uri}'}}\n" + SOURCES)
        assert "must be a folder, or one of s3://bucket/…" in said

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "is empty"),
            ("# nothing but a comment\n", "is empty"),
            ("- a\n- b\n", "1:1: must be a mapping"),
            ("sources\n", "1:1: must be a mapping"),
            ("sources:\n  a: 1\n  a: 2\n", "3:3: sources.a: is there twice; the first is in line 2"),
            ("sources:\n\ta: 1\n", "2:1: not YAML: a tab"),
            (
                "sources: {a: {type: files, path: ${X}}}\n",
                "1:35: not YAML: a ${NAME} within [ ] or { } must be in quotes",
            ),
            ("a: b: c\n", "1:5: not YAML: mapping values are not allowed here"),
            ("sources: [a\n", "2:1: not YAML"),
            ("a: 'b\n", "not YAML"),
            ("a: *b\n", "1:4: not YAML: found undefined alias"),
            ("a: 1\n---\nb: 2\n", "2:1: holds more than one document"),
            ("a: !!python/name:os.system x\n", "1:4: a: has the tag tag:yaml.org,2002:python/name:os.system"),
            ("sources: !mine {}\n", "1:10: sources: has the tag !mine"),
            ("a: \x07\n", "holds a #x07 in line 1"),
            ("? [a]\n: b\n", "1:3: a key must be text"),
            ("<<: 5\n", "<< takes one alias"),
            ("a: &a [*a]\n", "nested more than 40 deep"),
            ("a: &a {<<: *a}\n", "nested more than 40 deep"),
            ("[" * 3000, "nested more than 40 deep"),
        ],
    )
    def test_a_file_that_is_no_mapping_of_settings_says_why(self, load: Load, text: str, said: str) -> None:
        assert any(said in complaint for complaint in complaints(load, text))

    def test_aliases_that_explode_are_refused(self, load: Load) -> None:
        bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
            f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
        )
        assert any("more than 20,000 values" in said for said in complaints(load, bomb))

    def test_a_missing_file_and_a_folder_are_told_apart(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="does not exist"):
            load_settings(tmp_path / "no.yaml")
        with pytest.raises(SettingsError, match="is a folder"):
            load_settings(tmp_path)

    def test_a_file_that_is_not_utf8_names_the_line(self, file: Path) -> None:
        file.write_bytes(b"# fine\nsources: caf\xe9\n")
        with pytest.raises(SettingsError, match=r"not UTF-8 \(line 2\)"):
            load_settings(file)

    def test_a_file_that_is_far_too_large_is_not_read(self, file: Path) -> None:
        file.write_bytes(b"#" * 1_000_001)
        with pytest.raises(SettingsError, match=r"1,000,001 bytes"):
            load_settings(file)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
# YAML allows a key 1,024 characters, escapes counted; variables are put into values, and not into keys.
names = st.text(max_size=20).filter(lambda name: "${" not in name)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)  # the machine may be busy
@given(value=st.dictionaries(names, values, min_size=1, max_size=4))
def test_json_is_read_as_json_has_it(
    value: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "json.yaml"
    file.write_text(json.dumps(value).replace("${", "$${").replace("\x7f", r"\u007f"), encoding="utf-8")
    read = YamlFile.read(file)
    assert read.problems == []
    assert read.value == value


words = st.sampled_from(NAMES.split()) | scalars
trees = st.recursive(
    words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner),
    max_leaves=40,
)


@settings(deadline=None)  # the machine may be busy
@given(tree=st.dictionaries(st.sampled_from(["store", "embedding", "chunking", "sources"]), trees))
def test_no_settings_make_reading_fail_other_than_by_their_problems(
    tree: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "tree.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    settings, problems = examine(file)
    assert (settings is None) == bool(problems)
    assert all(problem.line or not problem.path for problem in problems)


@settings(deadline=None)  # the machine may be busy
@given(
    text=st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,?<$\n\t \\")
)
def test_no_text_makes_reading_fail_other_than_by_its_problems(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode())
    settings, problems = examine(file)
    assert (settings is None) == bool(problems)

"""The settings that come with Docweave, and the schema for editors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from config import schema
from config.build import connectors
from config.embedding import PerplexityEmbedding
from config.load import load_settings
from tests.settings_text import ROOT, SOURCES


class TestTheFilesThatComeWithIt:
    @pytest.fixture(autouse=True)
    def production(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PERPLEXITY_API_KEY", "DOCWEAVE_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "set-for-the-test")

    @pytest.mark.parametrize("name", ["quickstart", "perplexity", "openrouter", "starter"])
    def test_each_holds_what_it_may_and_so_does_its_schema(self, name: str) -> None:
        file = ROOT / f"config/{name}.yaml"
        assert load_settings(file)
        jsonschema.validate(
            yaml.safe_load(file.read_text("utf-8")), json.loads(schema.FILE.read_text("utf-8"))
        )

    @pytest.mark.parametrize("name", ["quickstart", "starter"])
    def test_the_two_lines_in_the_comment_change_the_embedder(self, name: str, tmp_path: Path) -> None:
        text = (ROOT / f"config/{name}.yaml").read_text("utf-8")
        changed = re.sub(
            r"(?m)^#  ((provider|model): )", r"  \1", re.sub(r"(?m)^  provider: local.*\n", "", text)
        )
        (tmp_path / "x.yaml").write_text(changed, "utf-8")
        assert isinstance(load_settings(tmp_path / "x.yaml").embedding, PerplexityEmbedding)

    async def test_the_starter_reads_the_folder_that_it_is_put_in_and_not_itself(
        self, tmp_path: Path
    ) -> None:
        shutil.copy(ROOT / "config/starter.yaml", tmp_path / "docweave.yaml")
        for key in ("a.md", "b/c.pdf", ".docweave/x.md", "node_modules/y.md", "b/node_modules/z.md", "d.png"):
            (tmp_path / key).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / key).write_bytes(b"x")
        [(connector, _)] = connectors(load_settings(tmp_path / "docweave.yaml"))
        assert [ref.key async for ref in connector.list_items()] == ["a.md", "b/c.pdf"]

    async def test_the_quickstart_reads_the_sample_documents(self) -> None:
        [(connector, _)] = connectors(load_settings(ROOT / "config/quickstart.yaml"))
        assert len([ref async for ref in connector.list_items()]) >= 10


class TestSchema:
    @pytest.fixture
    def valid(self) -> Callable[[str], bool]:
        validator = jsonschema.Draft202012Validator(json.loads(schema.schema()))
        return lambda text: validator.is_valid(yaml.safe_load(text))

    def test_the_file_is_fresh(self) -> None:
        assert schema.main(["--check"]) == 0

    @pytest.mark.parametrize(
        "text",
        [
            SOURCES,
            "embedding: {provider: perplexity, dimensions: '${DIM:-512}', timeout_seconds: '${T}'}\n"
            + SOURCES,
            "embedding: {provider: '${P:-local}'}\n" + SOURCES,
            "embedding: {provider: perplexity, api_key: '${KEY}'}\n" + SOURCES,
            "chunking: {max_tokens: '${MAX}'}\n" + SOURCES,
            "sources: {docs: {type: files, path: x, hidden: '${H}', max_bytes: 20MB}}\n",
            "store: {options: {allow_http: true, region: x}}\n" + SOURCES,
            "embedding: {provider: perplexity, encoding_format: base64_binary, lead: none}\n" + SOURCES,
            "embedding: {provider: openrouter, routing: {sort: latency, preferred_max_latency: 5}}\n"
            + SOURCES,
            "embedding: {provider: openrouter, routing: {preferred_max_latency: {p90: 5}}}\n" + SOURCES,
            "embedding: {provider: openrouter, lead: '${LEAD}', input_type: '${T:-true}'}\n" + SOURCES,
        ],
    )
    def test_editors_accept_what_is_meant(self, valid: Callable[[str], bool], text: str) -> None:
        assert valid(text)

    @pytest.mark.parametrize(
        "text",
        [
            "sources: {}",
            "sources: {Docs: {type: files, path: x}}",
            "sources: {docs: {type: filse, path: x}}",
            "sources: {docs: {type: git}}",
            "chunking: {max_tokens: 5}\n" + SOURCES,
            "chunking: {max_tokens: many}\n" + SOURCES,
            "embedding: {provider: local, model: x}\n" + SOURCES,
            "embedding: {provider: perplexity, api_key: pplx-1}\n" + SOURCES,
            "embedding: {provider: openrouter, routing: {sort: fastest}}\n" + SOURCES,
            "embedding: {provider: openrouter, routing: {preferred_max_latency: {p91: 5}}}\n" + SOURCES,
            "embedding: {provider: openrouter, encoding_format: base64_int8}\n" + SOURCES,
            "embedding: {provider: perplexity, encoding_format: float}\n" + SOURCES,
            "embedding: {provider: perplexity, lead: heading}\n" + SOURCES,
            "embeding: {}\n" + SOURCES,
        ],
    )
    def test_editors_mark_what_is_not(self, valid: Callable[[str], bool], text: str) -> None:
        assert not valid(text)


@pytest.mark.parametrize("module", ["config.load", "config.build", "config.check"])
def test_reading_settings_imports_nothing_heavy(module: str) -> None:
    heavy = {
        "anyio._backends",
        "httpx",
        "lancedb",
        "langchain_text_splitters",
        "liteparse",
        "prefect",
        "pyarrow",
    }
    heavy |= {"tiktoken", "tokenizers", "wordllama", "xberg"}
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=dict(os.environ),
    )
    assert not heavy & set(run.stdout.split())

"""`docweave rollback`, and what `docweave status` says of tables that are not searched."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from config.build import build_pipeline, connectors
from config.load import load_settings
from pipeline.ingest import ingest_source

TEXT = "# Fern\n\nA soil sensor.\n\n## Resetting it\n\nHold the button for {} seconds."


def run(*arguments: str, config: Path) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(config)])


def ingest(config: Path, *, rebuild: bool = False, publish: bool = True) -> None:
    async def all_sources() -> None:
        settings = load_settings(config)
        async with build_pipeline(settings, rebuild=rebuild) as pipeline:
            for connector, metadata in connectors(settings):
                await ingest_source(connector, pipeline, metadata=metadata)
            if publish:
                await pipeline.store.publish()

    anyio.run(all_sources)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings whose one document has been ingested."""
    documents = tmp_path / "handbook"
    documents.mkdir()
    (documents / "fern.md").write_text(TEXT.format("ten"), encoding="utf-8")
    path = tmp_path / "docweave.yaml"
    path.write_text("sources:\n  handbook: {type: files, path: handbook}\n", encoding="utf-8")
    ingest(path)
    return path


def found(config: Path) -> str:
    result = run("search", "resetting the button", "--mode", "text", "--json", config=config)
    assert result.exit_code == 0, result.output
    return str(json.loads(result.stdout)["hits"][0]["text"])


def test_a_rebuild_that_is_under_way_is_told_and_not_searched(config: Path) -> None:
    (config.parent / "handbook/fern.md").write_text(TEXT.format("twenty"), encoding="utf-8")
    ingest(config, rebuild=True, publish=False)
    assert (
        "Being rebuilt, and not yet searched: 1 document, vectors of local/"
        in run("status", config=config).output
    )
    assert "ten seconds" in found(config)


def test_rolling_back_finds_what_was_found_before(config: Path) -> None:
    (config.parent / "handbook/fern.md").write_text(TEXT.format("twenty"), encoding="utf-8")
    ingest(config, rebuild=True)
    assert "twenty seconds" in found(config)
    told = run("status", config=config).output
    assert f"`docweave rollback -c {config}` goes back to them" in told
    assert "(documents_1, chunks_1)" in told
    result = run("rollback", config=config)
    assert result.exit_code == 0, result.output
    assert "Live again: 1 document, vectors of local/" in result.stdout
    assert f"Bring them up to date with `docweave ingest -c {config}`" in result.stdout
    assert "ten seconds" in found(config)
    assert "(documents, chunks)" in run("status", config=config).output
    roles = json.loads(run("rollback", "--json", config=config).stdout)["generations"]
    assert [(one["role"], one["number"]) for one in roles] == [("live", 1), ("previous", 0)]
    assert "twenty seconds" in found(config)


def test_rolling_back_to_another_model_says_what_the_settings_must_be(config: Path) -> None:
    ingest(config, rebuild=True)
    config.write_text(
        f"embedding: {{provider: perplexity, api_key: '${{KEY}}'}}\n{config.read_text()}", encoding="utf-8"
    )
    result = CliRunner().invoke(app, ["rollback", "--config", str(config)], env={"KEY": "sk-x"})
    assert result.exit_code == 0, result.output
    assert "The settings ask for perplexity/" in result.stdout
    assert "set `embedding` back" in result.stdout


def test_without_a_rebuild_there_is_nothing_to_go_back_to(config: Path) -> None:
    result = run("rollback", config=config)
    assert result.exit_code == 2  # nothing has failed
    assert "keeps no tables from before a rebuild" in result.stderr

"""`docweave columns`, and searches by them, from the settings on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from tests.ingested import ingest_now

SOURCES = """\
store: {uri: db}
sources:
  a:
    type: files
    path: a
    metadata: {team: people, year: 2024, when: 2024-05-01, tags: [red], by: {name: Ada}}
  b:
    type: files
    path: b
    metadata: {team: sales, year: soon, when: 2025-05-01, tags: green}
"""
COLUMNS = "columns: {year: integer, when: date, tags: list, author: {type: text, from: by.name}}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two sources that were ingested before any column was declared."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.md").write_text(f"# {name}\n\nThe same words.")
    settings = tmp_path / "docweave.yaml"
    settings.write_text(SOURCES)
    ingest_now(settings)
    return settings


def run(*arguments: str, config: Path) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(config)], prog_name="docweave")


def run_json(*arguments: str, config: Path) -> Any:
    result = run(*arguments, "--json", config=config)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def found(config: Path, *conditions: str) -> list[str]:
    where = [part for condition in conditions for part in ("--where", condition)]
    return sorted(
        {hit["key"] for hit in run_json("search", "words", "-m", "text", *where, config=config)["hits"]}
    )


def test_columns_from_their_declaration_to_their_end(config: Path) -> None:
    assert "No columns: declare some under `columns:`" in run("columns", config=config).output
    assert found(config, "team=people") == ["a.md"]
    result = run("search", "words", "-m", "text", "--where", "year>=2024", config=config)
    assert (result.exit_code, "only columns and pages are less or more" in result.stderr) == (2, True)

    config.write_text(SOURCES + COLUMNS)
    assert run("columns", config=config).output.count("the next ingest adds it") == 4
    assert [report.unchanged for report in ingest_now(config)] == [1, 1]
    assert found(config, "year>=2024") == ["a.md"]
    assert found(config, "when>=2024-05-01") == ["a.md", "b.md"]
    assert found(config, "when>2024-05-01", "tags=green") == ["b.md"]
    assert found(config, "tags=red", "author=Ada", "team=people") == ["a.md"]
    result = run("search", "words", "-m", "text", "--where", "when>=soon", config=config)
    assert (result.exit_code, "days from the year 1000 on" in result.stderr) == (2, True)
    lines = run("columns", config=config).output.splitlines()
    assert lines[1].split() == ["year", "integer", "year", "1", "1"]
    assert lines[4].split() == ["author", "text", "by.name", "1", "0"]

    config.write_text(SOURCES + "columns: {year: text, born: date}\n")
    shown = run("columns", config=config).output
    assert "the next ingest makes it anew: text from year" in shown
    assert "not in the settings: docweave columns --drop tags" in shown
    assert run_json("columns", config=config)["to_add"] == ["born"]
    for name, why in (("year", "still declare"), ("tag", "did you mean 'tags'?")):
        result = run("columns", "--drop", name, config=config)
        assert (result.exit_code, why in result.stderr) == (2, True)
    dropped = run_json("columns", "--drop", "tags", "--drop", "when", config=config)
    assert [column["name"] for column in dropped["columns"]] == ["year", "author"]
    about = {"name": "year", "type": "integer", "from": ["year"], "index": True}
    assert dropped["columns"][0] == {**about, "filled": 1, "unfit": 1, "declared": True}
    assert dropped["to_add"] == ["born"]
    ingest_now(config)
    then = run_json("columns", config=config)
    assert [column["name"] for column in then["columns"]] == ["author", "year", "born"]
    assert then["columns"][1] == {**about, "type": "text", "filled": 1, "unfit": 1, "declared": True}
    assert found(config, "year=soon") == ["b.md"]
    assert found(config, "author=Ada") == ["a.md"]

"""`docweave backup` and `docweave restore`, as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from apps.cli import app
from tests.ingested import ingest_now
from tests.settings_text import SOURCES

runner = CliRunner()


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """With two documents ingested."""
    (tmp_path / "docs").mkdir()
    for name in ("leave", "fern"):
        (tmp_path / "docs" / f"{name}.md").write_text(f"# {name}\n\nAll about {name}.\n")
    path = tmp_path / "docweave.yaml"
    path.write_text(f"store: {{uri: db}}\n{SOURCES}")
    ingest_now(path)
    return path


def test_there_and_back(settings: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    there = runner.invoke(app, ["backup", str(kept), "--config", str(settings)])
    assert there.exit_code == 0, there.output
    assert "Backed up" in there.stdout
    assert ": 2 documents, 2 chunks." in there.stdout
    taken = runner.invoke(app, ["restore", str(kept), "--config", str(settings)])
    assert taken.exit_code == 3
    assert "holds tables already" in taken.stderr
    shutil.rmtree(tmp_path / "db")
    back = runner.invoke(app, ["restore", str(kept), "--config", str(settings), "--json"])
    assert back.exit_code == 0, back.output
    told = json.loads(back.stdout)
    assert told["sources"] == {"docs": {"documents": 2, "chunks": 2}}
    assert told["tables"] == ["chunks", "documents", "runs"]
    assert told["copied"] == {"files": told["files"], "bytes": told["bytes"]}
    found = runner.invoke(app, ["search", "fern", "--config", str(settings), "--mode", "text", "--json"])
    assert [hit["key"] for hit in json.loads(found.stdout)["hits"]] == ["fern.md"]


def test_what_is_no_place_is_refused(settings: Path, tmp_path: Path) -> None:
    ended = runner.invoke(app, ["backup", "ftp://host/x", "--config", str(settings)])
    assert ended.exit_code == 2
    assert "valid: a folder, or one of s3://bucket/…" in ended.stderr
    ended = runner.invoke(app, ["restore", str(tmp_path / "none"), "--config", str(settings)])
    assert ended.exit_code == 3
    assert "holds no backup" in ended.stderr

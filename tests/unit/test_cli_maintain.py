"""`docweave maintain`, and the settings that it keeps to."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from config.build import build_pipeline
from config.load import load_settings
from flows.upkeep_words import lines, verdict
from pipeline.stores import _lease
from pipeline.upkeep import VECTOR_ROWS, Policy, Tended
from tests.ingested import ingest_now
from tests.settings_text import Load

SOURCE = "sources:\n  handbook: {type: files, path: handbook}\n"


def run(*arguments: str, config: Path) -> Result:
    return CliRunner().invoke(app, ["maintain", *arguments, "--config", str(config)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings whose seven documents were ingested one by one."""
    (tmp_path / "handbook").mkdir()
    path = tmp_path / "docweave.yaml"
    path.write_text(SOURCE, encoding="utf-8")
    for n in range(7):
        (tmp_path / f"handbook/{n}.md").write_text(f"# Fern {n}\n\nA soil sensor.", encoding="utf-8")
        ingest_now(path)
    return path


def test_it_says_what_it_did_and_the_second_time_that_nothing_was_due(config: Path) -> None:
    due = run("--dry-run", config=config)
    assert due.exit_code == 0, due.output
    assert "documents   7 rows, " in due.stdout
    assert f"Due: 2 tables. `docweave maintain -c {config}` does it." in due.stdout
    done = run(config=config)
    assert done.exit_code == 0, done.output
    assert "compacted" in done.stdout
    assert " MB → " in done.stdout
    assert "Looked after 2 tables in " in done.stdout
    assert "Nothing was due." in run(config=config).stdout
    assert "Nothing is due." in run("--dry-run", config=config).stdout


def test_with_json_it_prints_one_document(config: Path) -> None:
    result = run("--json", config=config)
    printed = json.loads(result.stdout)
    assert (printed["dry_run"], printed["skipped"]) == (False, None)
    *both, runs = printed["tables"]
    assert [table["table"] for table in printed["tables"]] == ["chunks", "documents", "runs"]
    assert all(table["compacted"] and table["seconds"] > 0 for table in both)
    assert runs["rows"] == 1


def test_without_tables_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "docweave.yaml").write_text(SOURCE, encoding="utf-8")
    result = run(config=tmp_path / "docweave.yaml")
    assert (result.exit_code, result.stdout) == (0, "There are no tables yet.\n")


@pytest.mark.parametrize(("when_busy", "exit_code"), [("skip", 0), ("fail", 3)])
def test_while_another_run_has_the_tables_it_skips_or_fails_as_the_settings_say(
    config: Path, when_busy: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease, "ABANDONED_AFTER", 0.9)
    config.write_text(f"store: {{when_busy: {when_busy}}}\n{SOURCE}", encoding="utf-8")

    async def while_busy() -> Result:
        async with (
            build_pipeline(load_settings(config)) as pipeline,
            pipeline.store.lease("ingesting handbook"),
        ):
            return await anyio.to_thread.run_sync(lambda: run(config=config))

    result = anyio.run(while_busy)
    assert result.exit_code == exit_code, result.output
    assert "ingesting handbook" in result.output
    assert ("Skipped: " in result.stdout) == (when_busy == "skip")


def test_what_was_kept_is_told_with_the_reason() -> None:
    one = Tended(
        table="chunks",
        rows=1_200_000,
        swept=2,
        extended=300,
        indexed=("vector",),
        versions=1,
        bytes_before=3_000_000,
        bytes_after=2_500_000,
        kept="version 7 has the tag 'release': it and all that came after it are kept",
        seconds=12.34,
    )
    done = ["2 tombs swept", "indexes extended by 300 rows", "indexed vector", "1 old version cleared away"]
    assert lines([one]) == [
        f"chunks   1,200,000 rows, 3.0 MB → 2.5 MB: {', '.join(done)} (12.3 s)",
        "         version 7 has the tag 'release': it and all that came after it are kept",
    ]
    assert verdict([one]) == "Looked after 1 table in 12.3 s, 0.5 MB freed."


def test_settings_say_what_upkeep_keeps(load: Load) -> None:
    assert load(SOURCE).store.upkeep.policy == Policy()
    chosen = "{keep_versions_hours: 0.5, keep_previous_days: 2, vector_index: never}"
    policy = load(f"store: {{upkeep: {chosen}}}\n{SOURCE}").store.upkeep.policy
    assert policy.keep_versions == timedelta(minutes=30)
    assert policy.keep_previous == timedelta(days=2)
    assert policy.vector_rows is None
    auto = load(f"store: {{upkeep: {{vector_index: auto}}}}\n{SOURCE}").store.upkeep.policy
    assert auto.vector_rows == VECTOR_ROWS

"""`docweave audit`: what it prints, how it ends, and that a repair and an ingest make all good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import lancedb
import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from tests.ingested import ingest_now

SETTINGS = """
sources:
  docs: {type: files, path: docs}
  wiki: {type: files, path: wiki}
chunking: {max_tokens: 64}
"""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.audit.SETTLING", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in {"docs": 12, "wiki": 2}.items():
        (tmp_path / name).mkdir()
        for n in range(count):
            (tmp_path / name / f"{n}.md").write_text(f"# About {n}\n\n" + f"{name} number {n} says so. " * 30)
    (tmp_path / "docweave.yaml").write_text(SETTINGS)
    ingest_now(tmp_path / "docweave.yaml")
    return tmp_path


def edit(folder: Path, where: str, *, table: str = "chunks", **values: Any) -> None:
    async def run() -> None:
        database = await lancedb.connect_async(str(folder / ".docweave" / "lancedb"))
        await (await database.open_table(table)).update(values, where=where)

    anyio.run(run)


def audit(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments, "--config", str(folder / "docweave.yaml")])


def audited(folder: Path, *arguments: str, code: int = 0) -> Any:
    result = audit(folder, *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_help_names_the_command_and_has_examples() -> None:
    assert "Prove that the tables are true" in CliRunner().invoke(app, ["--help"]).output
    assert "docweave audit --repair; docweave ingest" in CliRunner().invoke(app, ["audit", "--help"]).output


def test_tables_that_are_true_end_with_0(folder: Path) -> None:
    result = audit(folder, "--sample", "5")
    assert result.exit_code == 0
    first, second, *_ = result.stdout.splitlines()
    assert first.split("   ")[0] == "docs"
    assert "12 documents" in first
    assert "12 of 12 groups proven" in first
    assert "2 of 2 groups proven" in second
    assert "5 groups embedded again (seed 0): 5 came out bit for bit" in result.stdout
    assert result.stdout.endswith("Nothing is wrong.\n")


def test_a_program_reads_findings_by_kind_source_and_key(folder: Path) -> None:
    edit(folder, "source = 'docs' AND key = '3.md' AND ordinal = 1", text="Something else.")
    edit(folder, "source = 'wiki' AND key = '0.md'", table="documents", chunk_count=77)
    found = audited(folder, code=1)
    assert {(one["source"], one["key"], one["kind"]) for one in found["findings"]} == {
        ("docs", "3.md", "text"),
        ("docs", "3.md", "offsets"),
        ("wiki", "0.md", "marks"),
    }
    assert (found["clean"], found["repaired"], found["sample"]) == (False, None, None)
    assert found["counts"] == {"marks": 1, "offsets": 1, "text": 1}
    assert found["sources"]["docs"]["proven"] == 11
    assert [one["key"] for one in audited(folder, "wiki", code=1)["findings"]] == ["0.md"]


def test_a_repair_and_an_ingest_make_it_good(folder: Path) -> None:
    edit(folder, "source = 'docs' AND key = '3.md' AND ordinal = 1", text="Something else.")
    edit(folder, "source = 'docs' AND key = '4.md'", table="documents", chunk_count=77)
    told = audit(folder)
    assert told.exit_code == 1
    assert "! text      docs/3.md: group 0 of 1" in told.stdout
    assert "Next: `docweave audit --repair -c " in told.stdout
    result = audit(folder, "--repair")
    assert result.exit_code == 1
    assert "docs: rows of 1 document taken out" in result.stdout
    assert "docs: marks of 1 document dropped" in result.stdout
    waiting = audit(folder)
    assert waiting.exit_code == 0
    assert "1 document repaired, and waiting for the next ingest" in waiting.stdout
    ingest_now(folder / "docweave.yaml")
    report = audited(folder, "--sample", "100")
    assert report["clean"]
    assert report["sources"]["docs"]["proven"] == 12
    assert report["sample"]["alike"] == 14


def test_more_than_the_settings_allow_is_taken_out_by_approval_alone(folder: Path) -> None:
    edit(folder, "source = 'docs' AND ordinal = 1", text="Something else.")
    held = audited(folder, "--repair", code=1)["repaired"]["docs"]
    assert (len(held["withheld"]), held["removed"]) == (12, [])
    assert "--approve-removals 12 allows it" in audit(folder, "--repair").stdout
    done = audited(folder, "--repair", "--approve-removals", "12", code=1)["repaired"]["docs"]
    assert (len(done["removed"]), done["withheld"]) == (12, [])
    ingest_now(folder / "docweave.yaml")
    assert audited(folder)["sources"]["docs"]["proven"] == 12


def test_what_the_settings_name_no_more_or_would_make_otherwise_is_told(folder: Path) -> None:
    (folder / "docweave.yaml").write_text(
        "sources: {docs: {type: files, path: docs}}\nchunking: {max_tokens: 48}\n"
    )
    result = audit(folder)
    assert result.exit_code == 0
    assert "wiki: not in the settings" in result.stdout
    assert "docs: 12 documents made by other settings or another version" in result.stdout


def test_a_vector_that_was_edited_is_found_by_the_sample(folder: Path) -> None:
    edit(folder, "source = 'docs' AND key = '3.md' AND ordinal = 1", vector=[1.0] * 1024)
    assert audit(folder).exit_code == 0
    [found] = audited(folder, "--sample", "100", code=1)["findings"]
    assert (found["kind"], found["key"]) == ("embedding", "3.md")
    assert -1 <= found["cosine"] < 0.9
    assert "A service may not give the same bits twice" in audit(folder, "--sample", "100").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dosc"], "no source is called 'dosc'; valid: docs, wiki; did you mean 'docs'?"),
        (["--approve-removals", "3"], "--approve-removals is about --repair"),
        (["--sample", "-1"], "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(folder: Path, arguments: list[str], said: str) -> None:
    result = audit(folder, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr

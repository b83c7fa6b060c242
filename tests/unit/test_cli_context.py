"""`docweave context`: what it prints, for a person and for a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from pipeline import tokens
from tests.serving import ingested


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    ingested(folder)
    return folder / "docweave.yaml"


def context(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["context", *arguments, "--config", str(config)])


def made(config: Path, *arguments: str) -> Any:
    result = context(config, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_help_has_examples() -> None:
    output = CliRunner().invoke(app, ["context", "--help"]).output
    assert 'docweave context "how many days of leave do I have?" --tokens 2000' in output


def test_what_is_printed_fits_and_is_numbered(config: Path) -> None:
    result = context(config, "parental leave", "--tokens", "80", "--around", "section")
    assert result.exit_code == 0
    assert result.stdout.startswith("[1] Parental leave\nhandbook/leave.md\n\n# Parental leave\n")
    assert tokens.count(result.stdout) <= 82
    whole = made(config, "parental leave", "--tokens", "80", "--around", "section")
    assert whole["text"].split() == result.stdout.split()
    assert whole["tokens"] == tokens.count(whole["text"]) <= 80


def test_filters_sources_and_labels_decide_what_it_is_made_of(config: Path) -> None:
    def keys(*options: str) -> set[str]:
        return {one["key"] for one in made(config, "leave", *options)["passages"]}

    assert keys() >= {"leave.md", "pay.md", "merger.md"}
    assert keys("--source", "staff") == {"pay.md"}
    assert keys("--where", "year = 2024 and source exists") == {"pay.md"}
    seen = keys("--as", "board")  # of two with the same text, one
    assert seen in ({"leave.md", "merger.md", of_two} for of_two in ("copy.md", "fern.md"))
    assert "pay.md" not in keys("--as", "nobody", "--where", "source = staff or not source = x")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["  "], "the question is empty"),
        (["x", "--source", "nothing"], "no source is called 'nothing'"),
        (["x", "--where", "a ="], "a value must stand here"),
    ],
)
def test_what_cannot_be_meant_is_refused(config: Path, arguments: list[str], says: str) -> None:
    result = context(config, *arguments)
    assert (result.exit_code, says in result.output) == (2, True), result.output


def test_where_nothing_answers_it_says_so(config: Path) -> None:
    result = context(config, "xyzzy", "--mode", "text")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Nothing that answers fits" in result.output

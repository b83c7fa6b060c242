"""Commands that messages suggest can be copied as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.suggested import copyable

OURS = Path("team/my settings.yaml")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCWEAVE_CONFIG", raising=False)


@pytest.mark.parametrize(
    ("said", "copied"),
    [
        ("run `docweave ingest` first", "run `docweave ingest -c 'team/my settings.yaml'` first"),
        ("Next: docweave eval q.yaml", "Next: docweave eval q.yaml -c 'team/my settings.yaml'"),
        ("→ docweave maintain\nor not", "→ docweave maintain -c 'team/my settings.yaml'\nor not"),
        ("write some with `docweave init`", "write some with `docweave init`"),
        ("`docweave ingest --config other.yaml`", "`docweave ingest --config other.yaml`"),
        ("docweave needs the package mcp", "docweave needs the package mcp"),
    ],
)
def test_a_suggested_command_names_the_settings_that_were_read(said: str, copied: str) -> None:
    assert copyable(said, OURS) == copied
    assert copyable(said, [OURS]) == copied


def test_settings_that_a_command_reads_of_itself_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "run `docweave ingest` first"
    assert copyable(said, None) == said
    assert copyable(said, Path("docweave.yaml")) == said
    assert copyable(said, [OURS, Path("docweave.yaml")]) == said  # a command takes one
    monkeypatch.setenv("DOCWEAVE_CONFIG", str(OURS))
    assert copyable(said, OURS) == said
    assert copyable(said, Path("docweave.yaml")) == "run `docweave ingest -c docweave.yaml` first"

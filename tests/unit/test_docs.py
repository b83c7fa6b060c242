"""The documentation against what is there: links, anchors, commands and their options, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml

from apps.cli import app
from config.load import examine
from config.settings import Settings
from flows.secrets import know_blocks

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CALL = re.compile(r"(?:^|[`$] ?|&& |search )docweave ([a-z][a-z-]*)([^`|\n#]*)", re.MULTILINE)
VARIABLE = re.compile(r"\$\{(\w+)\}")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Of the page's headings, as GitHub names them; of two alike, the second ends with -1."""
    seen: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"[^\w\- ]", "", LINK.sub("]", heading).strip().lower()).replace(" ", "-")
        seen.append(f"{text}-{seen.count(text)}" if text in seen else text)
    return frozenset(seen)


def lead_nowhere(page: Path) -> Iterator[str]:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


@cache
def options() -> dict[str, set[str]]:
    """By command, the longest way to call it: `keys create`."""
    found: dict[str, set[str]] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {"": command})
        for inner, one in below.items():
            taken = {option for given in one.params for option in (*given.opts, *given.secondary_opts)}
            found[f"{name} {inner}".strip()] = taken | {"--help"}
    return found


def unknown_options(page: Path) -> Iterator[str]:
    for name, rest in CALL.findall(page.read_text()):
        called = f"keys {rest.split()[0]}" if name == "keys" and rest.split() else name
        if called not in options():
            if "|" not in called and name != "keys":
                yield name
            continue
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", rest):
            if option not in options()[called]:
                yield f"{called} {option}"


def settings_of(page: Path) -> Iterator[str]:
    """The blocks of YAML that are settings, or keys of them."""
    for language, text in FENCE.findall(page.read_text()):
        held = yaml.safe_load(text) if language == "yaml" else None
        if isinstance(held, dict) and set(held) <= set(Settings.model_fields):
            yield text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(lead_nowhere(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_has_the_options_that_a_page_gives_it(page: Path) -> None:
    assert list(unknown_options(page)) == []


def test_settings_in_the_documentation_can_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know_blocks()
    wrong = []
    for page in PAGES:
        for text in settings_of(page):
            for name in VARIABLE.findall(text):
                monkeypatch.setenv(name, "postgresql://reader@host/base")
            more = (
                ""
                if re.search(r"^sources:", text, re.MULTILINE)
                else "\nsources: {a: {type: files, path: a}}\n"
            )
            file = tmp_path / "docweave.yaml"
            file.write_text(text + more)
            wrong += [f"{page.name}: {problem}" for problem in examine(file)[1]]
    assert wrong == []


def test_the_pages_give_commands_and_settings() -> None:
    assert sum(len(CALL.findall(page.read_text())) for page in PAGES) > 100
    assert sum(1 for page in PAGES for _ in settings_of(page)) > 25
    assert {"ingest", "keys create"} <= set(options())

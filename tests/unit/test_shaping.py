"""Settings that decide what a document is made of have every document read anew, and no others do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr, TypeAdapter

from config.build import connectors
from connectors.configured import Configured
from connectors.registry import SOURCE_TYPES, SourceSettings
from connectors.settings import SharedSettings
from pipeline.ingest import ingest_source
from pipeline.records import Filter
from tests.settings_text import Load
from tests.world import World

HTTP = (
    *("allow_hosts", "private_networks", "username", "password", "token", "user_agent"),
    *("requests_per_second", "timeout_seconds", "max_bytes"),
)
ROWS = ("path", "url", "options", "key_field", "version_field", "max_bytes", "cache")
API = ("token", "base_url", "requests_per_second")
OTHERS: dict[str, tuple[str, ...]] = {
    "files": ("options", "include", "exclude", "hidden", "max_bytes"),
    "web": (
        *HTTP,
        *("sitemap", "pages", "crawl", "include", "exclude", "media_types", "drop_parameters", "robots"),
        *("noindex", "trust_lastmod", "max_pages", "max_seconds"),
    ),
    "feed": (*HTTP, "url", "keep_vanished", "cache"),
    "git": ("token", "include", "exclude", "cache", "max_bytes", "timeout_seconds"),
    "github": ("token", "parts", "state", "labels", "rate_limit_minutes"),
    "notion": API,
    "confluence": ("spaces", "user", "token", "requests_per_second", "max_bytes"),
    "google_drive": (
        *("folders", "credentials", "subject", "include", "exclude", "max_bytes", "base_url"),
        *("requests_per_second", "rate_limit_minutes"),
    ),
    "slack": (*API, "channels", "since", "keep_days", "rate_limit_minutes"),
    "sql": ("url", "key_column", "version_column", "max_bytes"),
    "jsonl": ROWS,
    "parquet": ROWS,
    "python": ("max_bytes",),
}
"""Settings that decide which items there are, what their keys and versions are, or how a source is asked."""

SHAPES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "files", "path": "/a"}, {"path": "/b"}),
    ({"type": "files", "url": "s3://a/x"}, {"url": "s3://b/x"}),
    ({"type": "feed", "url": "https://e.org/f"}, {"full": True}),
    ({"type": "git", "repository": "/a"}, {"repository": "/b"}),
    ({"type": "git", "repository": "/a"}, {"revision": "next"}),
    ({"type": "git", "repository": "/a"}, {"web": "https://w/{path}"}),
    ({"type": "git", "repository": "/a"}, {"web_lines": "#n{line}"}),
    ({"type": "github", "repository": "o/r"}, {"repository": "o/s"}),
    ({"type": "github", "repository": "o/r"}, {"base_url": "https://git.e.org/api/v3"}),
    ({"type": "github", "repository": "o/r"}, {"comments": False}),
    ({"type": "confluence", "base_url": "https://a", "spaces": ["S"]}, {"base_url": "https://b"}),
    ({"type": "confluence", "base_url": "https://a", "spaces": ["S"]}, {"deployment": "cloud"}),
    (
        {"type": "confluence", "base_url": "https://a", "spaces": ["S"], "access": []},
        {"permissions": True},
    ),
    ({"type": "google_drive", "folders": ["f" * 20], "credentials": SecretStr("{}")}, {"permissions": True}),
    ({"type": "slack", "token": SecretStr("x")}, {"bots": False}),
    *(
        ({"type": "sql", "url": "sqlite:///x", "table": "t", "key_column": "k", "text_column": "c"}, change)
        for change in (
            {"table": "u"},
            {"table": None, "query": "SELECT * FROM t"},
            {"text_column": "d"},
            {"title_column": "d"},
            {"url_column": "d"},
            {"metadata_columns": ["d"]},
            {"media_type": "text/html"},
        )
    ),
    *(
        ({"type": kind, "path": "/a", "key_field": "k", "text_field": "c"}, change)
        for kind in ("jsonl", "parquet")
        for change in (
            {"text_field": "d"},
            {"title_field": "d"},
            {"url_field": "d"},
            {"metadata_fields": ["d"]},
            {"media_type": "text/html"},
        )
    ),
    ({"type": "python", "function": "a:b"}, {"function": "a:c"}),
    ({"type": "python", "function": "a:b"}, {"arguments": {"x": 1}}),
    ({"type": "notion", "token": SecretStr("x")}, {"access": ["staff"]}),
    ({"type": "notion", "token": SecretStr("x")}, {"access_from": "acl"}),
]


def settings_of(given: dict[str, Any]) -> SharedSettings:
    settings: SharedSettings = TypeAdapter(SourceSettings).validate_python(given)
    return settings


@pytest.mark.parametrize(("given", "change"), SHAPES)
def test_a_change_of_what_documents_are_made_of_changes_the_recipe(
    given: dict[str, Any], change: dict[str, Any]
) -> None:
    assert settings_of(given).recipe != settings_of(given | change).recipe


@pytest.mark.parametrize("kind", SOURCE_TYPES)
def test_of_every_setting_it_was_decided_whether_it_shapes_documents(kind: str) -> None:
    model = SOURCE_TYPES[kind]
    own = set(model.model_fields) - set(SharedSettings.model_fields) - {"type"}
    assert own == {*model.shaping, *OTHERS[kind]}, "a new setting: does it shape documents?"
    assert not set(model.shaping) & set(OTHERS[kind])
    tried = {name for given, change in SHAPES if given["type"] == kind for name in change}
    assert set(model.shaping) <= tried, "each is tried above"


@pytest.mark.parametrize("kind", SOURCE_TYPES)
def test_no_secret_is_part_of_a_recipe(kind: str) -> None:
    model = SOURCE_TYPES[kind]
    for name in model.shaping:
        annotation = model.model_fields[name].annotation
        assert SecretStr not in {annotation, *get_args(annotation)}


def test_what_else_is_set_leaves_the_recipe() -> None:
    base = settings_of({"type": "files", "path": "/a"})
    others = {"include": ["*.md"], "max_bytes": 1, "budget": {"usd": 1}, "metadata": {"team": "x"}}
    assert base.recipe == settings_of({"type": "files", "path": "/a", **others}).recipe


MODULE = """
def documents(word):
    yield {"key": "a", "version": "1", "text": f"It says {word}."}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "shaping_source.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "shaping_source:documents"
    sys.modules.pop("shaping_source", None)


async def test_a_source_whose_shape_changes_is_read_anew_though_no_version_has_moved(
    load: Load, world: World, module: str
) -> None:
    async def ingested(word: str) -> tuple[int, list[str]]:
        source = f"{{type: python, function: '{module}', arguments: {{word: {word}}}}}"
        [(connector, _)] = connectors(load(f"sources: {{docs: {source}}}"))
        report = await ingest_source(connector, world.pipeline)
        hits = await world.store.matching("says", limit=5, where=Filter())
        return report.owed, [hit.text for hit in hits]

    assert await ingested("one") == (1, ["It says one."])
    assert await ingested("one") == (0, ["It says one."])
    assert await ingested("two") == (1, ["It says two."])


async def test_a_connector_of_another_package_may_name_its_own_shape(world: World) -> None:
    class Shaped(type(world.items)):  # type: ignore[misc]
        recipe = "mine"

    plain = Configured(connector=world.items, settings=SharedSettings())
    shaped = Configured(connector=Shaped(), settings=SharedSettings())
    assert plain.recipe == SharedSettings().recipe
    assert "mine" in shaped.recipe

"""`docweave models`: what is known here, and what OpenRouter offers today."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from apps.models import lines
from pipeline.embedders.models import ModelInfo, known_models


def models(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def listed(*arguments: str) -> Any:
    result = models(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def openrouter(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that lists models as OpenRouter does."""
    monkeypatch.setenv("OPENROUTER_API_KEY", "test-key")
    with serving(EmbeddingService()) as base_url:
        yield f"{base_url}/api/v1"


@pytest.fixture
def unreachable() -> str:
    """An address that nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/api/v1"


def test_every_known_model_is_listed_without_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    head, *rows = models().stdout.splitlines()
    assert head.split() == ["provider", "model", "context", "dimensions", "tokens", "USD", "per", "million"]
    assert [tuple(row.split()[:2]) for row in rows] == [(one.provider, one.name) for one in known_models()]
    [contextual] = [row for row in rows if "pplx-embed-context-v1-4b" in row]
    assert contextual.split()[2:] == ["the", "document", "128-2560", "32,000", "0.05"]
    [local] = [row for row in rows if row.startswith("local")]
    assert local.split()[-1] == "0"


def test_json_holds_all_that_is_known() -> None:
    found = listed()
    assert len(found["models"]) == len(known_models())
    assert (found["live"], found["unanswered"]) == (False, None)
    assert found["models"][0].keys() == {
        "provider", "name", "contextual", "least_dimensions", "most_dimensions", "max_tokens",
        "usd_per_million_tokens",
    }  # fmt: skip


def test_a_provider_has_its_own_models_alone() -> None:
    assert {one["provider"] for one in listed("--provider", "perplexity")["models"]} == {"perplexity"}
    result = models("--provider", "pplx")
    assert result.exit_code == 2
    assert "perplexity" in result.stderr


def test_openrouter_is_asked_what_it_offers_today(openrouter: str) -> None:
    found = listed("--provider", "openrouter", "--base-url", openrouter)
    assert (found["live"], found["unanswered"]) == (True, None)
    prices = {one["name"]: one["usd_per_million_tokens"] for one in found["models"]}
    assert prices["qwen/qwen3-embedding-4b"] == pytest.approx(0.02)
    assert prices["perplexity/pplx-embed-v1-4b"] == pytest.approx(0.03)
    result = models("--provider", "openrouter", "--base-url", openrouter)
    assert "qwen/qwen3-embedding-4b" in result.stdout
    assert result.stderr == ""


def test_where_openrouter_does_not_answer_that_is_said_and_the_known_models_are_listed(
    unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.models.PATIENCE_SECONDS", 0.5)
    result = models("--provider", "openrouter", "--base-url", unreachable)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "OpenRouter did not answer within 0.5 s",
        "These are the models that are known here:",
    ]
    assert "qwen/qwen3-embedding-4b" in result.stdout


def test_a_refused_key_is_said_and_not_shown(openrouter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "or-hunter2")
    result = models("--provider", "openrouter", "--base-url", openrouter, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["live"]) == (0, False)
    assert "OPENROUTER_API_KEY" in found["unanswered"]
    assert {one["provider"] for one in found["models"]} == {"openrouter"}
    assert "hunter2" not in result.output


def test_an_address_is_for_openrouter_alone() -> None:
    result = models("--base-url", "http://localhost")
    assert (result.exit_code, "is about --provider openrouter" in result.stderr) == (2, True)


def test_what_a_listing_does_not_tell_stays_blank() -> None:
    unknown = ModelInfo(
        provider="openrouter", name="a/\x1b[31mb", contextual=False, least_dimensions=0, most_dimensions=0,
        max_tokens=0, usd_per_million_tokens=None,
    )  # fmt: skip
    row = lines([unknown])[1]
    assert row.split() == ["openrouter", "a/\ufffd[31mb", "none"]
    assert row == row.rstrip()

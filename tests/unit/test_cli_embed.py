"""`docweave embed`: the vectors that an ingest would have, printed or saved, and what they cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from apps.cli import app
from apps.console import LISTED
from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from apps.fake_service.vectors import float_vectors_of, vectors_of
from apps.vector_files import save
from apps.vectors import Vectored, lines
from config.build import build_pipeline, connectors
from config.load import load_settings
from pipeline.ingest import ingest_source
from pipeline.records import Chunk, EmbeddingSpace, Encoding, Vector, Vectors

MODEL = "pplx-embed-context-v1-0.6b"
QWEN = "qwen/qwen3-embedding-4b"
FERN = "# Fern\n\nA soil sensor.\n\n## Resetting it\n\n" + "Hold the button for ten seconds. " * 40
LOCAL = "sources: {docs: {type: files, path: docs}}\nchunking: {max_tokens: 64}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Settings for the embedded default, and a document."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "fern.md").write_text(FERN)
    (tmp_path / "docweave.yaml").write_text(LOCAL)
    return tmp_path


@pytest.fixture
def stand_in() -> EmbeddingService:
    return EmbeddingService()


@pytest.fixture
def base_url(stand_in: EmbeddingService, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PPLX", "test-key")
    with serving(stand_in) as base_url:
        yield base_url


@pytest.fixture
def service(folder: Path, stand_in: EmbeddingService, base_url: str) -> EmbeddingService:
    """A service that the settings name."""
    write(folder, f"provider: perplexity, base_url: '{base_url}', model: {MODEL}")
    return stand_in


def write(folder: Path, embedding: str) -> None:
    """Settings for a service, with vectors of 128 numbers."""
    (folder / "docweave.yaml").write_text(
        LOCAL + f"embedding: {{{embedding}, dimensions: 128, api_key: '${{PPLX}}'}}\n"
    )


def embed(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["embed", *arguments, "--config", str(folder / "docweave.yaml")])


def embedded(folder: Path, *arguments: str) -> Any:
    result = embed(folder, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ingested(folder: Path) -> Vectors:
    """The vectors that an ingest of the one document stores."""

    async def ingest() -> Vectors:
        settings = load_settings(folder / "docweave.yaml")
        async with build_pipeline(settings) as pipeline:
            [(connector, metadata)] = connectors(settings)
            await ingest_source(connector, pipeline, metadata=metadata)
            states = await pipeline.store.states("docs", ["fern.md"])
            keys = states["fern.md"].group_keys
            known = await pipeline.store.vectors(keys)
            return np.concatenate([known[key] for key in keys])

    return anyio.run(ingest)


def test_help_names_the_command_and_has_examples() -> None:
    assert "Embed a text or a file" in CliRunner().invoke(app, ["--help"]).output
    assert "docweave embed --file" in CliRunner().invoke(app, ["embed", "--help"]).output


# --- what is embedded


def test_a_file_has_the_vectors_that_an_ingest_stores(folder: Path) -> None:
    found = embedded(folder, "--file", str(folder / "docs" / "fern.md"))
    assert found["title"] == "Fern"
    assert found["space"]["provider"] == "local"
    assert np.array_equal(np.array([chunk["vector"] for chunk in found["chunks"]]), ingested(folder))
    assert len(found["chunks"]) > 3
    assert all(chunk["text"] == FERN[chunk["start"] : chunk["end"]] for chunk in found["chunks"])
    assert found["chunks"][-1]["heading_path"] == ["Fern", "Resetting it"]
    assert all(0 < chunk["tokens"] <= 64 for chunk in found["chunks"])


def test_texts_are_the_chunks_of_one_document_in_their_order(folder: Path, service: EmbeddingService) -> None:
    texts = ["It is a soil sensor.", "# Not a heading\n\nHold the button.", "It is a soil sensor."]
    found = embedded(folder, *texts)
    wanted = vectors_of(texts, model=MODEL, dimensions=128)
    assert np.array_equal([chunk["vector"] for chunk in found["chunks"]], wanted)
    assert [chunk["text"] for chunk in found["chunks"]] == texts
    assert (found["groups"], found["title"]) == (1, "")
    assert len(service.requests) == 1
    assert found["tokens"] == service.requests[0].tokens
    assert found["cost_usd"] == pytest.approx(found["tokens"] * 0.008e-6)


def test_without_context_each_text_is_a_group_of_its_own(
    folder: Path, stand_in: EmbeddingService, base_url: str
) -> None:
    write(folder, f"provider: openrouter, base_url: '{base_url}/api/v1', model: {QWEN}")
    found = embedded(folder, "It is a soil sensor.", "Hold the button.")
    assert (found["groups"], found["space"]["encoding"]) == (2, "float16")
    wanted = float_vectors_of(["It is a soil sensor.", "Hold the button."], model=QWEN, dimensions=128)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.allclose([chunk["vector"] for chunk in found["chunks"]], wanted, atol=1e-3)
    assert found["cost_usd"] == pytest.approx(stand_in.requests[0].tokens * 0.02e-6)


def test_bits_are_packed(folder: Path, base_url: str) -> None:
    out = folder / "x.npy"
    write(folder, f"provider: perplexity, base_url: '{base_url}', encoding_format: base64_binary")
    result = embed(folder, "a text", "--out", str(out))
    signs = vectors_of(["a text"], model=MODEL, dimensions=128) >= 0
    assert np.array_equal(np.load(out), np.packbits(signs, axis=1, bitorder="little"))
    assert "Saved 1x16 uint8" in result.stdout


def test_a_question_is_asked_as_a_search_would(folder: Path, service: EmbeddingService) -> None:
    found = embedded(folder, "--query", "How do I reset it?", "And then?")
    for chunk in found["chunks"]:
        [wanted] = vectors_of([chunk["text"]], model=MODEL, dimensions=128)
        assert np.array_equal(chunk["vector"], wanted)
    assert (len(service.requests), found["estimated"]) == (2, True)
    assert found["cost_usd"] == pytest.approx(found["tokens"] * 0.008e-6)


def test_nothing_is_written_into_the_tables(folder: Path, service: EmbeddingService) -> None:
    before = sorted(folder.rglob("*"))
    embedded(folder, "a text")
    assert sorted(folder.rglob("*")) == before
    assert service.requests


def test_a_budget_for_a_run_holds_here_too(folder: Path, service: EmbeddingService) -> None:
    with (folder / "docweave.yaml").open("a") as file:
        file.write("budget: {tokens: 3}\n")
    result = embed(folder, "a text of more than three tokens, as anyone can count")
    assert result.exit_code == 3
    assert "more would pass the budget of 3 tokens for this run" in result.stderr
    assert service.requests == []


# --- what is printed


def test_a_person_sees_the_space_a_line_a_chunk_and_the_cost(folder: Path, service: EmbeddingService) -> None:
    result = embed(folder, "--file", str(folder / "docs" / "fern.md"))
    head, _, titles, *rows = result.stdout.splitlines()
    assert head == f"Fern   {len(rows) - 2} chunks in 1 group   perplexity/{MODEL}, 128 dimensions, int8"
    assert titles.split() == ["characters", "tokens", "norm", "first", "numbers"]
    assert rows[0].split("   ")[-1] == "Fern"
    assert rows[1].endswith("  Fern › Resetting it")
    assert rows[-1].startswith(f"Paid: {service.requests[0].tokens:,} tokens, ")


def test_of_a_long_document_the_first_chunks_are_shown(folder: Path) -> None:
    (folder / "long.md").write_text("\n\n".join(f"# Part {n}\n\n" + "word " * 50 for n in range(50)))
    result = embed(folder, "--file", str(folder / "long.md"))
    assert f"… and {50 - LISTED} more (--json or --out has all)" in result.stdout


# --- what is saved


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_saved_vectors_are_those_that_are_printed(folder: Path, suffix: str) -> None:
    document, out = str(folder / "docs" / "fern.md"), folder / f"fern{suffix}"
    printed = embedded(folder, "--file", document)
    result = embed(folder, "--file", document, "--out", str(out))
    vectors = np.array([chunk["vector"] for chunk in printed["chunks"]], dtype=np.int8)
    assert f"Saved {len(vectors)}x1024 int8 to {out}." in result.stdout
    if suffix == ".npy":
        saved = np.load(out)
        assert saved.dtype == np.int8
        assert np.array_equal(saved, vectors)
    elif suffix == ".jsonl":
        assert [json.loads(line) for line in out.read_text().splitlines()] == printed["chunks"]
    else:
        table = parquet.read_table(out)
        assert table.to_pylist() == printed["chunks"]
        assert str(table.schema.field("vector").type) == "fixed_size_list<element: int8>[1024]"
        assert json.loads(table.schema.metadata[b"docweave.space"]) == printed["space"]
    assert sorted(folder.glob("*.part")) == []


def test_with_out_the_json_leaves_the_vectors_to_the_file(folder: Path) -> None:
    found = embedded(folder, "a text", "--out", str(folder / "x.npy"))
    assert "vector" not in found["chunks"][0]
    assert np.load(folder / "x.npy").shape == (1, 1024)


def test_a_file_that_is_there_is_overwritten_by_force_alone(folder: Path, service: EmbeddingService) -> None:
    out = folder / "x.npy"
    out.write_text("mine")
    result = embed(folder, "a text", "--out", str(out))
    assert (result.exit_code, "is there already; --force overwrites it" in result.stderr) == (2, True)
    assert (out.read_text(), service.requests) == ("mine", [])
    assert embed(folder, "a text", "--out", str(out), "--force").exit_code == 0
    assert np.load(out).shape == (1, 128)


@pytest.mark.parametrize("encoding", ["binary", "float16"])
def test_bits_and_fractions_are_shown_and_saved_as_what_they_are(tmp_path: Path, encoding: Encoding) -> None:
    space = EmbeddingSpace(provider="x", model="y", dimensions=16, encoding=encoding)
    vectors: dict[str, Vector] = {
        "binary": np.array([0b00000101, 0b10000000], dtype=np.uint8),
        "float16": np.array([0.5, -0.5] + [0.25] * 8 + [0.0] * 6, dtype=np.float16),
    }
    vector = vectors[encoding]
    chunk = Chunk(ordinal=0, start=0, end=1, text="x", tokens=1)
    one = Vectored(space=space, title="", rows=[(chunk, vector)] * 2, groups=2, tokens=2, cost_usd=0.0)
    shown = lines(one, saved=None)
    row = {
        "binary": "0   0-1   1   3 of 16   1010000000000001 …   x",
        "float16": "0   0-1   1   1.000   0.5000 -0.5000 0.2500 0.2500 0.2500 0.2500 0.2500 0.2500 …   x",
    }[encoding]
    assert re.sub(" {3,}", "   ", shown[3]) == row
    for suffix in (".npy", ".jsonl", ".parquet"):
        save(one, tmp_path / f"x{suffix}")
    assert np.load(tmp_path / "x.npy").dtype == space.dtype
    columns = [parquet.read_table(tmp_path / "x.parquet").column("vector").to_pylist()]
    columns.append([json.loads(line)["vector"] for line in (tmp_path / "x.jsonl").read_text().splitlines()])
    for column in columns:
        assert np.array_equal(np.array(column, dtype=space.dtype), np.stack([vector] * 2))


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a TEXT to embed, or a --file PATH"),
        (["a", "--file", "b"], "and not both"),
        (["--query", "--file", "b"], "--query takes questions"),
        (["a", " "], "a text is blank"),
        (["--query", " "], "a text is blank"),
        (["a", "--out", "x.csv"], "the suffix says what is written; valid: .npy, .jsonl, .parquet"),
        (["a", "--out", "x"], "the suffix says what is written"),
        (["a", "--out", "nowhere/x.npy"], "nowhere is no folder"),
        (["--file", "nowhere.md"], "cannot be read: No such file or directory"),
        (["word " * 40_000], "is too long for one chunk (at most"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_paid(
    folder: Path, service: EmbeddingService, arguments: list[str], said: str
) -> None:
    result = embed(folder, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert service.requests == []


def test_a_document_that_cannot_be_parsed_or_holds_nothing_says_so(folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"no pdf")
    (folder / "empty.md").write_text(" \n")
    result = embed(folder, "--file", str(folder / "broken.pdf"))
    assert (result.exit_code, "broken.pdf is no PDF file" in result.stderr) == (3, True)
    result = embed(folder, "--file", str(folder / "empty.md"))
    assert (result.exit_code, "empty.md holds no text" in result.stderr) == (2, True)


def test_a_service_that_refuses_the_key_is_told_and_the_key_is_not(
    folder: Path, service: EmbeddingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PPLX", "pplx-hunter2")
    result = embed(folder, "a text", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["error"] == "ServiceRefused"
    assert "hunter2" not in result.output
    assert [seen.status for seen in service.requests] == [401]

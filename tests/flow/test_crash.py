"""Kill -9 in the middle of an ingest: the next run ends where an undisturbed one does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.build import build_pipeline
from config.load import load_settings
from pipeline.records import Filter

RUN = """
import asyncio, sys
from pathlib import Path
from config.build import build_pipeline, connectors
from config.load import load_settings
from pipeline.ingest import ingest_source

async def main():
    settings = load_settings(Path(sys.argv[1]))
    async with build_pipeline(settings) as pipeline:
        for connector, metadata in connectors(settings):
            report = await ingest_source(
                connector, pipeline, metadata=metadata, observe=lambda r: print("done", r.done, flush=True)
            )
            print("tokens", report.tokens, flush=True)

asyncio.run(main())
"""


def write_corpus(folder: Path, documents: int) -> None:
    for number in range(documents):
        lines = [f"# Note {number}"]
        lines += [
            f"\n## Part {n}\n\n" + f"Sentence {number} of part {n} says word{number * n}. " * 25
            for n in range(24)
        ]
        path = folder / f"{number % 7}" / f"note {number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))


def settings_in(folder: Path, corpus: Path) -> Path:
    folder.mkdir()
    path = folder / "docweave.yaml"
    path.write_text(f"store: {{uri: db}}\nsources:\n  notes: {{type: files, path: {corpus}}}\n")
    return path


def ingest(settings: Path, *, kill_at: int | None = None) -> list[str]:
    """Run in a process of its own; with `kill_at`, kill it when so many documents are done."""
    command = [sys.executable, "-c", RUN, str(settings)]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if kill_at is not None and line.startswith("done") and int(line.split()[1]) >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == (0 if kill_at is None else -signal.SIGKILL)
    return lines


async def content(settings_file: Path) -> Any:
    """Everything that the tables hold."""
    settings = load_settings(settings_file)
    async with build_pipeline(settings) as pipeline:
        store, space = pipeline.store, pipeline.embedder.space
        marks = await store.marks("notes")
        states = await store.states("notes", sorted(marks))
        vectors = await store.vectors(sorted({key for s in states.values() for key in s.group_keys}))
        question = next(iter(vectors.values()))[0]
        hits = await store.nearest(question, limit=100_000, where=Filter())
        rows = sorted((hit.key, hit.ordinal, hit.text, hit.heading_path, hit.title) for hit in hits)
        return space, states, rows, {key: array.tobytes() for key, array in vectors.items()}


@pytest.mark.parametrize("kill_at", [1, 120])
async def test_a_run_after_a_kill_ends_where_an_undisturbed_one_does(tmp_path: Path, kill_at: int) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus, 300)
    undisturbed = settings_in(tmp_path / "undisturbed", corpus)
    whole = ingest(undisturbed)

    killed = settings_in(tmp_path / "killed", corpus)
    lines = ingest(killed, kill_at=kill_at)
    done = int(lines[-1].split()[1])
    assert done < 300, "it was killed in the middle"
    rest = ingest(killed)
    assert await content(killed) == await content(undisturbed)
    paid, paid_again = int(whole[-1].split()[1]), int(rest[-1].split()[1])
    assert paid_again < paid, "what was committed before the kill was not embedded again"

"""examples/chat.py, as a process: with no model, and with a server that streams as OpenAI's does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ingested import ingest_now, written
from tests.loopback import Asked, Said, serving

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fern = "# Fern\n\n## Resetting\n\nHold the button for ten seconds.\n"
    settings = "sources: {notes: {type: files, path: notes}}\n"
    path = written(tmp_path_factory.mktemp("chat"), settings, {"notes/fern.md": fern})
    ingest_now(path)
    return path


def streamed(*pieces: str) -> bytes:
    """As OpenAI's chat completions come."""
    events = [json.dumps({"choices": [{"delta": {"content": piece}}]}) for piece in pieces]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def chat(config: Path, said: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "chat.py"), "--config", str(config), *options],
        input=said,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OPENAI_API_KEY": "a-key", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_model_it_cites_the_passages_that_answer(config: Path) -> None:
    told = chat(config, "How do I reset the Fern?\n")
    assert "Hold the button for ten seconds. [1]" in told
    assert "notes/fern.md" in told


def test_a_model_is_given_the_passages_and_what_was_said_before(config: Path) -> None:
    asked: list[Asked] = []

    def answer(request: Asked) -> Said:
        asked.append(request)
        return Said(content=streamed("Ten ", "seconds [1]."), headers={"Content-Type": "text/event-stream"})

    with serving(answer) as url:
        questions = "How long do I hold it?\nAnd then?\n"
        told = chat(config, questions, "--base-url", f"{url}/v1", "--model", "some-model")
    assert told.count("Ten seconds [1].") == 2
    assert told.count("notes/fern.md") == 2
    assert [one.path for one in asked] == ["/v1/chat/completions"] * 2
    assert {one.headers["authorization"] for one in asked} == {"Bearer a-key"}
    first, second = (one.json() for one in asked)
    assert first["model"] == "some-model"
    assert "Hold the button for ten seconds." in first["messages"][-1]["content"]
    assert [one["role"] for one in second["messages"]] == ["system", "user", "assistant", "user"]
    assert second["messages"][2]["content"] == "Ten seconds [1]."

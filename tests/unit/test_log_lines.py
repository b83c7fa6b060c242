"""Log lines as JSON: one object a line, whoever writes it, and nothing else on standard error."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.logging_lines import OURS, SPEAK_APART, is_json, lines_about, set_up
from config.logging_settings import LoggingSettings
from pipeline.errors import SettingsError
from tests.settings_text import SOURCES, Load

Lines = Callable[[], list[dict[str, str]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What was written to standard error; loggers are as they were afterwards."""
    for name in ("DOCWEAVE_LOG", "DOCWEAVE_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    loggers = [logging.getLogger(), *map(logging.getLogger, (*OURS, *SPEAK_APART))]
    before = [(one, one.level, list(one.handlers), one.propagate) for one in loggers]
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for one, level, handlers, propagate in before:
        one.setLevel(level)
        one.handlers, one.propagate = handlers, propagate


def test_each_line_is_one_object_whatever_the_message_holds(lines: Lines) -> None:
    set_up(LoggingSettings(format="json"))
    with lines_about(source="wiki"):
        logging.getLogger("pipeline.ingest").warning(
            "two\nlines and “quotes” of %s", "a.md", extra={"key": "a.md"}
        )
    logging.getLogger("apps.http").info("answered", extra={"flow_run_id": "f-1"})
    first, second = lines()
    assert first["message"] == "two\nlines and “quotes” of a.md"
    assert (first["level"], first["logger"]) == ("warning", "pipeline.ingest")
    assert (first["source"], first["key"]) == ("wiki", "a.md")
    assert first["time"].endswith("Z")
    assert second["run"] == "f-1"
    assert "source" not in second


def test_an_error_stands_in_its_line_with_its_traceback(lines: Lines) -> None:
    set_up(LoggingSettings(format="json"))
    try:
        int("no number")
    except ValueError:
        logging.getLogger("flows").exception("failed")
    [line] = lines()
    assert line["error"] == "ValueError"
    assert "test_log_lines.py" in line["traceback"]


def test_the_level_holds_for_all_that_is_written(lines: Lines) -> None:
    set_up(LoggingSettings(format="json", level="warning"))
    logging.getLogger("pipeline").info("not told")
    logging.getLogger("prefect.task_runs").info("not told")
    logging.getLogger("pipeline").error("told")
    assert [line["message"] for line in lines()] == ["told"]


@pytest.mark.usefixtures("lines")
def test_the_environment_goes_before_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCWEAVE_LOG", "JSON")
    assert set_up(LoggingSettings(format="text", level="error")) == LoggingSettings(
        format="json", level="error"
    )
    assert is_json()
    monkeypatch.setenv("DOCWEAVE_LOG", "text")
    set_up(LoggingSettings(format="json"))
    assert not is_json()
    monkeypatch.setenv("DOCWEAVE_LOG", "xml")
    with pytest.raises(SettingsError, match="DOCWEAVE_LOG is 'xml'; valid: text, json"):
        set_up(LoggingSettings())


def test_to_set_up_twice_writes_each_line_once(lines: Lines) -> None:
    for _ in range(3):
        set_up(LoggingSettings(format="json"))
    logging.getLogger("pipeline").info("once")
    assert len(lines()) == 1


def test_the_settings_name_the_format(load: Load) -> None:
    chosen = load(f"logging: {{format: json, level: debug}}\n{SOURCES}").logging
    assert chosen == LoggingSettings(format="json", level="debug")


def test_a_command_that_fails_says_so_in_a_line(tmp_path: Path) -> None:
    settings = tmp_path / "docweave.yaml"
    settings.write_text(SOURCES)
    command = [
        sys.executable,
        "-c",
        "from apps.cli import main; main()",
        "search",
        "leave",
        "-c",
        str(settings),
    ]
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "DOCWEAVE_LOG": "json"}
    )
    assert ended.returncode == 3
    [line] = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (line["level"], line["logger"]) == ("error", "apps")
    assert "there is nothing to search yet" in line["message"]

"""`docweave ingest` as it is run: a process of its own, on a real Prefect server or on one that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from apps.cli import app
from tests.prefect_server import PrefectServer

# Prefect's clients leave these at the end of a loop.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

DOCWEAVE = [sys.executable, "-c", "from apps.cli import main; main()"]
NOISE = (
    "Beginning",
    "flow run",
    "Task run",
    "Traceback",
    "prefect",
    "Finished in state",
    "Starting temporary",
)
"""What Prefect would say on the console."""


def environment(server: str | None, home: Path) -> Mapping[str, str]:
    """That of a user whose Prefect has a home of its own; without a server, one is started."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home), **({"PREFECT_API_URL": server} if server else {})}


class Cli:
    """Runs the command line on settings."""

    def __init__(self, config: Path, server: str | None) -> None:
        self.config = config
        self.environment = environment(server, config.parent / "prefect")

    def command(self, *arguments: str) -> list[str]:
        return [*DOCWEAVE, *arguments, "--config", str(self.config)]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True, text=True, env=self.environment, check=False, timeout=120,
        )  # fmt: skip

    def here(self, *arguments: str) -> Result:
        """The same in this process, where Prefect has been imported already."""
        return CliRunner().invoke(app, [*arguments, "--config", str(self.config)])


@pytest.fixture
def cli(handbook: Path, prefect_server: PrefectServer) -> Cli:
    return Cli(handbook, prefect_server.url)


def assert_quiet(done: subprocess.CompletedProcess[str]) -> None:
    for word in NOISE:
        assert word not in done.stdout + done.stderr


def test_an_ingest_prints_a_line_for_each_source_and_nothing_of_the_scheduler(cli: Cli) -> None:
    first = cli.run("ingest")
    assert first.returncode == 0, first.stderr
    assert_quiet(first)
    lines = first.stdout.splitlines()
    assert [line.split("   ")[0] for line in lines] == ["handbook", "wiki"]
    assert "3 documents: 3 added   3 chunks" in lines[0]
    assert first.stderr.splitlines() == [
        "handbook: 3 documents listed, 3 to read",
        "wiki: 1 document listed, 1 to read",
    ]
    again = cli.here("ingest", "handbook")
    assert again.exit_code == 0
    assert "3 documents: nothing to do" in again.stdout
    assert "wiki" not in again.stdout


def test_failed_documents_are_listed_and_the_exit_code_is_1(cli: Cli) -> None:
    (cli.config.parent / "documents/handbook/broken.pdf").write_bytes(b"no pdf")
    done = cli.here("ingest")
    assert done.exit_code == 1
    assert "4 documents: 3 added, 1 failed" in done.stdout
    assert "  ! broken.pdf" in done.stdout


def test_a_source_that_fails_is_told_without_a_traceback_and_the_others_are_ingested(cli: Cli) -> None:
    (cli.config.parent / "documents/handbook").rename(cli.config.parent / "moved")
    done = cli.here("ingest", "--json")
    assert done.exit_code == 3
    assert "Traceback" not in done.stderr
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: handbook: ")
    found = json.loads(done.stdout)
    assert found["errors"]["handbook"]["error"] == "SourceRefused"
    assert [source["source"] for source in found["sources"]] == ["wiki"]


def test_without_a_server_one_is_started_and_stopped(handbook: Path) -> None:
    done = Cli(handbook, None).run("ingest", "--json")
    assert done.returncode == 0, done.stderr
    assert [source["added"] for source in json.loads(done.stdout)["sources"]] == [3, 1]
    assert_quiet(subprocess.CompletedProcess([], 0, "", done.stderr))


def test_a_server_that_does_not_answer_is_named(handbook: Path) -> None:
    done = Cli(handbook, "http://user:pass@127.0.0.1:9/api").run("ingest")
    assert done.returncode == 3
    assert done.stderr.startswith("error: Prefect could not run the flow at http://127.0.0.1:9/api")
    assert "pass" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_ingest_stops_quickly_and_says_that_what_was_committed_stays(
    cli: Cli, sent: signal.Signals
) -> None:
    folder = cli.config.parent / "documents/handbook"
    for number in range(600):
        paragraphs = [f"Sentence {n} of note {number} says something. " * 12 for n in range(12)]
        (folder / f"{number}.md").write_text(f"# Note {number}\n\n" + "\n\n".join(paragraphs))
    process = subprocess.Popen(
        cli.command("ingest"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cli.environment
    )
    assert process.stderr
    assert process.stderr.readline() == "handbook: 603 documents listed, 603 to read\n"
    process.send_signal(sent)
    started = time.monotonic()
    stdout, stderr = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert "What was committed stays" in stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    assert cli.here("ingest").exit_code == 0
    status = json.loads(cli.here("status", "--json").stdout)
    assert status["sources"]["handbook"]["documents"] == 603

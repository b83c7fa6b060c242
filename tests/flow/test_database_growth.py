"""No text, bytes or vectors reach Prefect's database, and it does not grow with the documents."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pipeline.report import SourceReport
from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Prefect's clients

FEW, MANY = 200, 2_000
WORD = "zyzzogeton"
"""Stands in every document."""
ROWS, BYTES = 120, 60_000
"""That one run of one source may add. It was 102 rows, of 47 kB, for 20, 200 and 2,000 documents: a run, a
task, their states, logs and artifacts, and 17 events, each with the names of all that it is about."""
ROWS_A_SECOND, BYTES_A_SECOND = 8, 4_000
"""More for each second that it takes: its progress is shown, at most once in it."""


def write(folder: Path, documents: int) -> Path:
    """Settings over so many documents."""
    folder.mkdir()
    (folder / "notes").mkdir()
    for number in range(documents):
        (folder / "notes" / f"{number}.md").write_text(f"# Note {number}\n\nThe {WORD} of {number}.")
    settings = folder / "docweave.yaml"
    settings.write_text("store: {uri: db}\nsources: {notes: {type: files, path: notes}}\n")
    return settings


def held(database: Path) -> tuple[int, int]:
    """How many rows there are, and how many bytes of values in them."""
    rows = size = 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as found:
        tables = [name for (name,) in found.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in found.execute(f'PRAGMA table_info("{table}")')]
            length = " + ".join(f'coalesce(length("{column}"), 0)' for column in columns)
            query = f'SELECT count(*), coalesce(sum({length}), 0) FROM "{table}"'  # noqa: S608 - Prefect's names
            count, of_table = found.execute(query).fetchone()
            rows, size = rows + count, size + of_table
    return rows, size


def settled(database: Path) -> tuple[int, int]:
    """The same, when all that this process told has been written."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all()
    EventsWorker.drain_all()
    before, now = (-1, -1), held(database)
    until = time.monotonic() + 20
    while before != now and time.monotonic() < until:
        time.sleep(1)
        before, now = now, held(database)
    return now


async def test_a_run_adds_as_much_for_many_documents_as_for_few_and_nothing_of_their_text(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    from flows.ingest import ingest

    before = await anyio.to_thread.run_sync(settled, prefect_server.database)
    for documents in (FEW, MANY):
        config = write(tmp_path / f"{documents}", documents)
        began = time.monotonic()
        state: Any = await ingest(str(config), return_state=True)
        seconds = time.monotonic() - began
        assert state.is_completed()
        after = await anyio.to_thread.run_sync(settled, prefect_server.database)
        rows, size = after[0] - before[0], after[1] - before[1]
        assert 0 < rows <= ROWS + ROWS_A_SECOND * seconds, f"{documents} documents, {seconds:.1f} s"
        assert 0 < size <= BYTES + BYTES_A_SECOND * seconds, f"{documents} documents, {seconds:.1f} s"
        before = after
    for file in prefect_server.home.rglob("*"):
        if file.is_file():
            assert WORD.encode() not in await anyio.Path(file).read_bytes(), file


async def test_a_run_of_ten_hours_tells_its_progress_some_hundred_times(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from flows import telling
    from flows.progress import watcher

    now, shown, hours = 0.0, list[float](), 10
    report = SourceReport(source="notes", owed=1_000_000)
    logger = logging.getLogger("tests.growth")
    caplog.set_level(logging.INFO, logger.name)

    class Counted(telling.Teller):
        async def _show_progress(self, *, whole: bool = False) -> None:
            shown.append(now)

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds
        report.added += 1
        if now > hours * 3600:
            raise TimeoutError

    monkeypatch.setattr(telling, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(telling, "anyio", SimpleNamespace(sleep=pass_time))
    teller = Counted(report=report, logger=logger, watcher=watcher.get(), _began=0.0, _logged=0.0)
    with pytest.raises(TimeoutError):
        await teller.keep_up()
    assert 300 < len(shown) < 600
    assert shown[:3] == [0.0, 1.0, 2.0]
    assert shown[-1] - shown[-2] == pytest.approx(600, rel=0.05)
    assert 250 < len(caplog.records) < 400

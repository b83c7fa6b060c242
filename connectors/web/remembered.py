"""What a crawl remembers of each page, so that an unchanged one need not be downloaded for its links."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from connectors.web.page import Page, as_json, from_json

log = logging.getLogger(__name__)

_FORM = 1
"""Of the rows: of another form, they are forgotten."""


class Remembered:
    """Pages by the URL that was asked for, in a file. Nothing is lost with it but time.

    Blocks, shortly: for a worker thread.
    """

    def __init__(self, file: Path | None) -> None:
        """Opens the file, and makes it where it is not there; without one, remembers for now."""
        self._turn = threading.Lock()
        self._rows = _opened(file) if file else _opened(":memory:")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def some(self, asked: Sequence[str]) -> dict[str, Page]:
        """The pages that these URLs led to, as far as it has them."""
        marks = ",".join("?" * len(asked))
        query = f"SELECT asked, page FROM pages WHERE asked IN ({marks})"  # noqa: S608 - marks alone
        with self._turn, _no_more_than_a_cache():
            return {url: from_json(page) for url, page in self._rows.execute(query, asked)}
        return {}

    def put(self, asked: str, page: Page) -> None:
        """Remember it."""
        with self._turn, _no_more_than_a_cache():
            self._rows.execute("INSERT OR REPLACE INTO pages VALUES (?, ?)", (asked, as_json(page)))

    def keep(self, asked: set[str]) -> None:
        """Forget all but these."""
        with self._turn, _no_more_than_a_cache(), self._rows:
            gone = [row for row in self._rows.execute("SELECT asked FROM pages") if row[0] not in asked]
            self._rows.execute("BEGIN")
            self._rows.executemany("DELETE FROM pages WHERE asked = ?", gone)


@contextmanager
def _no_more_than_a_cache() -> Iterator[None]:
    """A full disk, or another run that holds the file for long, costs a download and nothing else."""
    try:
        yield
    except sqlite3.Error as error:
        log.warning("what the crawl remembers cannot be used: %s", error)


def _opened(file: Path | str) -> sqlite3.Connection:
    """The rows; where the file is no database, or half of one, in a new file, and else in memory."""
    for attempt in (file, file, ":memory:"):
        rows = None
        try:
            rows = sqlite3.connect(attempt, timeout=30, isolation_level=None, check_same_thread=False)
            _prepare(rows)
        except sqlite3.Error as error:
            log.warning("what the crawl remembers cannot be read, and is begun anew: %s", error)
            if rows is not None:
                rows.close()
            if isinstance(attempt, Path):
                with suppress(OSError):
                    attempt.unlink()
        else:
            return rows
    raise AssertionError("a database in memory can be opened")


def _prepare(rows: sqlite3.Connection) -> None:
    rows.execute("PRAGMA synchronous = OFF")  # a cache: after a power cut it may be gone
    rows.execute("PRAGMA journal_mode = WAL")
    if rows.execute("PRAGMA user_version").fetchone() != (_FORM,):
        rows.execute("DROP TABLE IF EXISTS pages")
        rows.execute(f"PRAGMA user_version = {_FORM}")
    rows.execute("CREATE TABLE IF NOT EXISTS pages (asked TEXT PRIMARY KEY, page TEXT) WITHOUT ROWID")

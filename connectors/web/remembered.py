"""What a crawl remembers of each page, so that an unchanged one need not be downloaded for its links."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Self

from connectors.web.page import Page, as_json, from_json

_FORM = 1
"""Of the rows: of another form, they are forgotten."""


class Remembered:
    """Pages by the URL that was asked for, in a file. Nothing is lost with it but time.

    Blocks, shortly: for a worker thread.
    """

    def __init__(self, file: Path) -> None:
        """Opens the file, and makes it where it is not there.

        Raises:
            OSError: it cannot be made.
        """
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._turn = threading.Lock()
        try:
            self._rows = self._opened(file)
        except sqlite3.DatabaseError:  # not a database, or half of one
            file.unlink(missing_ok=True)
            self._rows = self._opened(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def get(self, asked: str) -> Page | None:
        """The page that this URL led to."""
        with self._turn:
            row = self._rows.execute("SELECT page FROM pages WHERE asked = ?", (asked,)).fetchone()
        return from_json(row[0]) if row else None

    def put(self, asked: str, page: Page) -> None:
        """Remember it."""
        with self._turn:
            self._rows.execute("INSERT OR REPLACE INTO pages VALUES (?, ?)", (asked, as_json(page)))

    def keep(self, asked: set[str]) -> None:
        """Forget all but these."""
        with self._turn:
            gone = [row for row in self._rows.execute("SELECT asked FROM pages") if row[0] not in asked]
            self._rows.execute("BEGIN")
            self._rows.executemany("DELETE FROM pages WHERE asked = ?", gone)
            self._rows.execute("COMMIT")

    def _opened(self, file: Path | str) -> sqlite3.Connection:
        rows = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
        rows.execute("PRAGMA synchronous = OFF")  # a cache: after a power cut it may be gone
        rows.execute("PRAGMA journal_mode = WAL")
        if rows.execute("PRAGMA user_version").fetchone() != (_FORM,):
            rows.execute("DROP TABLE IF EXISTS pages")
            rows.execute(f"PRAGMA user_version = {_FORM}")
        rows.execute("CREATE TABLE IF NOT EXISTS pages (asked TEXT PRIMARY KEY, page TEXT) WITHOUT ROWID")
        return rows

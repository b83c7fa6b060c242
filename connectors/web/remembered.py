"""What a crawl remembers of each page, so that an unchanged one need not be downloaded for its links."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from connectors.web.page import Page, as_json, from_json

_FORM = 1
"""Of the rows: of another form, they are forgotten."""


class Remembered:
    """Pages by the URL that was asked for, in a file. Nothing is lost with it but time.

    Blocks, shortly: for a worker thread.
    """

    def __init__(self, file: Path | None) -> None:
        """Opens the file, and makes it where it is not there; without one, remembers for now."""
        self._turn = threading.Lock()
        try:
            self._rows = _opened(file)
        except sqlite3.DatabaseError:
            if file is None:
                raise
            file.unlink(missing_ok=True)  # no database, or half of one
            self._rows = _opened(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def some(self, asked: Sequence[str]) -> dict[str, Page]:
        """The pages that these URLs led to, as far as it has them."""
        places = ",".join("?" * len(asked))
        with self._turn:
            rows = self._rows.execute(f"SELECT asked, page FROM pages WHERE asked IN ({places})", asked)  # noqa: S608 - marks alone
            return {url: from_json(page) for url, page in rows}

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


def _opened(file: Path | None) -> sqlite3.Connection:
    rows = sqlite3.connect(file or ":memory:", timeout=30, isolation_level=None, check_same_thread=False)
    try:
        rows.execute("PRAGMA synchronous = OFF")  # a cache: after a power cut it may be gone
        rows.execute("PRAGMA journal_mode = WAL")
        if rows.execute("PRAGMA user_version").fetchone() != (_FORM,):
            rows.execute("DROP TABLE IF EXISTS pages")
            rows.execute(f"PRAGMA user_version = {_FORM}")
        rows.execute("CREATE TABLE IF NOT EXISTS pages (asked TEXT PRIMARY KEY, page TEXT) WITHOUT ROWID")
    except sqlite3.DatabaseError:
        rows.close()
        raise
    return rows

"""What was listed of a file of rows, so that a file that has not changed need not be read again."""

from __future__ import annotations

import gzip
import json
import logging
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

from pipeline.errors import SourceUnavailable

log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """A row, as far as a listing tells of it."""

    key: str
    version: str
    group: int


Keep: TypeAlias = Callable[[Listed], None]
"""Takes one row."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """Keys and versions of the rows of one file, in a file of its own. Blocks: for a worker thread."""

    file: Path | None
    """None: nothing is remembered."""

    def rows(self, version: str) -> Iterator[Listed] | None:
        """The rows of the file of this version; None where they are not known.

        Raises:
            SourceUnavailable: what is remembered is damaged, and is now forgotten.
        """
        if self.file is None:
            return None
        try:
            with gzip.open(self.file, "rt", encoding="utf-8") as lines:
                return self._read() if json.loads(next(lines)) == version else None
        except (OSError, EOFError, ValueError, StopIteration, zlib.error):
            return None

    def _read(self) -> Iterator[Listed]:
        assert self.file  # noqa: S101 - seen to by `rows`
        try:
            with gzip.open(self.file, "rt", encoding="utf-8") as lines:
                next(lines)
                for line in lines:
                    yield Listed(*json.loads(line))
        except (OSError, EOFError, ValueError, TypeError, zlib.error) as error:
            with suppress(OSError):
                self.file.unlink()
            raise SourceUnavailable(f"{self.file} is damaged, and was deleted: ingest again") from error

    @contextmanager
    def keeping(self, version: str) -> Iterator[Keep]:
        """Remember what is given until the block ends; nothing of it, if that raises."""
        with ExitStack() as stack:
            writing = _Writing(self.file, stack)
            writing.add(version)
            yield writing.add
            writing.done()


class _Writing:
    """Takes the place of a file when it is done. A full disk costs what is remembered, and nothing else."""

    def __init__(self, file: Path | None, stack: ExitStack) -> None:
        self._target = file
        self._lines: IO[str] | None = None
        if file is None:
            return
        try:
            raw = tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", delete=False)  # noqa: SIM115
        except OSError as error:
            self._fail(error)
            return
        self._written = Path(raw.name)
        self._lines = gzip.open(raw, "wt", encoding="utf-8", compresslevel=1)  # noqa: SIM115
        for end in (lambda: self._written.unlink(missing_ok=True), raw.close, self._lines.close):
            stack.callback(_quietly, end)

    def add(self, row: Listed | str) -> None:
        if self._lines is not None:
            try:
                self._lines.write(json.dumps(row) + "\n")
            except OSError as error:
                self._fail(error)

    def done(self) -> None:
        if self._lines is not None and self._target is not None:
            try:
                self._lines.close()
                self._written.replace(self._target)
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._lines = None
        log.warning("what was listed is not remembered: %s", error.strerror)


def _quietly(end: Callable[[], None]) -> None:
    with suppress(OSError):
        end()

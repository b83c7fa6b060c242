"""CSV and TSV to a Markdown table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

_SAMPLE_CHARS = 16 * 1024
_SAMPLE_ROWS = 20
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ROWS_AT_ONCE = 1000


def table(text: str, *, delimiter: str | None = None) -> str:
    r"""A Markdown table of the rows of a CSV text, the first one its header. Blank rows are dropped.

    Args:
        text: with `\n` line ends.
        delimiter: what parts the cells; None: found out from the start of the text.

    Raises:
        csv.Error: the text is no CSV, or has a cell of more than 131,072 characters.
    """
    return "".join(_blocks(text, delimiter or _delimiter(text)))


def _blocks(text: str, delimiter: str) -> Iterator[str]:
    lines = (match[0] for match in _LINE.finditer(text))
    return rows(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))


def rows(written: Iterable[list[str]]) -> Iterator[str]:
    """A Markdown table, the first row its header, in blocks of rows.

    (A string for each row would take several times the memory.) Blank rows are dropped.
    """
    width = 0
    block: list[str] = []
    for cells in written:
        if not any(map(str.strip, cells)):
            continue
        if not width:
            width = len(cells)
            block += (_row(cells), "|" + " --- |" * width + "\n")
            continue
        block.append(_row(cells + [""] * (width - len(cells))))
        if len(block) >= _ROWS_AT_ONCE:
            yield "".join(block)
            block.clear()
    yield "".join(block)


def _row(cells: list[str]) -> str:
    written = [cell.strip().replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(written)} |\n"


def _delimiter(text: str) -> str:
    """What parts the rows at the start into the most alike, then into the most cells; a comma in doubt.

    (`csv.Sniffer` takes 60 ms for 16 KB, and misjudges the quoting.)
    """
    sample = text[:_SAMPLE_CHARS].strip().split("\n")[:_SAMPLE_ROWS]
    best, best_score = ",", (0.0, 1)
    for delimiter in ",;\t|":
        try:
            widths = [
                len(row) for row in csv.reader(sample, delimiter=delimiter, skipinitialspace=True) if row
            ]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            score = (widths.count(widths[0]) / len(widths), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best

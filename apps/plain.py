"""Text from documents and file names, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text without what could steer a terminal: every unprintable character becomes U+FFFD."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def one_line(text: str) -> str:
    """The text with each run of white space as one blank, and fit for a terminal."""
    return printable(" ".join(text.split()))


def table(rows: list[list[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Rows as lines with aligned columns, three blanks apart; the columns in `right` end flush."""
    widths: dict[int, int] = {}
    for row in rows:
        for place, cell in enumerate(row):
            widths[place] = max(widths.get(place, 0), len(cell))
    return [
        "   ".join(
            cell.rjust(widths[place]) if place in right else cell.ljust(widths[place])
            for place, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]

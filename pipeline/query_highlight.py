"""Where a question's words stand in a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

_WORD = re.compile(r"\w+")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]{2,}")
"""Scripts that put no space between words: there, pairs of characters are looked for."""
_STOP = frozenset(
    (  # noqa: SIM905 - a list of words reads best as words
        "a an and are as at be by can do does for from had has have how i if in is it its may me my not of "
        "on or our so that the their they this to was we what when where which who why will with you your"
    ).split()
)


def matcher(question: str) -> Callable[[str], str | None]:
    """Gives the question's word that a word of a text stands for, or None.

    Case is ignored, and so is what a longer word of the question ends with: "resets" stands for "reset".
    """
    words = {word.casefold() for word in _WORD.findall(question)}
    words = (words - _STOP) or words
    stems = {word: word[: max(4, len(word) - 2)] if len(word) > 4 else word for word in words}

    def stands_for(word: str) -> str | None:
        folded = word.casefold()
        if folded in words:
            return folded
        near = (w for w, stem in stems.items() if len(stem) >= 4 and folded.startswith(stem))
        return next((w for w in near if len(folded) <= len(w) + 3), None)

    return stands_for


def ranges(text: str, question: str) -> list[tuple[int, int]]:
    """The characters of the text that stand for words of the question: from, to; in order, none touching."""
    stands_for = matcher(question)
    found = [found.span() for found in _WORD.finditer(text) if stands_for(found[0])]
    found += _pairs(text, question)
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _pairs(text: str, question: str) -> Iterator[tuple[int, int]]:
    pairs = {one + other for run in _WIDE.findall(question) for one, other in pairwise(run)}
    for pair in pairs:
        # Looked for ahead: two pairs may share a character.
        yield from (
            (found.start(), found.start() + 2) for found in re.finditer(f"(?={re.escape(pair)})", text)
        )

"""Words and their hashed features: the half of the embedded default embedder that knows no meaning.

A word is a run of letters and digits in lower case, or a single sign (an emoji, an arrow). Chinese, Japanese
and Korean write without spaces or glue endings on: there it is each pair of neighbours and, but for Korean,
each character. A word's features are itself and its stem: what differs only in its ending still meets.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 768
FEATURES = 2
"""Of each word: itself and its stem."""

_EAST_ASIAN = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_EAST_ASIAN_CHARACTER = re.compile(f"[{_EAST_ASIAN}]")
_WORD = re.compile(
    rf"(?P<east>[{_EAST_ASIAN}]+)"
    rf"|[^\W_{_EAST_ASIAN}]{{1,64}}"  # longer runs are no words: cut, so that none costs more than its length
    r"|[\u2190-\u21ff\u2600-\u27bf\U0001f000-\U0001faff]"
)
_ENDING = re.compile(
    r"(?:ational|ations?|ments?|ings?|ingly|edly|ers?|i?ed|ies|es|(?<!s)s|e|y|ly|al|ions?|ity|ive)$", re.ASCII
)
_SHORTEST_STEM = 4


def words(text: str) -> Counter[str]:
    """The words of a text and how often each stands there, in the order in which they first do.

    Anything is text: lone surrogates, NUL and runs without a space give few words or none.
    """
    clean = unicodedata.normalize("NFKC", text.encode(errors="replace").decode()).lower()
    found: list[str] = []
    for match in _WORD.finditer(clean):
        run = match[0]
        if match.lastgroup:
            # A syllable out of a longer Korean word says nothing alone.
            if len(run) == 1 or not "\uac00" <= run[0] <= "\ud7af":
                found.extend(run)
            found.extend(map("".join, pairwise(run)))
        else:
            found.append(run)
    return Counter(found)


def stem(word: str) -> str:
    """The word without its English ending, where enough is left; a plural -s goes from short words too."""
    bare = _ENDING.sub("", word)
    if len(bare) >= _SHORTEST_STEM:
        return bare
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word


def is_east_asian_character(word: str) -> bool:
    """Whether it is a single character of a script whose pairs say more than its characters."""
    return _EAST_ASIAN_CHARACTER.fullmatch(word) is not None


def features(vocabulary: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where each word's features go and with which sign.

    Returns:
        Buckets in [0, 768) and signs ±1, both of shape (words, 2); the same on every machine.
    """
    hashes = np.array(
        [(zlib.crc32(word.encode()), zlib.crc32(b"~" + stem(word).encode())) for word in vocabulary],
        dtype=np.uint64,
    ).reshape(-1, FEATURES)
    # CRC-32 maps texts that differ alike to hashes that differ alike; multiply and fold until they do not.
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes + np.uint64(1)) * np.uint64(factor)
        hashes ^= hashes >> np.uint64(33)
    buckets = (hashes % np.uint64(DIMENSIONS)).astype(np.int64)
    return buckets, np.where(hashes >> np.uint64(63), 1.0, -1.0)

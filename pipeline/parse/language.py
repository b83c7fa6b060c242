"""Which language a text is in."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_SAMPLES = (1_000, 3_000)  # the longer one where the shorter is mostly code
_READ_CHARS = 200
_ENOUGH_LETTERS = 150
_LEAST_LETTERS = 40
_LEAST_CONFIDENCE = 0.8
_NO_LANGUAGE = "zxx"
# Code, markup and addresses are of no language; nor are numbers and signs.
_MARKUP = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|<[^<>\n]*>|\]\([^()\n]*\)", re.DOTALL)
_ADDRESS = re.compile(r"\b[a-z]{2,9}://\S+")
_BETWEEN_WORDS = bytes(32 if code < 128 and not chr(code).isalpha() else code for code in range(256))
_DIGITS = re.compile(r"\d+")
_ASCII = re.compile(r"[\x00-\x7f]+")

# Common words of English, and of no other language in these letters.
_ENGLISH = frozenset(
    """
    about also and any are because been but could each from have how into its must not only should such than
    that the their then there these they this to used using was what when where which will with would your
    """.split()  # noqa: SIM905 - as a list, it would fill a page
)
_ENGLISH_CHARS = (500, 2_000)
_ENGLISH_SHARE = 1 / 10
_DISTINCT_WORDS = 4


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of the language of a text, by its beginning; None where that is not clear.

    Plain English is known by its commonest words: a run that meets no other language never loads the model,
    which takes the time of some hundred documents, and 100 MB.
    """
    if any(_is_plainly_english(_words(text[:sample])) for sample in _ENGLISH_CHARS):
        return "en"
    prose = ""
    for sample in _SAMPLES:
        prose = " ".join(_words(text[:sample]).split())[:_READ_CHARS]
        if len(prose) >= _ENOUGH_LETTERS or len(text) <= sample:
            break
    if len(prose) < _LEAST_LETTERS and not _says_more_by_letter(prose):
        return None
    language, confidence = _identifier().classify(prose)
    return language if confidence >= _LEAST_CONFIDENCE and language != _NO_LANGUAGE else None


def _words(text: str) -> str:
    """What is said in it, blanks between."""
    if "`" in text or "<" in text or "](" in text:
        text = _MARKUP.sub(" ", text)
    if "://" in text:
        text = _ADDRESS.sub(" ", text)
    words = text.encode().translate(_BETWEEN_WORDS).decode()  # as bytes: a tenth of the time
    return words if words.isascii() else _DIGITS.sub(" ", words)


def _is_plainly_english(prose: str) -> bool:
    if not prose.isascii() and any(letter.isalpha() for letter in _ASCII.sub("", prose)):
        return False
    words = prose.lower().split()
    found = [word for word in words if word in _ENGLISH]
    return len(found) >= len(words) * _ENGLISH_SHARE and len(set(found)) >= _DISTINCT_WORDS


def _says_more_by_letter(prose: str) -> bool:
    """Whether it is Chinese, Japanese or Korean, of which a few characters are a sentence."""
    return sum(letter > "\u2e7f" for letter in prose) * 4 >= _LEAST_LETTERS


@cache
def _identifier() -> LanguageIdentifier:
    """4.5 MB of model out of the package, 0.3 s to load."""
    import numpy as np  # noqa: PLC0415  for ingests alone
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # Those that ISO 639-1 names, and none at all: variants of one of them would make both less likely.
    identifier.set_languages([known for known in identifier.labels if len(known) == 2] + [_NO_LANGUAGE])
    # Choosing columns leaves them one after the other; a text asks for a few hundred rows.
    identifier.nb_ptc = np.ascontiguousarray(identifier.nb_ptc)
    return identifier

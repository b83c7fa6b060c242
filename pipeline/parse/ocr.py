"""Where Tesseract keeps what it knows of languages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import SettingsError

_FOLDERS = (
    "/usr/share/tesseract-ocr",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
    r"C:\Program Files\Tesseract-OCR\tessdata",
)
_LANGUAGE = re.compile(r"[A-Za-z_]{2,40}")


def tesseract_data(languages: Sequence[str], folder: Path | None) -> list[str]:
    """The folder with the languages' data, and the languages. liteparse would download what is not there.

    Raises:
        SettingsError: a language's data is not there.
    """
    if odd := [language for language in languages if not _LANGUAGE.fullmatch(language)]:
        raise SettingsError(f"parsing.ocr: {odd[0]!r} is no language of Tesseract's, such as eng or deu")
    searched = [folder] if folder else list(_folders())
    for candidate in searched:
        if all((candidate / f"{language}.traineddata").is_file() for language in languages):
            return [str(candidate), *languages]
    missing = ", ".join(
        language
        for language in languages
        if not any((candidate / f"{language}.traineddata").is_file() for candidate in searched)
    )
    raise SettingsError(
        f"parsing.ocr: Tesseract's data for {missing or 'all languages together'} is in none of "
        f"{', '.join(map(str, searched)) or 'the usual folders'}: install it (Debian: apt install "
        f"tesseract-ocr-{(missing or languages[0]).split(',')[0]}), or name its folder in parsing.tessdata"
    )


def _folders() -> Iterator[Path]:
    """Where it is looked for; those that are there."""
    named = os.environ.get("TESSDATA_PREFIX")
    for folder in [Path(named)] if named else map(Path, _FOLDERS):
        for candidate in (folder, folder / "tessdata", *sorted(folder.glob("*/tessdata"))):
            if candidate.is_dir():
                yield candidate

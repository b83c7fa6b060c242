"""What the YAML may say of parsing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.build import build_parser
from config.load import load_settings
from config.parsing import ParsingSettings
from pipeline.errors import ParseError, SettingsError
from pipeline.records import ItemRef, RawDocument

FILE = """
parsing: {}
sources:
  handbook: {{type: files, path: .}}
"""


def written(folder: Path, parsing: str) -> Path:
    path = folder / "docweave.yaml"
    path.write_text(FILE.format(parsing))
    return path


async def test_limits_are_kept_by_the_parser_that_is_built(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "{max_bytes: 1kB, max_characters: 10, processes: 1}"))
    parser = build_parser(settings)

    def raw(content: bytes) -> RawDocument:
        return RawDocument(ref=ItemRef(source="s", key="a.md", version="1"), content=content, media_type="")

    with pytest.raises(ParseError, match="at most 1,000 are parsed"):
        await parser.parse(raw(bytes(1_001)))
    with pytest.raises(ParseError, match="at most 10 are taken"):
        await parser.parse(raw(b"x" * 11))


def test_nothing_said_is_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "{}"))

    assert settings.parsing == ParsingSettings()
    assert build_parser(settings).recipe.startswith("parse ")
    assert "ocr" not in build_parser(settings).recipe


@pytest.mark.parametrize(
    "said", [{"seconds": 0}, {"memory": "1MB"}, {"processes": 0}, {"ocr": ["../eng"]}, {"second": 3}]
)
def test_what_cannot_be_meant_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ParsingSettings.model_validate(said)


def test_ocr_without_tesseracts_data_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "{ocr: [xyz], tessdata: .}"))

    with pytest.raises(SettingsError, match=r"parsing\.ocr: .*xyz.*tesseract-ocr-xyz"):
        build_parser(settings)

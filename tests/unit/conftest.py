"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import load_settings
from config.settings import Settings
from tests.settings_text import Load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "docweave.yaml"


@pytest.fixture
def load(file: Path) -> Load:
    def load(text: str) -> Settings:
        file.write_text(text, encoding="utf-8")
        return load_settings(file)

    return load

"""What the tests of the settings share: a text becomes a file, and a file settings or complaints."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings
from pipeline.errors import SettingsError

ROOT = Path(__file__).parents[1]
SOURCES = "sources: {docs: {type: files, path: docs}}\n"
"""The least that settings may say."""

Load = Callable[[str], Settings]


def complaints(load: Load, text: str) -> list[str]:
    """What is said of a text, a line each, without the file's folder."""
    with pytest.raises(SettingsError) as raised:
        load(text)
    return [re.sub(r"^.*/docweave\.yaml:", "", line) for line in str(raised.value).split("\n")]

"""What the YAML, or the environment, may say of log lines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, Self, get_args

from pydantic import Field

from connectors.settings import StrictModel
from pipeline.errors import SettingsError

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

FORMAT_VARIABLE = "DOCWEAVE_LOG"
LEVEL_VARIABLE = "DOCWEAVE_LOG_LEVEL"


class LoggingSettings(StrictModel):
    """How runs and servers write their log lines, on standard error."""

    format: Format = Field(
        default="text",
        description="text: lines for people. json: one JSON object a line, for programs. The environment "
        f"variable {FORMAT_VARIABLE} takes its place.",
    )
    level: Level = Field(
        default="info",
        description="What is less important is not written. The environment variable "
        f"{LEVEL_VARIABLE} takes its place.",
    )

    def or_environment(self, environ: Mapping[str, str] = os.environ) -> Self:
        """The same, with what the environment says in its place.

        Raises:
            SettingsError: a variable says what cannot be meant.
        """
        said = {
            "format": _said(environ, FORMAT_VARIABLE, get_args(Format)),
            "level": _said(environ, LEVEL_VARIABLE, get_args(Level)),
        }
        return self.model_copy(update={name: value for name, value in said.items() if value})


def _said(environ: Mapping[str, str], name: str, valid: tuple[str, ...]) -> str:
    value = environ.get(name, "").lower()
    if value and value not in valid:
        raise SettingsError(f"{name} is {value!r}; valid: {', '.join(valid)}")
    return value

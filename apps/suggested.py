"""Commands that messages suggest, made fit to be copied."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from apps.options import SETTINGS_FILE

_SUGGESTED = re.compile(r"(?<=`)docweave [^`\n]+(?=`)|(?<=[:→] )docweave .+$", re.MULTILINE)
"""In backquotes, or at the end of a line."""
_WITHOUT_SETTINGS = frozenset({"init", "connectors", "models", "fake-service"})


def copyable(text: str, config: Path | Sequence[Path] | None) -> str:
    """The text, where each command that it suggests names the settings that this one has read.

    Those that a command reads of itself are not named; nor are several, of which a command takes one alone.
    """
    configs = [config] if isinstance(config, Path) else list(config or ())
    usual = os.environ.get("DOCWEAVE_CONFIG") or SETTINGS_FILE
    if len(configs) != 1 or str(configs[0]) == usual:
        return text

    def named(found: re.Match[str]) -> str:
        command = found[0]
        if command.split()[1] in _WITHOUT_SETTINGS or re.search(r" (-c|--config)\b", command):
            return command
        return f"{command} -c {shlex.quote(str(configs[0]))}"

    return _SUGGESTED.sub(named, text)

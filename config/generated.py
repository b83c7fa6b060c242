"""Files of the repository that are made from the settings' classes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def keep(file: Path, made: str, module: str, arguments: Sequence[str]) -> int:
    """Write what was made into its file, or with `--check` only say whether it stands there.

    Returns:
        The exit code of `python -m module`.
    """
    if "--check" not in arguments:
        file.write_text(made, encoding="utf-8")
    elif not file.exists() or file.read_text(encoding="utf-8") != made:
        sys.stderr.write(f"{file.name} is stale: run python -m {module}\n")
        return 1
    return 0

"""What the files of the AWS command line say."""

from __future__ import annotations

from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as BrokenFile
from pathlib import Path


def profile(environ: Mapping[str, str]) -> dict[str, str]:
    """What stands under the profile that AWS_PROFILE names, or under `default`; nothing without the files."""
    name = environ.get("AWS_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, usual, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name),
    ):
        parser = ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(Path(environ.get(variable) or usual).expanduser(), encoding="utf-8")
        except (BrokenFile, UnicodeDecodeError, OSError, RuntimeError):
            continue  # who needs what stands there finds out that it is missing
        if parser.has_section(section):
            found |= dict(parser.items(section))
    return found

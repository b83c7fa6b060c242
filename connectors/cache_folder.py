"""Where connectors keep what spares them a download: nothing is lost with it but time."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import SourceRefused

log = logging.getLogger(__name__)


def cache_file(source: str, chosen: Path | None, setting: str, urls: Iterable[str]) -> Path | None:
    """The file of a source, its folder made. Blocks: for a worker thread.

    Args:
        source: Its name in the settings.
        chosen: The folder of the settings; None is docweave in the user's cache folder.
        setting: What names it, below the source.
        urls: What is cached: another file for others.

    Returns:
        None where the user's cache folder cannot be written: then nothing is cached.

    Raises:
        SourceRefused: the folder of the settings cannot be written.
    """
    folder = chosen or usual_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        if chosen is not None:
            raise SourceRefused(
                f"sources.{source}.{setting}: {folder} cannot be written: {error.strerror}"
            ) from error
        log.warning("nothing is cached: %s cannot be written; name a folder in %s", folder, setting)
        return None
    mark = hashlib.sha256("\n".join(urls).encode()).hexdigest()[:12]
    return folder / f"{source}-{mark}"


def usual_folder() -> Path:
    """Where the user's caches are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "docweave"

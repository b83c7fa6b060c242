"""Tables filled without a scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anyio

from config.build import build_pipeline, connectors
from config.load import load_settings
from pipeline.ingest import ingest_source


def ingest_now(config: Path, *sources: str) -> None:
    """Ingest these sources of the settings, or all, from where no event loop runs."""
    anyio.run(ingest_here, config, *sources)


async def ingest_here(config: Path, *sources: str) -> None:
    """As `ingest_now`, where one runs."""
    settings = load_settings(config)
    async with build_pipeline(settings) as pipeline:
        for connector, metadata in connectors(settings, sources):
            await ingest_source(connector, pipeline, metadata=metadata)


def written(folder: Path, settings: str, files: Mapping[str, str]) -> Path:
    """The path of these settings, in the folder beside these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    config = folder / "docweave.yaml"
    config.write_text(settings, encoding="utf-8")
    return config

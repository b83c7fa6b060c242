"""Tables filled without a scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anyio

from config.build import build_pipeline, connectors
from config.load import load_settings
from pipeline.ingest import ingest_source
from pipeline.report import SourceReport


def ingest_now(config: Path, *sources: str) -> list[SourceReport]:
    """Ingest these sources of the settings, or all, from where no event loop runs."""
    return anyio.run(ingest_here, config, *sources)


async def ingest_here(config: Path, *sources: str) -> list[SourceReport]:
    """As `ingest_now`, where one runs."""
    settings = load_settings(config)
    async with build_pipeline(settings) as pipeline:
        return [
            await ingest_source(connector, pipeline, metadata=metadata)
            for connector, metadata in connectors(settings, sources)
        ]


def written(folder: Path, settings: str, files: Mapping[str, str]) -> Path:
    """The path of these settings, in the folder beside these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    config = folder / "docweave.yaml"
    config.write_text(settings, encoding="utf-8")
    return config

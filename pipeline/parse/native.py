"""What xberg makes of a document. For a worker process."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xberg import ExtractedDocument, ExtractionConfig

# xberg's default is 100,000: a sheet of 10,000 rows. The limits of the worker hold anyway.
_TABLE_CELLS = 20_000_000


def extracted(content: bytes, media_type: str) -> ExtractedDocument:
    """The document as Markdown, by pages where it has any."""
    import xberg  # noqa: PLC0415  in the worker only

    document = xberg.ExtractInput(kind="bytes", bytes=content, mime_type=media_type)
    result = _loop().run(xberg.extract(document, _config()))
    if result.errors:
        raise ValueError("; ".join(error.message for error in result.errors))
    return result.results[0]


@cache
def _loop() -> asyncio.Runner:
    """One for all documents: making another takes as long as a small document."""
    return asyncio.Runner()


@cache
def _config() -> ExtractionConfig:
    import xberg  # noqa: PLC0415  in the worker only

    return xberg.ExtractionConfig(
        output_format="markdown",
        pages=xberg.PageConfig(extract_pages=True),
        images=xberg.ImageExtractionConfig(extract_images=False, inject_placeholders=False),
        disable_ocr=True,
        use_cache=False,
        enable_quality_processing=False,
        concurrency=xberg.ConcurrencyConfig(max_threads=1),
        security_limits=xberg.SecurityLimits(max_table_cells=_TABLE_CELLS),
    )

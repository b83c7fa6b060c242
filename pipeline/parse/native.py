"""What xberg makes of a document. For a worker process."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xberg import ExtractedDocument, ExtractionConfig, ExtractionResult
    from xberg._xberg import ExtractionConfig as CompiledSettings

# xberg's default is 100,000: a sheet of 10,000 rows. The limits of the worker hold anyway.
_TABLE_CELLS = 20_000_000


def extracted(content: bytes, media_type: str) -> ExtractedDocument:
    """The document as Markdown, by pages where it has any."""
    result = loop().run_until_complete(_extracted(content, media_type))
    if result.errors:
        raise ValueError("; ".join(error.message for error in result.errors))
    return result.results[0]


async def _extracted(content: bytes, media_type: str) -> ExtractionResult:
    from xberg import _xberg  # noqa: PLC0415  in the worker only

    kind = _xberg.ExtractInputKind("bytes")
    document = _xberg.ExtractInput(kind=kind, bytes=content, mime_type=media_type)
    return await _xberg.extract(input=document, config=_compiled_settings())


@cache
def _compiled_settings() -> CompiledSettings:
    """As `xberg.extract` makes them anew for each document, in a twentieth of what a small one takes."""
    from xberg import api  # noqa: PLC0415  in the worker only

    return api._to_rust_extraction_config(settings())  # noqa: SLF001  xberg is held below 1.4


@cache
def loop() -> asyncio.AbstractEventLoop:
    """One for all documents: making another takes as long as a small document."""
    return asyncio.new_event_loop()


@cache
def settings() -> ExtractionConfig:
    """How we have documents read."""
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

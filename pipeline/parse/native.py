"""What xberg makes of a document. For a worker process."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xberg import ExtractedDocument, ExtractionConfig, ExtractionResult
    from xberg._xberg import ExtractionConfig as CompiledSettings

# xberg's default is 100,000: a sheet of 10,000 rows. The limits of the worker hold anyway.
_TABLE_CELLS = 20_000_000

_KNOWN_VERSION = "1.3.9"


def extracted(content: bytes, media_type: str) -> ExtractedDocument:
    """The document as Markdown, by pages where it has any."""
    result = loop().run_until_complete(_extracted(content, media_type))
    if result.errors:
        raise ValueError("; ".join(error.message for error in result.errors))
    return result.results[0]


async def _extracted(content: bytes, media_type: str) -> ExtractionResult:
    import xberg  # noqa: PLC0415  in the worker only

    if not short_cut():
        asked = xberg.ExtractInput(kind="bytes", bytes=content, mime_type=media_type)
        return await xberg.extract(asked, settings())
    from xberg import _xberg  # noqa: PLC0415

    kind = _xberg.ExtractInputKind("bytes")
    document = _xberg.ExtractInput(kind=kind, bytes=content, mime_type=media_type)
    return await _xberg.extract(input=document, config=_compiled_settings())


@cache
def short_cut() -> bool:
    """Whether this is the xberg whose private names we know: by them, a small document takes a tenth less."""
    return version("xberg") == _KNOWN_VERSION


@cache
def _compiled_settings() -> CompiledSettings:
    """As `xberg.extract` makes them anew for each document."""
    from xberg import api  # noqa: PLC0415  in the worker only

    return api._to_rust_extraction_config(settings())  # noqa: SLF001  see `short_cut`


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

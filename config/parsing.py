"""What the YAML may say of parsing."""

from __future__ import annotations

from typing import Annotated

from pydantic import ByteSize, Field

from connectors.settings import LocalPath, StrictModel

_LEAST_MEMORY = 512 * 2**20


class ParsingSettings(StrictModel):
    """What one document may cost, and whether scanned pages are read."""

    seconds: float = Field(
        default=60,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="The longest that a document may take; then its process is ended, and it is reported.",
    )
    memory: ByteSize = Field(
        default=ByteSize(4 * 2**30),
        ge=_LEAST_MEMORY,
        description="Address space of each process, where the system has such a limit: bytes, or as 4GiB.",
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(256 * 2**20),
        gt=0,
        description="Documents larger than this are reported and left out; a ZIP archive or an e-mail also "
        "where what it holds is more than this together.",
    )
    max_characters: int = Field(
        default=20_000_000, gt=0, description="The most text that may come of one document."
    )
    max_contained: int = Field(
        default=10_000, gt=0, description="The most documents that a ZIP archive or an e-mail may hold."
    )
    processes: int | None = Field(
        default=None, ge=1, le=256, description="Worker processes. Left out: one a core."
    )
    ocr: list[Annotated[str, Field(pattern=r"^[A-Za-z_]{2,40}$")]] = Field(
        default=[],
        max_length=10,
        description="The languages that scanned pages may be in, as Tesseract has them: [eng, deu]. Their "
        "data must be installed (Debian: apt install tesseract-ocr-eng). Left out: such pages are reported.",
    )
    tessdata: LocalPath | None = Field(
        default=None, description="The folder with Tesseract's data, where it is not found by itself."
    )

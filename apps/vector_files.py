"""Vectors in files: `.npy`, `.jsonl` and `.parquet`."""

# ruff: noqa: PLC0415 - only one of the formats is needed

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np

from apps.vectors import Vectored
from pipeline.errors import SettingsError


def check(path: Path, *, force: bool) -> None:
    """Refuse a file that could not be written, before anything is paid.

    Raises:
        SettingsError: its suffix is unknown, its folder is not there, or it is and may not be overwritten.
    """
    if path.suffix.lower() not in _FORMATS:
        raise SettingsError(f"--out {path}: the suffix says what is written; valid: {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise SettingsError(f"--out {path}: {path.parent} is no folder")
    if path.is_dir():
        raise SettingsError(f"--out {path} is a folder: name a file in it")
    if path.exists() and not force:
        raise SettingsError(f"--out {path} is there already; --force overwrites it")


def save(vectored: Vectored, path: Path) -> None:
    """Write the vectors, whole or not at all.

    Raises:
        SettingsError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            _FORMATS[path.suffix.lower()](vectored, file)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SettingsError(f"--out {path} cannot be written: {error.strerror}") from error


def _npy(vectored: Vectored, file: BinaryIO) -> None:
    """The array alone: shape (chunks, width), of the space's dtype."""
    np.save(file, vectored.vectors, allow_pickle=False)


def _jsonl(vectored: Vectored, file: BinaryIO) -> None:
    """A line a chunk."""
    file.writelines(json.dumps(record).encode() + b"\n" for record in vectored.records())


def _parquet(vectored: Vectored, file: BinaryIO) -> None:
    """A row a chunk; the space is in the schema's metadata, as JSON under `docweave.space`."""
    import pyarrow as pa
    from pyarrow import parquet

    array = vectored.vectors
    numbers = pa.array(np.ascontiguousarray(array).reshape(-1))
    records = [{k: v for k, v in record.items() if k != "vector"} for record in vectored.records()]
    columns = [
        ("ordinal", pa.int32()), ("start", pa.int64()), ("end", pa.int64()), ("tokens", pa.int32()),
        ("page", pa.int32()), ("heading_path", pa.list_(pa.string())), ("text", pa.string()),
        ("line", pa.int32()), ("last_line", pa.int32()),
    ]  # fmt: skip
    table = pa.Table.from_pylist(records, schema=pa.schema(columns))
    table = table.append_column("vector", pa.FixedSizeListArray.from_arrays(numbers, array.shape[1]))
    space = json.dumps(asdict(vectored.space)).encode()
    parquet.write_table(table.replace_schema_metadata({b"docweave.space": space}), file)


_FORMATS: Mapping[str, Callable[[Vectored, BinaryIO], None]] = {
    ".npy": _npy,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}

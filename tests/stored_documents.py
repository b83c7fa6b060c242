"""Documents as they come to a store, made of texts alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from pipeline.records import Chunk, DocumentState, Embedded, EmbedGroup, Metadata, Prepared
from tests.fakes import OracleEmbedder


def embedded(
    source: str,
    key: str,
    texts: Sequence[str],
    *,
    metadata: Metadata | None = None,
    title: str | None = None,
    headings: Sequence[tuple[str, ...]] = (),
    pages: Sequence[int | None] = (),
) -> Embedded:
    """One group; texts stand with a blank line between them."""
    chunks, start = [], 0
    for number, text in enumerate(texts):
        chunks.append(
            Chunk(
                ordinal=number,
                start=start,
                end=start + len(text),
                text=text,
                tokens=len(text.split()),
                heading_path=headings[number] if headings else (),
                page=pages[number] if pages else None,
            )
        )
        start += len(text) + 2
    name = title if title is not None else f"Title of {key}"
    group = EmbedGroup(title=name, chunks=tuple(chunks))
    mark = hashlib.sha256(repr((source, key, texts)).encode()).hexdigest()
    state = DocumentState(
        source=source,
        key=key,
        version="1",
        recipe="r",
        content_key=mark,
        group_keys=(mark,),
        row_key=mark,
    )
    prepared = Prepared(
        state=state,
        title=name,
        url=None,
        media_type="text/plain",
        metadata=metadata or {},
        groups=(group,),
    )
    vectors: np.ndarray = OracleEmbedder().vectors(group)  # type: ignore[type-arg]
    return Embedded(prepared=prepared, vectors=(vectors,))

"""Vectors of what the command line is given: an ingest of one document into a store that is not kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from apps.console import LISTED
from apps.plain import one_line, table
from config.build import build_embedder, build_pipeline
from config.settings import Settings
from connectors.media_types import media_type
from flows.budgets import Budgets
from flows.summary import left, money, number
from pipeline import tokens
from pipeline.chunk import Chunker
from pipeline.errors import DocweaveError, SettingsError
from pipeline.ingest import ingest_source
from pipeline.prepare import Pipeline
from pipeline.records import (
    Chunk,
    Contained,
    Document,
    Embedded,
    EmbeddingSpace,
    ItemRef,
    JsonValue,
    RawDocument,
    Section,
    Vector,
)
from pipeline.report import SourceReport
from pipeline.stores.memory import MemoryStore

_BETWEEN = "\n\n"
_SHOWN = 8
"""Numbers of a vector that a person is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectored:
    """Chunks with their vectors, and what these cost."""

    space: EmbeddingSpace
    title: str
    rows: Sequence[tuple[Chunk, Vector]]
    groups: int
    """How many embed groups the chunks were sent in."""
    tokens: int
    cost_usd: float
    questions: bool = False
    """Then the tokens are our own count, and the cost is by the list."""

    @property
    def vectors(self) -> np.ndarray[tuple[int, ...], np.dtype[np.number]]:
        """Shape (chunks, `space.width`), of `space.dtype`."""
        return np.stack([vector for _, vector in self.rows])

    def records(self) -> Iterator[dict[str, JsonValue]]:
        """Each chunk with its vector, for a program to read."""
        for chunk, vector in self.rows:
            known = asdict(chunk)
            del known["anchor"]  # of a link that a text by itself has not
            yield {**known, "heading_path": [*chunk.heading_path], "vector": vector.tolist()}

    def as_json(self, *, whole: bool) -> dict[str, JsonValue]:
        """All of it; without the vectors if they are not wanted."""
        chunks: list[JsonValue] = []
        for record in self.records():
            if not whole:
                del record["vector"]
            chunks.append(record)
        return {
            "space": asdict(self.space),
            "title": self.title,
            "groups": self.groups,
            "tokens": self.tokens,
            "cost_usd": self.cost_usd,
            "estimated": self.questions,
            "chunks": chunks,
        }


async def of_file(settings: Settings, path: Path) -> Vectored:
    """A document's vectors: parsed, chunked, grouped and embedded as an ingest does it.

    Raises:
        SettingsError: the file cannot be read.
        DocweaveError: as `ingest_source`; or the document cannot be parsed or embedded.
    """
    raw = _read(path)
    async with build_pipeline(settings, store=_Keeping) as pipeline:
        return await _ingested(settings, pipeline, raw)


async def of_texts(settings: Settings, texts: Sequence[str]) -> Vectored:
    """The vectors of texts that are the chunks of one document.

    Raises:
        SettingsError: a text is blank, or too long to be one chunk.
        DocweaveError: as `ingest_source`; or the service will not embed it.
    """
    async with build_pipeline(settings, store=_Keeping) as pipeline:
        most = settings.embedding.most_chunk_tokens
        for text in texts:
            _check(text, most)
        starts = [0]
        for text in texts:
            starts.append(starts[-1] + len(text) + len(_BETWEEN))
        raw = RawDocument(ref=_ref("text"), content=b"", media_type="text/plain")
        document = Document(
            ref=raw.ref,
            text=_BETWEEN.join(texts),
            title="",
            media_type=raw.media_type,
            syntax="plain",
            sections=tuple(
                Section(start=start, end=min(end, starts[-1] - len(_BETWEEN)), heading_path=())
                for start, end in pairwise(starts)
            ),
        )
        chunker = Chunker(max_tokens=most, merge_below=0)  # keeps each section as it is
        as_given = replace(pipeline, parser=_AsGiven(document), chunker=chunker)
        return await _ingested(settings, as_given, raw)


async def of_questions(settings: Settings, texts: Sequence[str]) -> Vectored:
    """The vectors by which these questions would be searched for.

    Raises:
        SettingsError: a question is blank.
        EmbedError: as `Embedder.embed_query`.
    """
    embedder = build_embedder(settings)
    try:
        rows = []
        for place, text in enumerate(texts):
            counted = _check(text, embedder.limits.group_tokens)
            chunk = Chunk(ordinal=place, start=0, end=len(text), text=text, tokens=counted)
            rows.append((chunk, await embedder.embed_query(text)))
        counted = sum(chunk.tokens for chunk, _ in rows)
        return Vectored(
            space=embedder.space,
            title="",
            rows=rows,
            groups=len(rows),
            tokens=counted,
            cost_usd=counted * embedder.usd_per_million_tokens / 1_000_000,
            questions=True,
        )
    finally:
        await embedder.aclose()


def lines(vectored: Vectored, *, saved: Path | None) -> list[str]:
    """What a person wants to know of it: a line a chunk, and what it cost."""
    parts = [vectored.title] if vectored.title else []
    chunks = f"{number(len(vectored.rows), 'chunk')} in {number(vectored.groups, 'group')}"
    parts += [number(len(vectored.rows), "question") if vectored.questions else chunks]
    out = ["   ".join([*parts, str(vectored.space)]), ""]
    binary = vectored.space.encoding == "binary"
    rows = [["", "characters", "tokens", "bits set" if binary else "norm", "first numbers", ""]]
    for chunk, vector in vectored.rows[:LISTED]:
        place = f"{chunk.start:,}-{chunk.end:,}"
        about = " › ".join(map(one_line, chunk.heading_path)) or _beginning(chunk.text)
        rows.append([str(chunk.ordinal), place, f"{chunk.tokens:,}", *_said(vector, binary=binary), about])
    out += table(rows, right=frozenset({0, 1, 2, 3}))
    if more := len(vectored.rows) - LISTED:
        out += [f"    … and {more:,} more (--json or --out has all)"] if more > 0 else []
    if saved:
        array = "x".join(map(str, vectored.vectors.shape))
        out += ["", f"Saved {array} {vectored.space.dtype} to {saved}."]
    about = "about " if vectored.questions else ""
    return [*out, "", f"Paid: {about}{number(vectored.tokens, 'token')}, {money(vectored.cost_usd)}."]


def _said(vector: Vector, *, binary: bool) -> tuple[str, str]:
    """The vector's size, and its first numbers."""
    if binary:
        bits = np.unpackbits(vector.astype(np.uint8), bitorder="little")
        return f"{bits.sum():,} of {len(bits):,}", "".join(map(str, bits[: 2 * _SHOWN])) + " …"
    norm = float(np.linalg.norm(vector.astype(np.float32)))
    whole = np.issubdtype(vector.dtype, np.integer)
    first = [f"{value:d}" if whole else f"{value:.4f}" for value in vector[:_SHOWN].tolist()]
    return f"{norm:,.1f}" if whole else f"{norm:.3f}", " ".join(first) + " …"


def _beginning(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= 40 else line[:39] + "…"


def _check(text: str, most: int) -> int:
    """How many tokens the text has. Refuses one that no chunk can be."""
    if not text.strip():
        raise SettingsError("a text is blank: there is nothing to embed in it")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise SettingsError("a text is not UTF-8")
    if (counted := tokens.count(text)) > most:
        raise SettingsError(
            f"a text of {counted:,} tokens is too long for one chunk (at most {most:,} here): "
            "put it in a file, and use --file"
        )
    return counted


async def _ingested(settings: Settings, pipeline: Pipeline, raw: RawDocument) -> Vectored:
    """Embed one document by the ingest's own stages, within the settings' budget for a run."""
    store = pipeline.store
    assert isinstance(store, _Keeping)  # noqa: S101 - for the type checker
    budget = Budgets.of(settings).run
    report = await ingest_source(_One(raw), pipeline, budgets=[budget])
    _refuse(report)
    [document] = store.kept
    rows = [
        (chunk, vector)
        for group, vectors in zip(document.prepared.groups, document.vectors, strict=True)
        for chunk, vector in zip(group.chunks, vectors, strict=True)
    ]
    if not rows:
        raise SettingsError(f"{raw.ref.key} holds no text: there is nothing to embed in it")
    return Vectored(
        space=pipeline.embedder.space,
        title=document.prepared.title,
        rows=rows,
        groups=len(document.prepared.groups),
        tokens=report.tokens,
        cost_usd=report.cost_usd,
    )


def _refuse(report: SourceReport) -> None:
    """Raise what a report tells of a document that was not embedded."""
    for failure in report.failures:
        paid = f"; {money(report.cost_usd)} was paid before" if report.cost_usd else ""
        raise DocweaveError(f"{failure.reason}{paid}")
    if report.left:
        raise DocweaveError(left(report))


def _read(path: Path) -> RawDocument:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"--file {path} cannot be read: {error.strerror}") from error
    return RawDocument(ref=_ref(path.name), content=content, media_type=media_type(path.name))


def _ref(key: str) -> ItemRef:
    return ItemRef(source="embed", key=key, version="")


class _Keeping(MemoryStore):
    """A store of this process that shows what is stored in it."""

    def __init__(self, space: EmbeddingSpace) -> None:
        super().__init__(space)
        self.kept: list[Embedded] = []

    async def replace(self, documents: Sequence[Embedded]) -> None:
        """Store them, and show them."""
        await super().replace(documents)
        self.kept += documents


@dataclass(frozen=True, slots=True)
class _One:
    """A source of one document that has been read already."""

    raw: RawDocument
    source: str = field(default="embed", init=False)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """The one item."""
        yield self.raw.ref

    async def load(self, _ref: ItemRef) -> RawDocument:
        """Its content."""
        return self.raw


@dataclass(frozen=True, slots=True)
class _AsGiven:
    """Parses nothing: what is embedded is there already."""

    document: Document
    recipe: str = field(default="as given", init=False)

    async def parse(self, _raw: RawDocument) -> Document:
        """The document."""
        return self.document

    async def children(self, _raw: RawDocument) -> Contained:
        """None."""
        return Contained(documents=())

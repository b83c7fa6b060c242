"""Documents as they are stored, for a person and for a program."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise

from apps.plain import one_line, printable, table
from config.build import open_reader
from config.problems import nearest
from config.settings import Settings
from flows.summary import number
from pipeline.digest import copy_of
from pipeline.errors import SettingsError
from pipeline.protocols import Reader
from pipeline.records import JsonValue
from pipeline.stored import Moment, Stored, StoredMarks

SHORT = 160
"""Characters of a chunk's text that are shown, unless all are asked for."""
NEAREST = 3
"""Keys that are named in place of one that is unknown."""
INDENT = "    "


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A stored document, and what became of it."""

    stored: Stored
    history: Sequence[Moment]
    """Oldest first."""

    @property
    def where(self) -> str:
        """Source and key, in one line."""
        return one_line(f"{self.stored.source}/{self.stored.key}")

    def as_json(self) -> dict[str, JsonValue]:
        """All of it, for a program to read, but for the vectors."""
        stored = self.stored
        rows = [_marks(marks) for marks in stored.marks]
        chunks: list[JsonValue] = []
        for row in stored.chunks:
            chunk = asdict(row.chunk)
            chunk["heading_path"] = [*row.chunk.heading_path]
            chunks.append({**chunk, "group_key": row.group_key, "group_ordinal": row.group_ordinal})
        history = zip([None, *self.history], self.history, strict=False)
        return {
            "source": stored.source,
            "key": stored.key,
            "rows": [*rows],
            "groups": [
                {
                    "group_key": stored.chunks[run.start].group_key,
                    "chunks": run.stop - run.start,
                    "first": stored.chunks[run.start].chunk.ordinal,
                }
                for run in stored.groups
            ],
            "chunks": chunks,
            "history": [
                {
                    "at": moment.at.isoformat(),
                    "version": moment.version,
                    "what": _what(before, moment),
                    "marks": _marks(moment.marks) if moment.marks else None,
                }
                for before, moment in history
            ],
        }


async def documents(settings: Settings, key: str, source: str | None) -> list[Shown]:
    """The document of this key, in each source that has one.

    Args:
        settings: Where the tables are.
        key: A document's key; or, where nothing has it, source and key with a slash between them, as a hit
            and other commands print them.
        source: Look there alone.

    Raises:
        SettingsError: there is none, or no such source.
        StoreError: the tables cannot be read.
    """
    reader = await (await open_reader(settings)).snapshot()
    sources = await reader.sources()
    if source is not None and source not in sources:
        known = ", ".join(sources) or "none: nothing is stored yet"
        raise SettingsError(f"nothing is stored of {source!r}; stored: {known}{nearest(source, sources)}")
    looked_in = sources if source is None else [source]
    found = [one for name in looked_in for one in await _stored(reader, name, key)]
    named, _, rest = key.partition("/")
    if not found and named in looked_in:
        found = await _stored(reader, named, rest)
    if not found:
        raise SettingsError(await _unknown(reader, key, looked_in))
    return found


async def _stored(reader: Reader, source: str, key: str) -> list[Shown]:
    history = await reader.history(source, key)
    return [Shown(stored=stored, history=history) async for stored in reader.stored(source, [key])]


async def _unknown(reader: Reader, key: str, sources: Sequence[str]) -> str:
    """What is said of a key that nothing is stored under: the nearest ones of all sources."""
    near: list[tuple[float, int, str]] = []
    for source in sources:
        known = await reader.keys(source)
        near += [(-alike, len(other), f"{source}/{other}") for other, alike in _nearest(key, known).items()]
    looked_in = ", ".join(sources) or "the tables: nothing is stored yet"
    said = f"no document {one_line(key)!r} in {looked_in}"
    if not near:
        return said
    return "\n".join([f"{said}. Nearest:", *(one_line(name) for _, _, name in sorted(near)[:NEAREST])])


def _nearest(key: str, keys: Iterable[str]) -> dict[str, float]:
    """The keys that are written nearly so, as a whole or in what follows the last slash; and how nearly."""
    ends: dict[str, list[str]] = {}
    for other in sorted(keys, key=lambda one: (len(one), one)):
        ends.setdefault(_end(other), []).append(other)
    near = {
        other: difflib.SequenceMatcher(None, key, other).ratio()
        for other in difflib.get_close_matches(key, [one for some in ends.values() for one in some], NEAREST)
    }
    for end in difflib.get_close_matches(_end(key), ends, NEAREST):
        alike = difflib.SequenceMatcher(None, _end(key), end).ratio()
        near |= {other: max(alike, near.get(other, 0)) for other in ends[end][:NEAREST]}
    return near


def _end(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def lines(found: Sequence[Shown], *, full: bool) -> list[str]:
    """The document; where several sources have one, a line for each."""
    if len(found) == 1:
        return list(_document(found[0], full=full))
    rows = [[one.where, number(len(one.stored.chunks), "chunk"), _written(one.stored)] for one in found]
    return [*table(rows), "", "In several sources: name one with --source."]


def _document(one: Shown, *, full: bool) -> Iterator[str]:
    stored = one.stored
    yield one.where
    if not stored.marks:
        yield "! the documents table does not know it: `docweave audit`"
    for marks in stored.marks:
        yield from table(list(_about(marks)))
    tokens = sum(row.chunk.tokens for row in stored.chunks)
    chunks, groups = number(len(stored.chunks), "chunk"), number(len(stored.groups), "group")
    yield ""
    yield f"{chunks} in {groups}, {number(tokens, 'token')}"
    if stored.chunks:
        yield from _chunks(stored, full=full)
        yield from _groups(stored)
    yield ""
    yield from _history(one.history)


def _chunks(stored: Stored, *, full: bool) -> Iterator[str]:
    rows = [["", "characters", "lines", "tokens", "group", "page", "headings"]]
    for row in stored.chunks:
        chunk = row.chunk
        page = "" if chunk.page is None else str(chunk.page)
        path = one_line(" › ".join(chunk.heading_path))
        span = f"{chunk.start:,}-{chunk.end:,}"
        lines = "" if chunk.line is None else f"{chunk.line}-{chunk.last_line}"
        group = str(row.group_ordinal)
        rows.append([str(chunk.ordinal), span, lines, f"{chunk.tokens:,}", group, page, path])
    head, *each = table(rows, right=frozenset({0, 1, 2, 3, 4, 5}))
    yield head
    for line, row in zip(each, stored.chunks, strict=True):
        yield line
        yield from _text(row.chunk.text, full=full)


def _about(marks: StoredMarks) -> Iterator[list[str]]:
    state, about = marks.state, marks.about
    yield ["title", one_line(about.title)]
    if about.url:
        yield ["address", one_line(about.url)]
    yield ["type", one_line(about.media_type)]
    if about.metadata:
        yield ["metadata", printable(json.dumps(dict(about.metadata), ensure_ascii=False))]
    yield ["access", one_line(", ".join(about.access)) or "everybody: it has no labels"]
    if of := copy_of(state.row_key):
        yield ["copy of", f"{one_line('/'.join(of))}, which has the passages of the same text"]
    yield ["written", _moment(marks.updated_at) if marks.updated_at else ""]
    yield ["version", one_line(state.version)]
    yield ["recipe", state.recipe or "none: a repair took its marks, and the next ingest reads it anew"]
    yield ["content", state.content_key]
    yield ["row", state.row_key.partition(" ")[0]]
    yield ["chunks", f"{marks.chunk_count:,}, {number(marks.tokens, 'token')} sent for them"]


def _text(text: str, *, full: bool) -> Iterator[str]:
    if full:
        yield from (f"{INDENT}{printable(line)}" for line in text.splitlines())
        return
    short = one_line(text)
    yield INDENT + (short if len(short) <= SHORT else f"{short[:SHORT]} …")


def _groups(stored: Stored) -> Iterator[str]:
    yield ""
    rows = [["group", "chunks", "digest"]]
    for run in stored.groups:
        first, last = stored.chunks[run.start], stored.chunks[run.stop - 1]
        places = f"{first.chunk.ordinal}-{last.chunk.ordinal}"
        rows.append([str(first.group_ordinal), places, first.group_key])
    yield from table(rows, right=frozenset({0, 1}))


def _history(history: Sequence[Moment]) -> Iterator[str]:
    yield "history"
    if not history:
        yield f"{INDENT}none is kept"
    for before, moment in pairwise([None, *history]):
        if moment:
            yield f"{INDENT}{_moment(moment.at)}   {_what(before, moment)}"


def _what(before: Moment | None, now: Moment) -> str:
    """What happened to the document."""
    if now.marks is None:
        return "removed"
    of = copy_of(now.marks.state.row_key)
    counted = f"a copy of {one_line('/'.join(of))}" if of else number(now.marks.chunk_count, "chunk")
    if before is None or before.marks is None:
        return f"added: {counted}" if now.is_change else "stored before the tables' oldest kept version"
    then, state = before.marks.state, now.marks.state
    if not state.recipe:
        return "marks dropped by a repair"
    if then.group_keys != state.group_keys:
        return f"embedded anew: {counted}"
    if then.row_key != state.row_key or before.marks.updated_at != now.marks.updated_at:
        return counted if of else "rewritten, with the same vectors"
    return "looked at, and found as it was"


def _written(stored: Stored) -> str:
    moments = [marks.updated_at for marks in stored.marks if marks.updated_at]
    return f"written {_moment(max(moments))}" if moments else ""


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _marks(marks: StoredMarks) -> dict[str, JsonValue]:
    state, about = marks.state, marks.about
    return {
        "title": about.title,
        "url": about.url,
        "media_type": about.media_type,
        "metadata": dict(about.metadata),
        "access": [*about.access],
        "copy_of": dict(zip(("source", "key"), of, strict=True)) if (of := copy_of(state.row_key)) else None,
        "written": marks.updated_at.isoformat() if marks.updated_at else None,
        "version": state.version,
        "recipe": state.recipe,
        "content_key": state.content_key,
        "row_key": state.row_key,
        "group_keys": [*state.group_keys],
        "chunk_count": marks.chunk_count,
        "tokens": marks.tokens,
    }

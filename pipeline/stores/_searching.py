"""Searching a table of chunks: by vector and by words; and reading the rows that were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import pyarrow as pa

from pipeline.records import EmbeddingSpace, Filter, Hit, Ranking, Span, Vector
from pipeline.stores import _clauses, _core, _rows
from pipeline.stores._column_fields import has_access, known, pinned_columns
from pipeline.stores._indexes import looks_everywhere
from pipeline.stores._place import Place
from pipeline.stores._schema import TEXT_COLUMNS, pinned_space, stored_type
from pipeline.stores._shape import check_question

ROW = "_rowid"
"""Lance's name for a row's number."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best rows of a search, best first."""

    rows: pa.Table
    """Their columns, or just their numbers."""
    scores: Sequence[float]

    @property
    def hits(self) -> list[Hit]:
        """Of whole rows."""
        return _rows.hits(self.rows, self.scores)

    @property
    def ranking(self) -> Ranking:
        """Of rows by their numbers."""
        return dict(zip(self.rows[ROW].to_pylist(), self.scores, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """A table of chunks, as it is searched."""

    place: Place
    table: _core.CoreTable
    schema: pa.Schema

    async def nearest(self, vector: Vector, *, limit: int, where: Filter, whole: bool) -> Ranked:
        """The chunks whose vectors are nearest: whole rows, or just their numbers."""
        space = self._space
        check_question(vector, space)
        by_bits = space.encoding == "binary"
        with self.place.during("search by vector"):
            numbers = pa.array(vector.astype(stored_type(space).to_pandas_dtype()))
            query = self.table.query().nearest_to(numbers)
            query.distance_type("hamming" if by_bits else "cosine")
            looks_everywhere(query, limit)
            rows = await self._best(query, limit, where, rank="_distance", whole=whole)
        # A cosine distance is 0 … 2; rounding may leave it a few parts in ten million below zero.
        scale = 2 / space.dimensions if by_bits else 1
        return Ranked(rows, [min(1.0, 1.0 - scale * distance) for distance in rows["_distance"].to_pylist()])

    async def matching(self, text: str, *, limit: int, where: Filter, whole: bool) -> Ranked:
        """The chunks that hold words of `text`, of which there must be some: as `nearest`."""
        words = text.encode("utf-8", "replace").decode()
        asked = _core.MultiMatchQuery(query=words, columns=[*TEXT_COLUMNS])
        with self.place.during("search by words"):
            query = self.table.query().nearest_to_text({"query": asked})
            rows = await self._best(query, limit, where, rank="_score", whole=whole)
        return Ranked(rows, rows["_score"].to_pylist())

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """The chunks of these rows, in this order, with their vectors."""
        with self.place.during("read what was found"):
            query = self.table.take_row_ids([*rows])
            columns = [*self._columns_of_hits, _rows.VECTOR]
            query.select([(name, f"`{name}`") for name in columns])
            query.with_row_id()
            taken = await _core.collected(query, len(rows))
        found = dict(zip(taken[ROW].to_pylist(), _rows.hits(taken, repeat(0.0, len(taken))), strict=True))
        return [found[number] for number in rows]

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """The chunks of these spans: by document, in order."""
        with self.place.during("read passages"):
            query = self.table.query()
            within, seen = _clauses.within(spans), self._seen(where)
            query.where(f"{within} AND {seen}" if seen else within)
            query.select_columns(self._columns_of_hits)
            rows = await _core.collected(query)
        order = [(name, "ascending") for name in ("source", "key", "ordinal")]
        return _rows.hits(rows.sort_by(order), [0.0] * len(rows))

    async def _best(
        self, query: _core.CoreQuery, limit: int, where: Filter, *, rank: str, whole: bool
    ) -> pa.Table:
        """The best rows, with the column that they are ranked by: Lance warns where that is left out."""
        if seen := self._seen(where):
            query.where(seen)
        query.limit(limit)
        if whole:
            query.select_columns([*self._columns_of_hits, _rows.VECTOR, rank])
        else:
            query.select_columns([rank])
            query.with_row_id()
        return await _core.collected(query, limit)

    def _seen(self, where: Filter) -> str | None:
        """The rows that a search with this filter may see; None for all."""
        if where.access is not None and not has_access(self.schema):
            where = replace(where, access=None)  # nothing here has labels
        return _clauses.predicate(where, pinned_columns(self.schema))

    @property
    def _space(self) -> EmbeddingSpace:
        return pinned_space(self.schema, f"{self.place}/{self.table.name()}")

    @property
    def _columns_of_hits(self) -> list[str]:
        return known(_rows.HIT_COLUMNS, self.schema)

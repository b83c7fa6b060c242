"""Which pair of tables is searched, and which is built beside it: see docs/adr/0008.

A row of the table `live` says so. It is changed only by updates that name what was read before (`beat`), so
that a switch is one commit, and one of two who switch at once is turned away. A database that was never
rebuilt has no such table: its first generation is the live one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from pipeline.errors import StoreRefused, StoreUnavailable
from pipeline.stores import _core
from pipeline.stores._place import Place
from pipeline.stores._schema import LIVE, Names, check_form, live_schema

LOOK_AGAIN = 1.0
"""Seconds until an object store is asked again for the table, where it was not there."""
_NAME = re.compile(r"(?:chunks|documents)(?:_(\d+|next))?")
_NEXT = "next"
"""What a rebuild wrote before there were generations: nobody goes on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The generations of a database."""

    beat: int = 0
    """Grows with every change."""
    last: int = 0
    """The highest number that was ever given: none is given twice."""
    live: int = 0
    previous: int | None = None
    """What was live before, and is kept to go back to."""
    staged: int | None = None
    """What a rebuild writes."""
    switched_at: datetime | None = None

    @property
    def kept(self) -> set[int]:
        """The generations that have their tables for a reason."""
        return {number for number in (self.live, self.previous, self.staged) if number is not None}

    def left_over(self, tables: Iterable[str]) -> list[str]:
        """Of these tables, those of generations that are none any more."""
        numbered = [(name, found[1] or "0") for name in tables if (found := _NAME.fullmatch(name))]
        return [name for name, number in numbered if number == _NEXT or self._is_over(int(number))]

    def _is_over(self, number: int) -> bool:
        return number <= self.last and number not in self.kept


class Generations:
    """The generations of one database, read anew at every call. Without the lancedb package."""

    def __init__(self, place: Place, connection: _core.CoreConnection) -> None:
        self._place = place
        self._connection = connection
        self._remote = "://" in place.uri
        self._table: _core.CoreTable | None = None
        self._looked_at = float("-inf")

    async def read(self) -> Standing:
        """How things stand.

        Raises:
            StoreUnavailable: the storage does not answer.
            StoreRefused: it turns us away, or the table is not ours.
        """
        if self._remote and self._table is None and time.monotonic() - self._looked_at < LOOK_AGAIN:
            return Standing()
        table = await self._opened()
        if table is None:
            self._looked_at = time.monotonic()
            return Standing()
        with self._place.during(f"read {LIVE}"):
            stream = await table.query().execute()
            found = [row async for batch in stream for row in batch.to_pylist()]
        if len(found) != 1:
            raise StoreRefused(f"{self._place}/{LIVE} has {len(found)} rows, and must have one")
        return Standing(**found[0])

    async def names(self) -> Names:
        """The live tables.

        Raises:
            StoreError: as `read`.
        """
        return Names((await self.read()).live)

    async def stage(self, number: int) -> None:
        """Make this the generation that a rebuild writes.

        Raises:
            StoreError: as `switch`.
        """
        await self._make()
        standing = await self._fresh()
        if standing.staged == number:
            return
        await self._change(standing, staged=str(number), last=str(max(number, standing.last)))

    async def switch(self, number: int) -> None:
        """Make the staged generation the live one, and what was live the previous one: one commit.

        Raises:
            StoreUnavailable: the storage does not answer, or somebody else switched in between.
            StoreRefused: that generation is staged no more.
        """
        standing = await self._fresh()
        if standing.live == number:
            return
        if standing.staged != number:
            raise StoreRefused(f"{self._place}: another rebuild has taken this one's place")
        now = _sql(datetime.now(UTC))
        await self._change(
            standing, live=str(number), previous=str(standing.live), staged="NULL", switched_at=now
        )

    async def roll_back(self) -> None:
        """Make the previous generation the live one again, and what was live the previous one: one commit.

        Raises:
            StoreUnavailable: as `switch`.
            StoreRefused: there is no previous one.
        """
        standing = await self._fresh()
        if standing.previous is None:
            raise StoreRefused(f"{self._place} keeps no tables from before a rebuild: nothing to go back to")
        now = _sql(datetime.now(UTC))
        await self._change(
            standing, live=str(standing.previous), previous=str(standing.live), switched_at=now
        )

    async def forget_previous(self) -> None:
        """Keep nothing to go back to; its tables are left over then.

        Raises:
            StoreUnavailable: as `switch`.
        """
        standing = await self._fresh()
        if standing.previous is not None:
            await self._change(standing, previous="NULL")

    async def _fresh(self) -> Standing:
        self._looked_at = float("-inf")
        return await self.read()

    async def _change(self, standing: Standing, **values: str) -> None:
        """Set columns to these SQL values, if all is as it was."""
        table = await self._opened()
        with self._place.during(f"write {LIVE}"):
            if table is not None:
                changed = await table.update({**values, "beat": "beat + 1"}, f"beat = {standing.beat}")
                if changed.rows_updated == 1:
                    return
        raise StoreUnavailable(f"{self._place}: somebody else has changed which tables are live")

    async def _make(self) -> None:
        if await self._opened() is None:
            first = {"beat": 0, "last": 0, "live": 0}
            rows = pa.Table.from_pylist([first], schema=live_schema())
            with self._place.during(f"make the table {LIVE}"):
                await self._connection.create_table(LIVE, "create", rows.to_reader())

    async def _opened(self) -> _core.CoreTable | None:
        if self._table is None:
            with self._place.during(f"open the table {LIVE}"):
                table = await _core.find(self._connection, LIVE) if self._may_be_there() else None
                if table is None:
                    return None
                check_form(await table.schema(), f"{self._place}/{LIVE}")
                self._table = table
        return self._table

    def _may_be_there(self) -> bool:
        """In a folder, a look says it sooner than an attempt to open it: every question asks."""
        return self._remote or Path(self._place.uri, f"{LIVE}.lance").exists()


def _sql(moment: datetime) -> str:
    return f"timestamp '{moment.isoformat()}'"

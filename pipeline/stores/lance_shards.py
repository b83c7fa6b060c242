"""The board of shards as a table beside those that are written: see pipeline/shards.py and docs/adr/0012.

A row a shard, taken by an update that names what was read before, of which one of several succeeds (as for
the leases of tables). What became of it is a row that is added. The table is dropped when all is done.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import pyarrow as pa

from pipeline.errors import StoreError, StoreUnavailable
from pipeline.shards import Board, Taken
from pipeline.stores import _core
from pipeline.stores._core_writing import add
from pipeline.stores._lease import ABANDONED_AFTER, BEATS, Leases
from pipeline.stores._place import Place
from pipeline.stores._predicates import among, literal
from pipeline.stores._process import is_gone, this_process
from pipeline.stores._schema import LEASED

log = logging.getLogger(__name__)

PREFIX = "shards_"
"""Then the token of the lease under which they are worked off."""
MOST_TAKES = 3
"""How often a shard is begun: one whose workers died so often is likely the reason."""
PAUSE_LOOKS = 0.25
"""Seconds between two looks whether all have stopped."""
SHARED, SHARD, TOLD, FAILURE = "shared", "shard", "told", "failure"
_TURN_COLUMNS = ["kind", "number", "beat", "token", "process", "takes", "ended"]
_LEFT = f"(kind = '{SHARD}' AND NOT ended)"
_PAUSED = f"(kind = '{SHARED}' AND ended)"


def shards_schema() -> pa.Schema:
    """One row a shard, and one for each thing that is told."""
    return pa.schema(
        [
            pa.field("kind", pa.string()),
            pa.field("number", pa.int64()),
            pa.field("beat", pa.int64()),
            pa.field("token", pa.string()),
            pa.field("process", pa.string()),
            pa.field("takes", pa.int64()),
            pa.field("ended", pa.bool_()),
            pa.field("body", pa.large_binary()),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    kind: str
    number: int
    beat: int
    token: str | None
    process: str | None
    takes: int
    ended: bool


class LanceBoards:
    """Makes and opens the boards of one database."""

    def __init__(self, place: Place, connection: _core.CoreConnection, lease: str) -> None:
        """`lease` is that under which the shards are worked off."""
        self._place = place
        self._connection = connection
        self._lease = lease

    @asynccontextmanager
    async def made(self, shared: bytes, shards: Sequence[bytes]) -> AsyncIterator[Board]:
        """A board with these shards, until the block ends.

        Raises:
            StoreError: it cannot be written.
        """
        await self._clear()
        name = f"{PREFIX}{self._lease}"
        rows = [_row(SHARED, -1, shared), *(_row(SHARD, n, body) for n, body in enumerate(shards))]
        table = pa.Table.from_pylist(rows, schema=shards_schema())
        with self._place.during(f"make the table {name}"):
            await self._connection.create_table(name, "create", table.to_reader())
        try:
            yield await self.opened()
        finally:
            with anyio.CancelScope(shield=True), suppress(StoreError):
                await self._drop(name)

    async def opened(self) -> LanceBoard:
        """The board of the lease.

        Raises:
            StoreUnavailable: it is there no more.
        """
        name = f"{PREFIX}{self._lease}"
        with self._place.during(f"open the table {name}"):
            table = await _core.find(self._connection, name)
        if table is None:
            raise StoreUnavailable(f"{self._place}: the run that sent this worker has ended")
        return LanceBoard(place=self._place, table=table, name=self._lease)

    async def _clear(self) -> None:
        """Drop the boards of runs that were killed."""
        leases = Leases(self._place, self._connection)
        kept = {f"{PREFIX}{(await leases.read(tables)).token}" for tables in LEASED}
        with self._place.during("list the tables"):
            there = await _core.names(self._connection)
        for name in there:
            if name.startswith(PREFIX) and name not in kept:
                await self._drop(name)

    async def _drop(self, name: str) -> None:
        with self._place.during(f"drop the table {name}"):
            await _core.drop(self._connection, name)


@dataclass(slots=True, kw_only=True)
class LanceBoard:
    """One board, for one worker or for whoever made it."""

    place: Place
    table: _core.CoreTable
    name: str
    _seen: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Beats of others' shards, and when they were first seen so, by this process's clock."""
    _failures: int = 0
    _ended: set[str] = field(default_factory=set)
    """Tokens of shards that this worker has ended: nothing is left to give back."""

    async def shared(self) -> bytes:
        """What was put up for all shards."""
        [body] = await self._bodies(f"kind = '{SHARED}'")
        return body

    async def take(self) -> Taken | None:
        """A shard that nobody has, or whose worker is gone; None if there is none at present."""
        rows = await self._turns(f"{_LEFT} OR {_PAUSED}")
        if any(row.kind == SHARED for row in rows):
            return None
        to_take = [row for row in rows if row.takes < MOST_TAKES and self._is_free(row)]
        if not to_take:
            return None
        first = random.randrange(len(to_take))  # noqa: S311 - so that not all workers want the same one
        for row in to_take[first:] + to_take[:first]:
            token = uuid.uuid4().hex
            values = {
                "token": literal(token),
                "process": literal(this_process()),
                "takes": "takes + 1",
                "beat": "beat + 1",
            }
            if await self._changed(row.number, f"beat = {row.beat}", values):
                [body] = await self._bodies(f"kind = '{SHARD}' AND number = {row.number}")
                return Taken(number=row.number, body=body, token=token)
        return None

    @asynccontextmanager
    async def held(self, taken: Taken) -> AsyncIterator[None]:
        """Show that it is being worked on; give it back at the end, unless it was ended."""
        beating = asyncio.create_task(self._beat(taken))
        try:
            yield
        finally:
            beating.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([beating])
                if taken.token not in self._ended:
                    await self._give_back(taken)

    async def _give_back(self, taken: Taken) -> None:
        free = {"token": "NULL", "process": "NULL", "takes": "takes - 1", "beat": "beat + 1"}
        with suppress(StoreError):  # then it is taken over when it was silent for long enough
            await self._changed(taken.number, f"token = {literal(taken.token)}", free)

    async def end(self, taken: Taken, told: bytes) -> bool:
        """Put up what became of a shard; False where another worker has taken it over."""
        await self._add(_row(TOLD, taken.number, told, token=taken.token))
        ours = f"token = {literal(taken.token)}"
        ended = await self._changed(taken.number, ours, {"ended": "true", "beat": "beat + 1"})
        if ended:
            self._ended.add(taken.token)
        return ended

    async def fail(self, told: bytes) -> None:
        """Put up why a worker gave up."""
        await self._add(_row(FAILURE, -1, told))

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Have no shard taken until the block ends, which begins when nobody works on one."""
        await self._pause("true")
        try:
            while (await self.standing())[1]:  # noqa: ASYNC110 - a table has no events
                await anyio.sleep(PAUSE_LOOKS)
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._pause("false")

    async def _pause(self, paused: str) -> None:
        # One commit that moves the beats, too: who looked before it takes none of these shards after it.
        with self.place.during("write the board of shards"):
            await self.table.update(
                {"ended": f"{paused} AND kind = '{SHARED}'", "beat": "beat + 1"},
                f"kind = '{SHARED}' OR {_LEFT}",
            )

    async def standing(self) -> tuple[int, int]:
        """How many shards are not ended and may still be; and how many of these are being worked on."""
        rows = await self._turns()
        free = [row for row in rows if self._is_free(row)]
        return len(rows) - sum(row.takes >= MOST_TAKES for row in free), len(rows) - len(free)

    async def told(self, known: Sequence[int]) -> Mapping[int, bytes]:
        """What became of the ended shards, by number, but for those known already."""
        where, before = f"kind = '{SHARD}' AND ended", set(known)
        rows = (await self._select(["number", "token"], where)).to_pylist()
        fresh = {row["token"]: row["number"] for row in rows if row["number"] not in before}
        if not fresh:
            return {}
        found = await self._select(["token", "body"], f"kind = '{TOLD}' AND {among('token', fresh)}")
        return {fresh[row["token"]]: row["body"] for row in found.to_pylist()}

    async def failures(self) -> Sequence[bytes]:
        """Why workers gave up since this was asked last."""
        bodies = await self._bodies(f"kind = '{FAILURE}'")
        fresh = bodies[self._failures :]
        self._failures = len(bodies)
        return fresh

    async def _turns(self, where: str = _LEFT) -> list[_Row]:
        """The shards that are not ended."""
        rows = await self._select(_TURN_COLUMNS, where)
        return sorted((_Row(**row) for row in rows.to_pylist()), key=lambda row: row.number)

    def _is_free(self, row: _Row) -> bool:
        """Whether nobody has it, or whoever had it is gone or silent for too long."""
        if row.token is None or (row.process and is_gone(row.process)):
            return True
        beat, since = self._seen.get(row.number, (-1, 0.0))
        now = anyio.current_time()
        if beat != row.beat:
            self._seen[row.number] = row.beat, now
            return False
        return now - since >= ABANDONED_AFTER

    async def _beat(self, taken: Taken) -> None:
        while True:
            await asyncio.sleep(ABANDONED_AFTER / BEATS)
            try:
                if not await self._changed(
                    taken.number, f"token = {literal(taken.token)}", {"beat": "beat + 1"}
                ):
                    return  # taken over: what was done is not told, and both wrote the same
            except StoreError as error:
                log.warning("a shard could not be kept: %s", error)

    async def _changed(self, number: int, if_: str, values: Mapping[str, str]) -> bool:
        """Change a shard that is not ended, if this holds for it; others may be in the way."""
        where = f"kind = '{SHARD}' AND number = {number} AND NOT ended AND {if_}"
        with self.place.during("write the board of shards"):
            return (await self.table.update(dict(values), where)).rows_updated == 1

    async def _add(self, row: Mapping[str, object]) -> None:
        with self.place.during("add to the board of shards"):
            await add(self.table, pa.Table.from_pylist([dict(row)], schema=shards_schema()))

    async def _bodies(self, where: str) -> list[bytes]:
        return [row["body"] for row in (await self._select(["body"], where)).to_pylist()]

    async def _select(self, columns: list[str], where: str) -> pa.Table:
        with self.place.during("read the board of shards"):
            return await _core.selected(self.table, columns, where)


def _row(kind: str, number: int, body: bytes, token: str | None = None) -> dict[str, object]:
    begun = {"beat": 0, "token": token, "takes": 0, "ended": False}
    return {"kind": kind, "number": number, "body": body, **begun}


async def boards(uri: str, options: Mapping[str, str], lease: str) -> LanceBoards:
    """The boards of the database at `uri`.

    Raises:
        StoreError: it cannot be opened.
    """
    place = Place.at(uri, options)
    connection = await place.opened(_core.connect(place.uri, place.options))
    return LanceBoards(place, connection, lease)

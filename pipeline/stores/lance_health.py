"""How a database is: who writes it, what stands unfinished, and what upkeep is due. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.stores import _core
from pipeline.stores._generations import Generations
from pipeline.stores._lease import Leases
from pipeline.stores._place import Place
from pipeline.stores._process import is_gone
from pipeline.stores._schema import LEASED, LEASES
from pipeline.stores.lance_maintain import maintain
from pipeline.upkeep import Policy, Tended


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease that somebody has."""

    tables: str
    """`live` or `staged`."""
    by: str
    """Who, and for what."""
    gone: bool
    """That process has ended without giving it back, as far as this machine can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """All that is looked at."""

    tables: Sequence[Tended]
    """What is due for each; empty where nothing is stored yet."""
    leases: Sequence[Held]
    staged: int | None
    """The generation that a rebuild is building, or was when it was stopped."""


async def look(uri: str, options: Mapping[str, str] = {}, *, policy: Policy) -> Health:
    """How the database is.

    Raises:
        StoreError: the storage does not answer, or turns us away.
    """
    place = Place.at(uri, options)
    connection = await place.opened(_core.connect(place.uri, place.options))
    return Health(
        tables=await maintain(uri, options, policy=policy, tell=lambda _: None, dry_run=True),
        leases=await _held(place, connection),
        staged=(await Generations(place, connection).read()).staged,
    )


async def _held(place: Place, connection: _core.CoreConnection) -> list[Held]:
    with place.during(f"open the table {LEASES}"):
        if await _core.find(connection, LEASES) is None:
            return []  # to read one would make it
    leases = Leases(place, connection)
    rows = [await leases.read(tables) for tables in LEASED]
    return [
        Held(tables=row.tables, by=str(row), gone=bool(row.process and is_gone(row.process)))
        for row in rows
        if row.token
    ]

"""Going back to the tables that a rebuild took the place of. Without the lancedb package."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.stores import _core
from pipeline.stores._generations import Generations
from pipeline.stores._lease import Leases
from pipeline.stores._place import Place


async def roll_back(
    uri: str, options: Mapping[str, str] = {}, *, wait: float = 0, tell: Callable[[str], None]
) -> None:
    """Search the tables again that were live before the last rebuild; those that are live now are kept.

    Args:
        uri: As `LanceReader.open`.
        options: As `LanceReader.open`.
        wait: Seconds for which to wait while a run writes the tables.
        tell: Is told what is waited for.

    Raises:
        StoreRefused: there are none.
        StoreBusy: another run writes the tables, and is alive.
        StoreUnavailable: the storage does not answer.
    """
    place = Place.at(uri, options)
    connection = await place.opened(_core.connect(place.uri, place.options))
    async with Leases(place, connection).held("live", "rolling back", wait=wait, tell=tell) as lease:
        await lease.check()
        await Generations(place, connection).roll_back()

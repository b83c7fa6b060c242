"""The query side of the LanceDB store: light enough for a command that must answer in a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pipeline.stores import _core
from pipeline.stores._place import Place
from pipeline.stores._reading import LanceTables
from pipeline.stores._schema import LIVE


class LanceReader(LanceTables):
    """Searches the live tables at one address. Does not import the lancedb package."""

    @classmethod
    async def open(cls, uri: str, options: Mapping[str, str] = {}) -> Self:
        """A reader of the database at `uri`: a folder, or an object store's address with its options.

        Tables that are not there yet are looked for again at every call.

        Raises:
            StoreUnavailable: the storage does not answer.
            StoreRefused: it turns us away.
        """
        place = Place.at(uri, options)
        with place.during("open the database"):
            return cls(place, await _core.connect(place.uri, options), LIVE)

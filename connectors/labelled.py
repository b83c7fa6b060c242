"""A source whose settings say who may see its documents, where the source itself does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from pipeline.errors import ItemUnreadable
from pipeline.protocols import Connector, ListsTheNewest, Shaping
from pipeline.records import ItemRef, RawDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Gives labels to what comes without: those that its metadata names, or else those of the settings."""

    connector: Connector
    access: tuple[str, ...]
    path: tuple[str, ...] = ()
    """Where the labels stand in the metadata that the source gives; nowhere, if empty."""

    @property
    def source(self) -> str:
        """The name that the settings give the source."""
        return self.connector.source

    @property
    def recipe(self) -> str:
        """That of the source, and the labels: other ones are stored with every document."""
        shape = self.connector.recipe if isinstance(self.connector, Shaping) else ""
        return json.dumps([shape, self.access, self.path])

    @property
    def keeps_vanished(self) -> bool:
        """Whether what it lists no more stays in the store."""
        return isinstance(self.connector, ListsTheNewest) and self.connector.keeps_vanished

    def list_items(self) -> AsyncIterator[ItemRef]:
        """As the source does."""
        return self.connector.list_items()

    async def load(self, ref: ItemRef) -> RawDocument:
        """The item, with its labels.

        Raises:
            ItemUnreadable: as the source's; or what its metadata has there are no labels.
            SourceError: as the source's.
        """
        raw = await self.connector.load(ref)
        if raw.access is not None:
            return raw
        return replace(raw, access=self._named(raw) or self.access)

    def _named(self, raw: RawDocument) -> tuple[str, ...]:
        """The labels that stand in the metadata; none, where nothing does."""
        here: object = raw.metadata
        for name in self.path:
            here = here.get(name) if isinstance(here, Mapping) else None
        if not self.path or here is None or here == []:
            return ()
        several = [here] if isinstance(here, str) else here
        if not isinstance(several, list | tuple) or not all(isinstance(one, str) for one in several):
            # Whoever may see it is not known: nobody does.
            raise ItemUnreadable(
                f"{raw.ref.source}/{raw.ref.key}: {'.'.join(self.path)} in its metadata must be a text or a "
                f"list of texts: sources.{raw.ref.source}.access_from"
            )
        return tuple(several)

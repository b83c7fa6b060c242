"""A source as its settings have it: what they say of every type is done here, for all connectors alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from connectors.settings import SharedSettings
from pipeline.errors import ItemUnreadable
from pipeline.protocols import Connector, ListsTheNewest, Shaping
from pipeline.records import ItemRef, RawDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """Names the settings that decide what a document is made of, and labels what comes without labels.

    The labels are those that a document's metadata names, or else those of the settings.
    """

    connector: Connector
    settings: SharedSettings

    @property
    def source(self) -> str:
        """The name that the settings give the source."""
        return self.connector.source

    @property
    def recipe(self) -> str:
        """That of the settings, and what a connector of another package says itself."""
        own = self.connector.recipe if isinstance(self.connector, Shaping) else ""
        return json.dumps([self.settings.recipe, own]) if own else self.settings.recipe

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
        if raw.access is not None or not (self.settings.access or self.settings.access_from):
            return raw
        return replace(raw, access=self._named(raw) or tuple(self.settings.access))

    def _named(self, raw: RawDocument) -> tuple[str, ...]:
        """The labels that stand in the metadata; none, where nothing does."""
        path = self.settings.access_from
        if not path:
            return ()
        here: object = raw.metadata
        for name in path.split("."):
            here = here.get(name) if isinstance(here, Mapping) else None
        if here is None or here == []:
            return ()
        several = [here] if isinstance(here, str) else here
        if not isinstance(several, list | tuple) or not all(isinstance(one, str) for one in several):
            # Whoever may see it is not known: nobody does.
            raise ItemUnreadable(
                f"{raw.ref.source}/{raw.ref.key}: {path} in its metadata must be a text or a "
                f"list of texts: sources.{raw.ref.source}.access_from"
            )
        return tuple(several)

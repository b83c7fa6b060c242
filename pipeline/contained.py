"""Items that hold other documents: archives, and e-mails with attachments.

A listing names the container alone. What it holds is stored under keys of its own, with a version that says
where it is: so a survey knows that it has not vanished with every run that does not open the container.
The container's own version is stored last, when all that it holds is: until then it is read again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace

from pipeline.protocols import Store
from pipeline.records import Contained, DocumentState, ItemRef, RawDocument

UNFINISHED = "not all that it holds is stored"
"""The stored version of a container: that of no item."""
_IN = "in "


def within(raw: RawDocument, container: str) -> RawDocument:
    """A document that an item holds, with the version that says so."""
    return replace(raw, ref=replace(raw.ref, version=_IN + container))


def container_of(version: str) -> str | None:
    """The key of the item that holds a document with this version; None for what was listed itself."""
    return version.removeprefix(_IN) if version.startswith(_IN) else None


def by_container(versions: Mapping[str, str], containers: Collection[str]) -> dict[str, set[str]]:
    """The stored keys of what these items hold. `versions` are those of all stored keys."""
    held: dict[str, set[str]] = {}
    for key, version in versions.items():
        container = container_of(version)
        if container is not None and container in containers:
            held.setdefault(container, set()).add(key)
    return held


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    version: str
    """The item's own."""
    content_keys: Mapping[str, str]
    """Of each document that it holds."""
    refused: Collection[str]


@dataclass(slots=True)
class Containers:
    """The containers that a run has opened."""

    _opened: dict[str, _Opened] = field(default_factory=dict)

    def open(self, ref: ItemRef, found: Contained, content_keys: Mapping[str, str]) -> None:
        """Note what an item holds."""
        self._opened[ref.key] = _Opened(
            version=ref.version, content_keys=content_keys, refused=set(found.refused)
        )

    def emptied(self, held: Mapping[str, Collection[str]]) -> list[str]:
        """Of what was `held` by opened containers, what is in them no more."""
        return sorted(
            key
            for container, opened in self._opened.items()
            for key in held.get(container, ())
            if key not in opened.content_keys and key not in opened.refused
        )

    async def finish(self, source: str, store: Store) -> None:
        """Give each container whose documents are all stored its own version."""
        whole = [state async for state in self._whole(source, store)]
        if whole:
            await store.touch(whole)

    async def _whole(self, source: str, store: Store) -> AsyncIterator[DocumentState]:
        for key, opened in self._opened.items():
            states = await store.states(source, [key, *opened.content_keys])
            stored = {name: state.content_key for name, state in states.items() if name != key}
            if key in states and stored == dict(opened.content_keys) and not opened.refused:
                yield replace(states[key], version=opened.version)

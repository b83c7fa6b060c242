"""Exact copies: of the documents that have one text and the same access labels, one is stored with rows.

The others are stored as marks alone, which name it (`digest.as_copy`). See docs/adr/0011.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pipeline.contained import UNFINISHED, container_of
from pipeline.digest import as_copy, copy_of, own_row_key
from pipeline.protocols import Reader, Store
from pipeline.records import DocumentState, Prepared
from pipeline.stored import StoredMarks

Place: TypeAlias = tuple[str, str]
"""A document: source and key."""
Text: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""What makes two documents copies: the keys of their groups, and their labels."""
TOGETHER = 2_000
"""Copies that are looked at together."""


@dataclass(slots=True, kw_only=True)
class Copies:
    """Tells, of what one run reads, the copies from what they are copies of."""

    source: str
    store: Reader
    leaving: Collection[str]
    """Keys of the source that go when the run ends."""
    _holders: dict[Text, Place] = field(default_factory=dict)

    async def told(self, read: Sequence[Prepared]) -> list[Prepared]:
        """The documents; those without rows that are copies.

        Where several have the rows already, the first of them keeps them, by source and key. Where none has,
        the first that is read gets them.
        """
        await self._look_up([_text(one.state, one.access) for one in read if one.groups])
        told = {one.state.key: self._told(one) for one in sorted(read, key=lambda one: one.state.key)}
        return [told[one.state.key] for one in read]

    def _told(self, one: Prepared) -> Prepared:
        if not one.groups:
            return one
        place = (self.source, one.state.key)
        holder = self._holders.setdefault(_text(one.state, one.access), place)
        if holder == place:
            return one
        return replace(one, groups=(), state=replace(one.state, row_key=as_copy(one.state.row_key, *holder)))

    async def _look_up(self, texts: Iterable[Text]) -> None:
        """Find who has the rows of these texts already."""
        unknown = [text for text in texts if text not in self._holders]
        for text, places in (await _holders(self.store, unknown)).items():
            staying = [place for place in places if place[0] != self.source or place[1] not in self.leaving]
            if staying and text not in self._holders:
                self._holders[text] = min(staying)


async def settle(store: Store) -> list[DocumentState]:
    """See to it that every copy names a document that has its text.

    Called when rows were removed or exchanged. A copy whose text another document has is made that one's;
    one whose text nobody has loses the marks by which a run would pass it over.

    Returns:
        The copies that must be read again, as they were stored: also those of which that is known already.
    """
    moved: list[DocumentState] = []
    owed: list[DocumentState] = []
    async for state, places in _every_copy(store):
        if not places:
            owed.append(state)
        elif copy_of(state.row_key) not in places:
            moved.append(replace(state, row_key=as_copy(own_row_key(state.row_key), *min(places))))
    released = [state for state in owed if state.content_key]
    await store.touch([*moved, *map(_released, released), *await _containers(store, released)])
    return owed


async def lost(reader: Reader) -> list[DocumentState]:
    """The copies whose text no document has, and that no run would read again."""
    return [state async for state, places in _every_copy(reader) if not places and state.content_key]


async def _every_copy(reader: Reader) -> AsyncIterator[tuple[DocumentState, set[Place]]]:
    """Each copy, and the documents that have the rows of its text."""
    copies = await reader.copies()
    for start in range(0, len(copies), TOGETHER):
        texts = [(one.state, _text(one.state, one.about.access)) for one in copies[start : start + TOGETHER]]
        holders = await _holders(reader, [text for _, text in texts])
        for state, text in texts:
            yield state, holders.get(text, set())


async def _holders(store: Reader, texts: Collection[Text]) -> dict[Text, set[Place]]:
    """The documents that have the rows of these texts."""
    holders: dict[Text, set[Place]] = {}
    firsts = {keys[0] for keys, _ in texts if keys}
    for marks in await store.holding(sorted(firsts)) if firsts else ():
        text = _text(marks.state, marks.about.access)
        holders.setdefault(text, set()).add((marks.state.source, marks.state.key))
    return holders


def _released(state: DocumentState) -> DocumentState:
    """Marks that nothing in a listing equals. What a container holds keeps the version that says so."""
    version = state.version if container_of(state.version) is not None else ""
    return replace(state, version=version, content_key="")


async def _containers(store: Store, owed: Sequence[DocumentState]) -> list[DocumentState]:
    """The containers of these, with marks by which they are opened again."""
    by_source: dict[str, set[str]] = {}
    for state in owed:
        if (container := container_of(state.version)) is not None:
            by_source.setdefault(state.source, set()).add(container)
    found: list[DocumentState] = []
    for source, keys in by_source.items():
        found += (await store.states(source, sorted(keys))).values()
    return [replace(state, version=UNFINISHED) for state in found]


def _text(state: DocumentState, access: tuple[str, ...]) -> Text:
    return state.group_keys, access


def alike(every: Iterable[StoredMarks]) -> list[list[StoredMarks]]:
    """The documents that have one text, whatever their labels, each text's together: the largest first."""
    by_text: dict[tuple[str, ...], list[StoredMarks]] = {}
    for marks in every:
        if marks.state.group_keys:
            by_text.setdefault(marks.state.group_keys, []).append(marks)
    groups = [group for group in by_text.values() if len(group) > 1]
    for group in groups:
        group.sort(key=lambda one: (bool(copy_of(one.state.row_key)), one.state.source, one.state.key))
    return sorted(groups, key=lambda group: (-len(group), group[0].state.source, group[0].state.key))

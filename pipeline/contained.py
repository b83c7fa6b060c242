"""Items that hold other documents: archives, and e-mails with attachments.

A listing names the container alone. What it holds is stored under keys of its own, with a version that says
where it is: so a survey knows that it has not vanished with every run that does not open the container.
The container's own version is stored last, when all that it holds is: until then it is read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pipeline.protocols import Store
from pipeline.records import Contained, DocumentState, ItemRef, RawDocument

UNFINISHED = "not all that it holds is stored"
"""The stored version of a container: that of no item."""
LOOKUP = 1_000
"""Documents whose stored states are looked up together."""
_IN = "in "


def within(raw: RawDocument, container: RawDocument) -> RawDocument:
    """A document that an item holds, with the version that says so, for the same people to see."""
    ref = replace(raw.ref, version=_IN + container.ref.key)
    return replace(raw, ref=ref, access=container.access)


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

    held: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The stored keys of what they held before, by their own."""
    listed: Collection[str] = ()
    """Keys of items that look as if these were held by others."""
    _opened: dict[str, _Opened] = field(default_factory=dict)

    def apart(self, found: Contained) -> Contained:
        """What an item holds, without what would be stored under the key of another item."""
        taken = [child.ref.key for child in found.documents if child.ref.key in self.listed]
        if not taken:
            return found
        return Contained(
            documents=tuple(child for child in found.documents if child.ref.key not in self.listed),
            refused={**found.refused, **dict.fromkeys(taken, "an item that is listed has this key, too")},
        )

    def open(self, ref: ItemRef, found: Contained, content_keys: Mapping[str, str]) -> None:
        """Note what an item holds."""
        self._opened[ref.key] = _Opened(
            version=ref.version, content_keys=content_keys, refused=set(found.refused)
        )

    def opened(self) -> list[tuple[str, str, Mapping[str, str], Collection[str]]]:
        """What was noted of each: key, version, the content keys of what it holds, what was refused."""
        return [
            (key, opened.version, opened.content_keys, opened.refused) for key, opened in self._opened.items()
        ]

    def emptied(self) -> list[str]:
        """Of what opened containers held before, what is in them no more."""
        return sorted(
            key
            for container, opened in self._opened.items()
            for key in self.held.get(container, ())
            if key not in opened.content_keys and key not in opened.refused
        )

    async def finish(self, source: str, store: Store, left: Collection[str]) -> None:
        """Give each container whose documents are all stored its own version.

        Args:
            source: Of the containers.
            store: Where they are.
            left: What is in them no more, and was not removed: those that held it are read again.
        """
        whole: list[DocumentState] = []
        for some in self._in_turns():
            keys = [name for key, opened in some for name in (key, *opened.content_keys)]
            states = await store.states(source, keys)
            whole += [
                replace(states[key], version=opened.version)
                for key, opened in some
                if key in states and self._is_whole(key, opened, states, left)
            ]
        if whole:
            await store.touch(whole)

    def _is_whole(
        self, key: str, opened: _Opened, states: Mapping[str, DocumentState], left: Collection[str]
    ) -> bool:
        stored = {name: states[name].content_key for name in opened.content_keys if name in states}
        owed = opened.refused or any(name in left for name in self.held.get(key, ()))
        return stored == dict(opened.content_keys) and not owed

    def _in_turns(self) -> Iterator[list[tuple[str, _Opened]]]:
        """The opened containers, some at a time: to look up many documents costs little more than one."""
        some: list[tuple[str, _Opened]] = []
        keys = 0
        for key, opened in self._opened.items():
            some.append((key, opened))
            keys += 1 + len(opened.content_keys)
            if keys >= LOOKUP:
                yield some
                some, keys = [], 0
        if some:
            yield some

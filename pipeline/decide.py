"""What is to happen to the documents that were read: by their marks, and by what the store holds already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from pipeline.contained import container_of
from pipeline.copies import Copies
from pipeline.plan import Change, Owing, PlannedDocument, decide, marks_of, reason
from pipeline.prepare import Found
from pipeline.protocols import Store
from pipeline.records import DocumentState, Embedded, Known, Prepared, Vectors

TOGETHER = 256
"""Documents whose vectors are looked up together, …"""
TOGETHER_TOKENS = 500_000
"""… unless their texts are large …"""
MOMENT = 0.2
"""… or no more come within so many seconds: a look-up costs the same for one document as for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A document that was read, and what is to happen to it."""

    change: Change
    prepared: Prepared
    state: DocumentState | None
    """As stored."""
    known: Known
    renamed_from: str | None = None

    def embedded(self) -> Embedded | None:
        """The document with its vectors, where none of them is owed."""
        keys = self.prepared.owed_keys
        if any(key not in self.known for key in keys):
            return None
        return Embedded(prepared=self.prepared, vectors=tuple(self.known[key] for key in keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A document that was read and found as it was: only its marks moved."""

    state: DocumentState
    """As stored."""
    now: DocumentState


async def decided(
    found: MemoryObjectReceiveStream[Found],
    gone: dict[tuple[str, ...], str],
    store: Store,
    look_up_begins: Callable[[], None] = lambda: None,
    copies: Copies | None = None,
) -> AsyncIterator[tuple[list[Step], list[Touch]]]:
    """Decide, a batch of documents at a time: those to be stored, and those of which only the marks moved.

    `gone` holds the keys that are no longer listed, by their group keys; a rename takes its old key out.
    `look_up_begins` is called before the store is asked what was paid for already. `copies`: where copies
    are stored once.
    """
    async with found:
        async for batch in _batches(found):
            steps: list[Step] = []
            touched: list[Touch] = []
            for item in await _without_copies(batch, copies) if copies else batch:
                entry = _entry(item, gone)
                if isinstance(entry, Touch):
                    touched.append(entry)
                else:
                    steps.append(entry)
            look_up_begins()
            yield await looked_up(steps, store), touched


def _entry(item: Found, gone: dict[tuple[str, ...], str]) -> Step | Touch:
    """What is to happen to one document, its vectors not yet looked up."""
    if isinstance(item.now, DocumentState):
        return Touch(state=item.state or item.now, now=item.now)
    change = decide(item.now, item.state, gone)
    if item.state and change is Change.TOUCHED:
        return Touch(state=item.state, now=item.now.state)
    old_key = gone.pop(item.now.state.group_keys) if change is Change.RENAMED else None
    return Step(change=change, prepared=item.now, state=item.state, known={}, renamed_from=old_key)


async def _without_copies(batch: Sequence[Found], copies: Copies) -> list[Found]:
    """The batch, in which copies of other documents are marks alone."""
    read = [item.now for item in batch if isinstance(item.now, Prepared)]
    told = {one.state.key: one for one in await copies.told(read)}
    return [
        replace(item, now=told[item.now.state.key]) if isinstance(item.now, Prepared) else item
        for item in batch
    ]


def planned(steps: Sequence[Step], touched: Sequence[Touch], owing: Owing) -> Iterator[PlannedDocument]:
    """What each document would cost, and why. Groups that stand in several documents are paid once."""
    for touch in touched:
        yield PlannedDocument(
            key=touch.now.key,
            change=Change.TOUCHED.value,
            tokens=0,
            reason=reason(Change.TOUCHED, touch.now, touch.state),
            container=container_of(touch.now.version),
            before=marks_of(touch.state),
            after=marks_of(touch.now),
        )
    for step in steps:
        now = step.prepared.state
        owed = owing.by(step.prepared, step.known)
        owing.counted |= owed.keys()
        yield PlannedDocument(
            key=now.key,
            change=step.change.value,
            tokens=sum(owed.values()),
            reason=reason(step.change, now, step.state),
            renamed_from=step.renamed_from,
            container=container_of(now.version),
            before=marks_of(step.state) if step.state else None,
            after=marks_of(now),
        )


async def looked_up(steps: Sequence[Step], store: Store) -> list[Step]:
    """The steps, with the vectors that were paid for already."""
    keys = {key for step in steps for key in step.prepared.owed_keys}
    known = await store.vectors(sorted(keys)) if keys else {}
    for step in steps:
        _forget_partial(known, step.prepared)
    return [replace(step, known=known) for step in steps]


def _forget_partial(known: dict[str, Vectors], prepared: Prepared) -> None:
    """Take out what is not as many vectors as its group has chunks: somebody else's half-written rows."""
    for key, group in zip(prepared.owed_keys, prepared.groups, strict=True):
        if key in known and len(known[key]) != len(group.chunks):
            del known[key]


async def _batches(found: MemoryObjectReceiveStream[Found]) -> AsyncIterator[list[Found]]:
    """What comes within a moment, up to a limit."""
    async for first in found:
        batch, tokens = [first], _tokens(first)
        with anyio.move_on_after(MOMENT):
            while len(batch) < TOGETHER and tokens < TOGETHER_TOKENS:
                try:
                    item = await found.receive()
                except anyio.EndOfStream:
                    break
                batch.append(item)
                tokens += _tokens(item)
        yield batch


def _tokens(item: Found) -> int:
    return 0 if isinstance(item.now, DocumentState) else sum(group.tokens for group in item.now.groups)

"""What is to happen to the documents that were read: by their marks, and by what the store holds already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from pipeline.plan import Change, decide
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
    known: Known
    renamed_from: str | None = None

    def embedded(self) -> Embedded | None:
        """The document with its vectors, where none of them is owed."""
        keys = self.prepared.state.group_keys
        if any(key not in self.known for key in keys):
            return None
        return Embedded(prepared=self.prepared, vectors=tuple(self.known[key] for key in keys))


async def decided(
    found: MemoryObjectReceiveStream[Found],
    gone: dict[tuple[str, ...], str],
    store: Store,
    look_up_begins: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[list[Step], list[DocumentState]]]:
    """Decide, a batch of documents at a time: those to be stored, and those of which only the marks moved.

    `gone` holds the keys that are no longer listed, by their group keys; a rename takes its old key out.
    `look_up_begins` is called before the store is asked what was paid for already.
    """
    async with found:
        async for batch in _batches(found):
            touched: list[DocumentState] = []
            pending: list[tuple[Change, Prepared, str | None]] = []
            for item in batch:
                if isinstance(item.now, DocumentState):
                    touched.append(item.now)
                    continue
                change = decide(item.now, item.state, gone)
                if change is Change.TOUCHED:
                    touched.append(item.now.state)
                else:
                    old_key = gone.pop(item.now.state.group_keys) if change is Change.RENAMED else None
                    pending.append((change, item.now, old_key))
            keys = {key for _, prepared, _ in pending for key in prepared.state.group_keys}
            look_up_begins()
            known = await store.vectors(sorted(keys)) if keys else {}
            for _, prepared, _ in pending:
                _forget_partial(known, prepared)
            yield (
                [
                    Step(change=change, prepared=prepared, known=known, renamed_from=old_key)
                    for change, prepared, old_key in pending
                ],
                touched,
            )


def _forget_partial(known: dict[str, Vectors], prepared: Prepared) -> None:
    """Take out what is not as many vectors as its group has chunks: somebody else's half-written rows."""
    for key, group in zip(prepared.state.group_keys, prepared.groups, strict=True):
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

"""How a run's commits follow each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio
import numpy as np

from pipeline.decide import Step
from pipeline.errors import StoreUnavailable
from pipeline.plan import Change
from pipeline.records import Embedded, Vectors
from pipeline.report import SourceReport, ignore
from pipeline.stores.memory import MemoryStore
from pipeline.write import Writer
from tests.contract.store_contract import SPACE, embedded


class SlowStore(MemoryStore):
    """Commits when it is let."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.begun, self.may_end = anyio.Event(), anyio.Event()

    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        self.begun.set()
        await self.may_end.wait()
        await super().journal(vectors)


async def test_who_has_nothing_to_write_does_not_wait_for_a_commit_under_way() -> None:
    store = SlowStore()
    writer = Writer(store=store, report=SourceReport(source="notes"), observe=ignore, journal=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.complete, {"a": np.ones((1, SPACE.dimensions), np.int8)}, [])
        await store.begun.wait()
        with anyio.fail_after(5):
            await writer.complete({}, [])
        store.may_end.set()
    assert await store.vectors(["a"])


class CrowdedStore(MemoryStore):
    """Others commit until it is let."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.waits, self.may_go = anyio.Event(), anyio.Event()
        self.did: list[str] = []

    async def others_done(self) -> None:
        self.waits.set()
        await self.may_go.wait()

    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        self.did.append(f"kept {' '.join(vectors)}")
        await super().journal(vectors)

    async def replace(self, documents: Sequence[Embedded]) -> None:
        self.did.append(f"stored {' '.join(one.prepared.state.key for one in documents)}")
        await super().replace(documents)


async def test_what_comes_while_others_commit_is_kept_at_once_and_goes_into_the_same_commit() -> None:
    store, report = CrowdedStore(), SourceReport(source="notes")
    writer = Writer(store=store, report=report, observe=ignore, journal=True)
    documents = [embedded(key) for key in ("a.md", "b.md")]
    writer.expect(
        [Step(change=Change.ADDED, prepared=one.prepared, state=None, known={}) for one in documents]
    )
    paid = np.ones((1, SPACE.dimensions), np.int8)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.complete, {"of a": paid}, documents[:1])
        await store.waits.wait()
        assert store.did == ["kept of a"]
        tasks.start_soon(writer.complete, {"of b": paid}, documents[1:])
        await anyio.wait_all_tasks_blocked()
        store.may_go.set()
    assert store.did == ["kept of a", "kept of b", "stored a.md b.md"]
    assert report.added == 2


class FailingOnce(SlowStore):
    """Is not there when it is written to for the second time, while others wait."""

    writes = 0

    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        self.writes += 1
        if self.writes == 2:
            raise StoreUnavailable("the storage does not answer")
        await super().journal(vectors)


async def test_what_others_handed_in_is_kept_though_the_journal_failed_once() -> None:
    store = FailingOnce()
    writer = Writer(store=store, report=SourceReport(source="notes"), observe=ignore, journal=True)
    paid = np.ones((1, SPACE.dimensions), np.int8)
    failed: list[str] = []

    async def complete(key: str) -> None:
        try:
            await writer.complete({key: paid}, [])
        except StoreUnavailable:
            failed.append(key)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(complete, "a")
        await store.begun.wait()
        for key in ("b", "c"):
            tasks.start_soon(complete, key)
        await anyio.wait_all_tasks_blocked()
        store.may_end.set()
    assert failed == ["b"]
    assert set(await store.vectors(["a", "b", "c"])) == {"a", "b", "c"}

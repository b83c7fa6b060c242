"""How a run's commits follow each other."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import numpy as np

from pipeline.records import Vectors
from pipeline.report import SourceReport, ignore
from pipeline.stores.memory import MemoryStore
from pipeline.write import Writer
from tests.contract.store_contract import SPACE


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

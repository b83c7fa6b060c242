"""The store in memory keeps the contract: it is what the others are measured by."""

from __future__ import annotations

from pathlib import Path

from pipeline.protocols import Store
from pipeline.records import EmbeddingSpace
from pipeline.stores.memory import MemoryStore
from tests.contract.store_contract import SPACE, StoreContract


class TestMemoryStore(StoreContract):
    async def open_store(
        self, tmp_path: Path, space: EmbeddingSpace = SPACE, journal_bytes: int = 2_000_000_000
    ) -> Store:
        return MemoryStore(space, journal_bytes)

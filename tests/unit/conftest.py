"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import load_settings
from config.settings import Settings
from pipeline.protocols import Store
from pipeline.stores.lance import LanceStore
from pipeline.stores.memory import MemoryStore
from tests.fakes import OracleEmbedder
from tests.settings_text import Load
from tests.world import Open, World, text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "docweave.yaml"


@pytest.fixture
def load(file: Path) -> Load:
    def load(text: str) -> Settings:
        file.write_text(text, encoding="utf-8")
        return load_settings(file)

    return load


@pytest.fixture(params=["memory", "lance"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    async def memory(embedder: OracleEmbedder) -> Store:
        return MemoryStore(embedder.space)

    async def lance(embedder: OracleEmbedder) -> Store:
        return await LanceStore.open(str(tmp_path / "db"), space=embedder.space)

    return {"memory": memory, "lance": lance}[request.param]


@pytest.fixture
async def world(open_store: Open) -> World:
    embedder = OracleEmbedder()
    world = World(store=await open_store(embedder), embedder=embedder)
    world.items.items = {f"{name}.md": text(name) for name in ("leave", "travel", "expenses", "devices")}
    return world

"""The query side of the LanceDB store: light, always up to date, and plain about what fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import anyio
import pytest

from pipeline.errors import StoreError, StoreRefused, StoreUnavailable
from pipeline.stores import _core, _place
from pipeline.stores._generations import Generations
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from tests.contract.store_contract import EVERYTHING, SPACE, codes, embedded, places


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


async def test_a_reader_opened_before_anything_was_written_sees_every_write(uri: str) -> None:
    reader = await LanceReader.open(uri)
    assert await reader.space() is None
    assert await reader.counts() == {}
    assert await reader.nearest(codes(1)[0], limit=5, where=EVERYTHING) == []
    assert await reader.matching("word", limit=5, where=EVERYTHING) == []
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "word")])
    assert await reader.space() == SPACE
    assert await places(reader) == [("notes", "a.md", 0, "word")]
    await store.replace([embedded("a.md", "another")])
    assert [hit.text for hit in await reader.matching("another", limit=5, where=EVERYTHING)] == ["another"]
    await store.remove("notes", ["a.md"])
    assert await reader.counts() == {}


SEARCH = """
import asyncio, sys
import numpy as np
from pipeline.records import Filter
from pipeline.stores.lance_reader import LanceReader

async def main():
    reader = await LanceReader.open(sys.argv[1])
    near = await reader.nearest(np.ones(16, np.int8), limit=5, where=Filter(metadata={"team": "people"}))
    worded = await reader.matching("word", limit=5, where=Filter(sources=("notes",)))
    print([hit.key for hit in near + worded], await reader.counts())
    print([name for name in ("lancedb", "pydantic", "prefect", "langchain_core") if name in sys.modules])
    import lancedb
    print((await (await lancedb.connect_async(sys.argv[1])).open_table("chunks")).name)

asyncio.run(main())
"""


async def test_searching_does_not_import_the_lancedb_package_and_leaves_it_importable(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.replace([embedded("a.md", "word", metadata={"team": "people"})])
    ran = await anyio.run_process([sys.executable, "-c", SEARCH, uri], check=False)
    assert ran.stdout.decode().splitlines() == ["['a.md', 'a.md'] {'notes': (1, 1)}", "[]", "chunks"]
    assert ran.stderr.decode() == "", "Lance warned of something"


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the core had not been loaded yet."""
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, _core.CORE)
        yield


def test_a_lancedb_of_another_shape_is_refused_by_name(
    unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changed:
        async def open_table(self) -> None: ...

        async def create_table(self) -> None: ...

        async def drop_table(self) -> None: ...

        async def list_tables(self) -> None: ...

    core = ModuleType(_core.CORE)
    core.Connection = core.Table = core.Query = core.VectorQuery = core.FTSQuery = Changed  # type: ignore[attr-defined]
    missing = _core._missing(core)
    assert missing[:4] == ["connect", "Session", "Table.schema", "Table.version"]
    assert "Connection.open_table" not in missing
    monkeypatch.setattr(_core, "CORE", "lancedb._renamed")
    with pytest.raises(StoreRefused, match=r"has no module lancedb\._renamed.*requirements\.lock"):
        _core.load_core()
    monkeypatch.setattr(_core, "PACKAGE", "no_such_package")
    with pytest.raises(StoreRefused, match="not installed"):
        _core.load_core()


def test_the_installed_lancedb_has_the_shape_that_the_reader_relies_on() -> None:
    assert _core._missing(_core.load_core()) == []
    assert sys.modules["lancedb._lancedb"] is _core.load_core()


async def test_a_folder_that_cannot_be_made_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    uri = str(tmp_path / "file" / "db")
    for opening in (LanceReader.open(uri), LanceStore.open(uri, space=SPACE)):
        with pytest.raises(StoreRefused, match="cannot open the database") as caught:
            await opening
        assert uri in str(caught.value)
        assert ".cargo" not in str(caught.value)


async def test_a_folder_that_cannot_be_looked_into_is_told_as_the_store_s_own_error() -> None:
    nowhere = _place.Place("/" + "x" * 300)  # longer than a name may be
    with pytest.raises(StoreError, match="cannot open the table live"):
        await Generations(nowhere, await _core.connect("memory://", {})).names()


async def test_a_relative_path_is_a_folder_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await LanceStore.open("dbase", space=SPACE)
    await store.replace([embedded("a.md", "word")])
    assert (tmp_path / "dbase" / "chunks.lance").is_dir()


async def test_an_outage_is_to_be_tried_again_and_tells_no_credentials() -> None:
    options = {
        "endpoint": "http://127.0.0.1:9",
        "allow_http": "true",
        "aws_access_key_id": "AKIAVERYSECRET",
        "aws_secret_access_key": "also-very-secret",
        "region": "nowhere-1",
        "client_max_retries": "0",
    }
    with pytest.raises(StoreUnavailable, match=r"^s3://bucket/prefix: cannot ") as caught:
        await (await LanceReader.open("s3://name:password@bucket/prefix?token=hidden", options)).space()
    place = _place.Place.at("s3://name:password@bucket/prefix?token=hidden", options)
    for text in (str(caught.value), repr(caught.value), str(place)):
        assert not [secret for secret in ("AKIA", "very-secret", "password", "hidden") if secret in text]
    assert "secret" not in repr(place)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("lance error: Commit conflict for version 7: concurrent commit"), StoreUnavailable),
        (RuntimeError("lance error: Too many concurrent writers"), StoreUnavailable),
        (OSError("connection reset"), StoreUnavailable),
        (RuntimeError("lance error: LanceError(IO): request timed out"), StoreUnavailable),
        (RuntimeError("Not found: db/chunks.lance/data/x.lance"), StoreUnavailable),
        (OSError("Permission denied (os error 13)"), StoreRefused),
        (RuntimeError("LanceError(IO): No space left on device (os error 28)"), StoreRefused),
        (
            RuntimeError("Generic S3 error: Client error with status 403 Forbidden: AccessDenied"),
            StoreRefused,
        ),
        (ValueError("Invalid input, No vector column found"), StoreRefused),
    ],
)
def test_what_the_library_raises_is_told_apart_by_what_waiting_mends(error: Exception, kind: type) -> None:
    with (
        pytest.raises(kind, match=r"^/data/db: cannot look: ") as caught,
        _place.Place("/data/db").during("look"),
    ):
        raise error
    assert caught.value.__cause__ is error

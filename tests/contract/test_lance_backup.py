"""A backup is the tables as they were at one moment, whoever writes them meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from pipeline.errors import StoreBusy, StoreRefused
from pipeline.query import Question, search
from pipeline.records import Hit
from pipeline.stores import lance_backup, lance_maintain
from pipeline.stores._files import Files
from pipeline.stores._place import Place
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_backup import MARK, back_up, restore
from pipeline.stores.lance_reader import LanceReader
from tests.fakes import OracleEmbedder
from tests.s3 import Bucket
from tests.world import World, text

EMBEDDER = OracleEmbedder()


def at(folder: Path) -> Place:
    return Place.at(str(folder), {})


async def world_at(place: Place, documents: int = 12) -> World:
    store = await LanceStore.open(place.uri, place.options, space=EMBEDDER.space)
    world = World(store=store, embedder=EMBEDDER)
    world.items.items = {f"{number}.md": text(f"item{number}") for number in range(documents)}
    return world


async def held(place: Place) -> tuple[dict[str, tuple[int, int]], list[Hit]]:
    """What the tables count, and what a search by meaning and words finds."""
    reader = await LanceReader.open(place.uri, place.options)
    hits = await search(reader, EMBEDDER, Question(text="item3 money", limit=10))
    return dict(await reader.counts()), hits


async def test_what_is_restored_answers_as_what_was_backed_up(tmp_path: Path) -> None:
    source, kept, back = at(tmp_path / "db"), at(tmp_path / "kept"), at(tmp_path / "back")
    world = await world_at(source)
    await world.ingest()
    before = await held(source)
    copied = await back_up(source, kept)
    assert copied.files == len(copied.backup.files)
    assert copied.bytes == copied.backup.bytes > 0
    shutil.rmtree(source.uri)
    await restore(kept, back)
    assert await held(back) == before
    assert before[1], "the search finds something"


async def test_nothing_is_embedded_or_written_after_a_restore(tmp_path: Path) -> None:
    source, kept, back = at(tmp_path / "db"), at(tmp_path / "kept"), at(tmp_path / "back")
    world = await world_at(source)
    await world.ingest()
    await back_up(source, kept)
    await restore(kept, back)
    again = await world_at(back)
    report = await again.ingest()
    assert (report.unchanged, report.written) == (12, 0)


async def test_a_second_backup_copies_only_what_is_new(tmp_path: Path) -> None:
    source, kept, back = at(tmp_path / "db"), at(tmp_path / "kept"), at(tmp_path / "back")
    world = await world_at(source)
    await world.ingest()
    first = (await back_up(source, kept)).backup
    world.items.items["0.md"] = text("edited")
    await world.ingest()
    second = await back_up(source, kept)
    old = [path for path in first.files if "/_versions/" not in path]
    assert second.files == len(second.backup.files) - len(old) > 0
    there = set(await Files(kept).sizes()) - {MARK}
    assert there == set(second.backup.files)
    await restore(kept, back)
    assert await held(back) == await held(source)


async def test_a_backup_made_while_a_run_writes_is_one_moment_of_it(tmp_path: Path) -> None:
    """Documents have all their chunks or none, and the next run goes on from there."""
    source = at(tmp_path / "db")
    world = await world_at(source, 8)
    await world.ingest()
    writing = anyio.Event()

    async def write() -> None:
        for turn in range(8):
            for number in range(8):
                world.items.items[f"{number}.md"] = text(f"turn{turn}") * (1 + (turn + number) % 3)
            await world.ingest()
            writing.set()

    taken: list[Place] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await writing.wait()
        for number in range(3):
            kept = at(tmp_path / f"kept{number}")
            await back_up(source, kept)
            taken.append(kept)
    for number, kept in enumerate(taken):
        back = at(tmp_path / f"back{number}")
        await restore(kept, back)
        again = await world_at(back, 8)
        again.items.items = dict(world.items.items)
        async with again.store.lease("ingesting"):
            await again.ingest()
        assert await held(back) == await held(source)


async def test_old_versions_that_are_cleared_away_meanwhile_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, kept, back = at(tmp_path / "db"), at(tmp_path / "kept"), at(tmp_path / "back")
    world = await world_at(source)
    for turn in range(4):
        world.items.items["0.md"] = text(f"turn{turn}")
        await world.ingest()
    copy, cleared = Files.copy, False

    async def copy_slowly(self: Files, path: str, to: Files) -> None:
        nonlocal cleared
        if not cleared:
            cleared = True
            table = Path(source.uri) / "chunks.lance"
            oldest = max((table / "_versions").glob("*.manifest"))  # they count down
            oldest.unlink()
        await copy(self, path, to)

    monkeypatch.setattr(Files, "copy", copy_slowly)
    told: list[str] = []
    await back_up(source, kept, tell=told.append)
    assert any("beginning anew" in line for line in told)
    await restore(kept, back)
    assert await held(back) == await held(source)


async def test_commits_that_never_pause_are_an_error_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = at(tmp_path / "db")
    world = await world_at(source)
    await world.ingest()
    monkeypatch.setattr(lance_backup, "LOOKS", 3)
    monkeypatch.setattr(lance_backup, "LOOK_AGAIN", 0)
    sizes, number = Files.sizes, 0

    async def another(self: Files, below: str = "") -> dict[str, int]:
        nonlocal number
        number += 1
        return await sizes(self, below) | ({f"{below}{number}.manifest": 1} if below else {})

    monkeypatch.setattr(Files, "sizes", another)
    with pytest.raises(StoreBusy, match="commits came too fast"):
        await back_up(source, at(tmp_path / "kept"))


async def test_a_backup_that_was_stopped_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, kept, back = at(tmp_path / "db"), at(tmp_path / "kept"), at(tmp_path / "back")
    await (await world_at(source)).ingest()
    copy, left = Files.copy, 3

    async def stopped(self: Files, path: str, to: Files) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise RuntimeError("stopped")
        await copy(self, path, to)

    monkeypatch.setattr(Files, "copy", stopped)
    with pytest.raises(ExceptionGroup):
        await back_up(source, kept)
    monkeypatch.setattr(Files, "copy", copy)
    with pytest.raises(StoreRefused, match="was not completed"):
        await restore(kept, back)
    await back_up(source, kept)
    await restore(kept, back)
    assert await held(back) == await held(source)


Spoil = Callable[[Path], None]


def lose(kept: Path) -> None:
    next((kept / "chunks.lance" / "data").iterdir()).unlink()


def cut(kept: Path) -> None:
    file = next((kept / "chunks.lance" / "data").iterdir())
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("spoil", [lose, cut])
async def test_a_damaged_backup_is_not_restored(tmp_path: Path, spoil: Spoil) -> None:
    source, kept, back = at(tmp_path / "db"), at(tmp_path / "kept"), at(tmp_path / "back")
    await (await world_at(source)).ingest()
    await back_up(source, kept)
    spoil(Path(kept.uri))
    with pytest.raises(StoreRefused, match=r"damaged: 1 of its \d+ files"):
        await restore(kept, back)
    assert await Files(back).sizes() == {}


async def test_places_that_hold_something_are_left_alone(tmp_path: Path) -> None:
    source, other = at(tmp_path / "db"), at(tmp_path / "other")
    for place in (source, other):
        await (await world_at(place)).ingest()
    with pytest.raises(StoreRefused, match="holds something else"):
        await back_up(source, other)
    with pytest.raises(StoreRefused, match="cannot be backed up to itself"):
        await back_up(source, source)
    with pytest.raises(StoreRefused, match="holds no tables"):
        await back_up(at(tmp_path / "none"), at(tmp_path / "kept"))
    kept = at(tmp_path / "kept2")
    await back_up(source, kept)
    with pytest.raises(StoreRefused, match="a backup of"):
        await back_up(other, kept)
    with pytest.raises(StoreRefused, match=r"holds tables already \(chunks, documents"):
        await restore(kept, other)
    with pytest.raises(StoreRefused, match="holds no backup"):
        await restore(other, at(tmp_path / "back"))


async def test_to_object_storage_and_back(tmp_path: Path, bucket: Bucket) -> None:
    source, back = at(tmp_path / "db"), Place.at(f"{bucket.uri}/back", bucket.options)
    kept = Place.at(f"{bucket.uri}/kept", bucket.options)
    world = await world_at(source)
    await world.ingest()
    await back_up(source, kept)
    await restore(kept, back)
    assert await held(back) == await held(source)
    # And what lies there can be backed up to a folder.
    folder = at(tmp_path / "folder")
    await back_up(back, folder)
    assert (await held(folder))[0] == (await held(source))[0]


async def test_a_database_that_was_restored_can_be_maintained(tmp_path: Path) -> None:
    source, kept, back = at(tmp_path / "db"), at(tmp_path / "kept"), at(tmp_path / "back")
    world = await world_at(source)
    for turn in range(6):
        world.items.items["0.md"] = text(f"turn{turn}")
        await world.ingest()
    await back_up(source, kept)
    await restore(kept, back)
    before = await held(back)
    await lance_maintain.maintain(back.uri, tell=lambda _: None)
    assert await held(back) == before

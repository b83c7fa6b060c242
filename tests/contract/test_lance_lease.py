"""One run at a time writes a pair of tables: waiting, giving up, taking over; what a lost lease forbids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import lancedb
import pytest

from pipeline.errors import SpaceMismatch, StoreBusy, StoreError, StoreRefused, StoreUnavailable
from pipeline.protocols import Store
from pipeline.records import EmbeddingSpace, Filter
from pipeline.stores import _lease, _process
from pipeline.stores._lease import Leases
from pipeline.stores._place import Place
from pipeline.stores.lance import LanceStore
from pipeline.stores.memory import MemoryStore
from tests.contract.store_contract import SPACE, codes, drawn, embedded

OTHER = EmbeddingSpace(provider="test", model="another", dimensions=8)
SHORT = 0.9
"""Seconds after which a lease counts as abandoned, where a test waits for it."""


async def heard(told: list[str]) -> None:
    with anyio.fail_after(20):
        while not told:  # noqa: ASYNC110 - lines that come from a callback
            await anyio.sleep(0.01)


class LeaseContract:
    """What the lease of every store keeps."""

    async def two(self, tmp_path: Path) -> tuple[Store, Store]:
        """Two who would write the same tables."""
        raise NotImplementedError

    async def test_the_second_waits_until_the_first_has_ended(self, tmp_path: Path) -> None:
        first, second = await self.two(tmp_path)
        order: list[str] = []
        told: list[str] = []

        async def another() -> None:
            async with second.lease("forgetting wiki", wait=30, tell=told.append):
                order.append("second")

        async with anyio.create_task_group() as tasks, first.lease("ingesting handbook"):
            tasks.start_soon(another)
            await heard(told)
            await anyio.sleep(0.1)
            order.append("first")
        assert order == ["first", "second"]
        assert len(told) == 1
        assert told[0].startswith("waiting for")
        assert "ingesting handbook" in told[0]

    async def test_an_error_and_a_cancellation_give_it_back(self, tmp_path: Path) -> None:
        first, second = await self.two(tmp_path)
        with pytest.raises(StoreRefused, match="of its own"):
            async with first.lease("failing"):
                raise StoreRefused("an error of its own")
        with anyio.move_on_after(0.3) as scope:
            async with first.lease("sleeping"):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            async with second.lease("going on", tell=pytest.fail):
                pass

    async def test_who_does_not_wait_is_told_that_another_is_alive(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_lease, "ABANDONED_AFTER", SHORT)
        first, second = await self.two(tmp_path)
        async with first.lease("ingesting handbook"):
            with pytest.raises(StoreBusy, match="ingesting handbook"):
                async with second.lease("ingesting wiki"):
                    pytest.fail("both have it")
            with pytest.raises(StoreBusy, match="ingesting handbook"):
                async with second.lease("ingesting wiki", wait=SHORT * 2):
                    pytest.fail("both have it, after a wait longer than leases last")


class TestLanceLease(LeaseContract):
    async def two(self, tmp_path: Path) -> tuple[Store, Store]:
        uri = str(tmp_path / "db")
        return await LanceStore.open(uri, space=SPACE), await LanceStore.open(uri, space=SPACE)


class TestMemoryLease(LeaseContract):
    async def two(self, tmp_path: Path) -> tuple[Store, Store]:
        store = MemoryStore(SPACE)
        return store, store


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lease, "ABANDONED_AFTER", SHORT)


@asynccontextmanager
async def silent(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The lease, had by one who is never heard of again."""

    async def renew(_lease: _lease.Lease) -> None:
        await anyio.sleep_forever()

    lease = store.lease("ingesting handbook")
    with monkeypatch.context() as patched:
        patched.setattr(_lease.Lease, "renew", renew)
        await lease.__aenter__()
    yield
    await lease.__aexit__(None, None, None)


HOLD = """
import asyncio, sys
from pipeline.stores import _lease
from pipeline.stores.lance import LanceStore
from tests.contract.store_contract import SPACE

_lease.ABANDONED_AFTER = float(sys.argv[2])

async def main():
    store = await LanceStore.open(sys.argv[1], space=SPACE)
    async with store.lease("ingesting handbook"):
        print("held", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def holder(uri: str) -> subprocess.Popen[str]:
    """A process that has the lease."""
    command = [sys.executable, "-c", HOLD, uri, str(SHORT)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.skipif(not _process.this_process(), reason="the system does not tell which process is which")
async def test_a_killed_process_of_this_machine_is_followed_at_once(uri: str) -> None:
    told: list[str] = []
    with holder(uri) as process:
        process.send_signal(signal.SIGKILL)
    store = await LanceStore.open(uri, space=SPACE)
    began = time.monotonic()
    async with store.lease("ingesting wiki", tell=told.append):
        assert time.monotonic() - began < 2, "and not after the minute for which others are waited for"
        await store.replace([embedded("a.md", "word")])
    assert told == [f"taking over from {told[0][len('taking over from ') :]}"]
    assert f"process {process.pid}" in told[0]
    assert told[0].endswith("that process has ended")


async def test_a_process_that_stands_still_is_followed_when_it_was_silent_for_long_enough(
    uri: str, short: None
) -> None:
    told: list[str] = []
    store = await LanceStore.open(uri, space=SPACE)
    with holder(uri) as process:
        try:
            os.kill(process.pid, signal.SIGSTOP)
            began = time.monotonic()
            async with store.lease("ingesting wiki", tell=told.append):
                assert SHORT <= time.monotonic() - began < SHORT + 5
        finally:
            process.kill()
    assert len(told) == 2
    assert told[0].startswith("there is the run on")
    assert "it has not been heard of for" in told[1]


async def test_a_run_whose_lease_was_taken_over_changes_nothing_and_keeps_what_it_paid(
    uri: str, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await LanceStore.open(uri, space=SPACE) for _ in range(2)]
    async with silent(first, monkeypatch):
        await first.replace([embedded("a.md", "as the first has it")])
        [state] = (await first.states("notes", ["a.md"])).values()
        async with second.lease("ingesting wiki"):
            await second.replace([embedded("a.md", "as the second has it")])
            for write in (
                first.replace([embedded("a.md", "stale")]),
                first.touch([replace(state, version="stale")]),
                first.remove("notes", ["a.md"]),
            ):
                with pytest.raises(StoreUnavailable, match=r"taken over by the run on .* ingesting wiki"):
                    await write
            await first.journal({"paid": codes(2, seed="paid")})
    [hit] = await second.matching("second", limit=9, where=Filter())
    assert hit.text == "as the second has it"
    assert (await second.states("notes", ["a.md"]))["a.md"].version == "v1"
    assert (await second.vectors(["paid"])).keys() == {"paid"}


async def test_who_comes_back_too_late_does_not_give_away_what_another_has(
    uri: str, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = [await LanceStore.open(uri, space=SPACE) for _ in range(3)]
    async with silent(first, monkeypatch):
        taken = second.lease("ingesting wiki")
        await taken.__aenter__()
    with pytest.raises(StoreBusy, match="ingesting wiki"):
        async with third.lease("ingesting blog"):
            pytest.fail("both have it")
    await taken.__aexit__(None, None, None)


async def test_a_lease_is_kept_through_work_that_takes_longer_than_it_lasts(uri: str, short: None) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    async with store.lease("ingesting handbook"):
        await anyio.sleep(SHORT * 3)
        await store.replace([embedded("a.md", "word")])
    assert await store.counts() == {"notes": (1, 1)}


async def test_a_rebuild_and_the_live_tables_are_leased_apart_until_it_ends(uri: str) -> None:
    live = await LanceStore.open(uri, space=SPACE)
    await live.replace([embedded("a.md", "word")])
    rebuild = await LanceStore.open(uri, space=OTHER, rebuild=True)
    published = anyio.Event()
    told: list[str] = []

    async def publish() -> None:
        async with rebuild.lease("rebuilding", wait=30, tell=told.append):
            await rebuild.replace([embedded("a.md", "word", vectors=drawn(OTHER, 1))])
            await rebuild.publish()
        published.set()

    async with anyio.create_task_group() as tasks, live.lease("ingesting handbook"):
        tasks.start_soon(publish)
        await heard(told)
        await live.replace([embedded("b.md", "word")])
        assert not published.is_set()
    assert published.is_set()
    with pytest.raises(SpaceMismatch):
        async with live.lease("ingesting handbook"):
            pytest.fail("the tables hold another space now")


async def test_a_store_that_waited_writes_the_tables_that_are_there_then(uri: str) -> None:
    first, second = [await LanceStore.open(uri, space=OTHER, rebuild=True) for _ in range(2)]
    old = await LanceStore.open(uri, space=SPACE)
    await old.replace([embedded("a.md", "word")])
    for rebuild in (first, second):
        async with rebuild.lease("rebuilding", wait=30):
            await rebuild.replace([embedded("b.md", "word", vectors=drawn(OTHER, 1))])
            await rebuild.publish()
    assert await second.counts() == {"notes": (1, 1)}
    tables = (await (await lancedb.connect_async(uri)).list_tables()).tables
    assert set(tables) == {"chunks_1", "documents_1", "chunks_2", "documents_2", "leases", "live"}


RACE = """
import asyncio, sys
from pathlib import Path
from pipeline.stores import _lease
from pipeline.stores.lance import LanceStore
from tests.contract.store_contract import SPACE

_lease.LOOKS = 2000  # in a minute

async def main():
    for _ in range(5):
        store = await LanceStore.open(sys.argv[1], space=SPACE)
        async with store.lease("racing", wait=60):
            with Path(sys.argv[2]).open("x"):
                await asyncio.sleep(0.02)
            Path(sys.argv[2]).unlink()
    assert "lancedb" not in sys.modules

asyncio.run(main())
"""


def test_of_many_processes_one_at_a_time_has_it_from_the_first_on(uri: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE, uri, str(tmp_path / "mark")]
    racers = [subprocess.Popen(command) for _ in range(4)]
    assert [racer.wait() for racer in racers] == [0] * 4


async def test_changes_leave_few_files_behind(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lease, "KEEP", 1)
    store = await LanceStore.open(uri, space=SPACE)
    for _ in range(30):
        async with store.lease("ingesting handbook"):
            pass
    assert files_in(uri) < 60, "of 60 changes, 3 files each"


def files_in(uri: str) -> int:
    return sum(path.is_file() for path in Path(uri, "leases.lance").rglob("*"))


async def test_a_lease_that_is_not_as_it_must_be_is_refused(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    async with store.lease("ingesting handbook"):
        pass
    table = await (await lancedb.connect_async(uri)).open_table("leases")
    await table.delete("tables = 'live'")
    with pytest.raises(StoreRefused, match="leases has 0 rows for live, and must have one"):
        async with store.lease("ingesting handbook"):
            pytest.fail("there is none")


async def test_the_leases_of_an_earlier_version_go_on_under_their_new_names(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    async with store.lease("ingesting handbook"):
        pass
    database = await lancedb.connect_async(uri)
    leases = await database.open_table("leases")
    for now, formerly in _lease.FORMERLY.items():
        await leases.update({"tables": formerly}, where=f"tables = '{now}'")
    others = [await LanceStore.open(uri, space=SPACE) for _ in range(4)]
    turns: list[int] = []

    async def take(number: int) -> None:
        async with others[number].lease("ingesting wiki", wait=20):
            turns.append(number)
            at = len(turns)
            await anyio.sleep(0.05)
            assert len(turns) == at, "two have it at once"

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(take, number)
    assert sorted(turns) == [0, 1, 2, 3]
    rows = await (await database.open_table("leases")).query().select(["tables"]).to_list()
    assert sorted(row["tables"] for row in rows) == ["chunks_next", "live"]


async def test_words_of_a_lease_are_data(uri: str) -> None:
    first, second = [await LanceStore.open(uri, space=SPACE) for _ in range(2)]
    told: list[str] = []
    doing = "ingesting o'brien'; DROP TABLE leases; -- \n\x00 \U0001f600"
    async with first.lease(doing):
        with anyio.move_on_after(1):
            async with second.lease("x", wait=1, tell=told.append):
                pytest.fail("both have it")
    assert doing in told[0]


def test_only_processes_of_this_machine_are_known_to_be_gone() -> None:
    mine = _process.this_process()
    if not mine:
        pytest.skip("the system does not tell which process is which")
    machine, _, rest = mine.rpartition(":")
    pid, _, began = rest.partition(".")
    assert not _process.is_gone(mine)
    assert _process.is_gone(f"{machine}:{pid}.{int(began) - 1}"), "a number that was given again"
    assert not _process.is_gone(f"another{machine}:{pid}.1")
    assert not _process.is_gone("")
    assert not _process.is_gone("nonsense")
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    name = _process._name(ended.pid)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert _process.is_gone(name), "nobody has asked how it ended yet"
    ended.wait()
    assert _process.is_gone(name)


MULTIPLE = """
import asyncio, sys
from pipeline.stores.lance import LanceStore
from tests.contract.store_contract import SPACE, embedded, numbered

async def main():
    store = await LanceStore.open(sys.argv[1], space=SPACE)
    for keys in (numbered(20)[:10], numbered(20)[10:]):
        await store.replace([embedded(key, "one", "two", "three") for key in keys])

asyncio.run(main())
"""


async def test_six_stores_without_a_lease_leave_one_copy_of_each_row(uri: str) -> None:
    command = [sys.executable, "-c", MULTIPLE, uri]
    writers = [subprocess.Popen(command) for _ in range(6)]  # noqa: ASYNC220 - nothing else runs
    assert [writer.wait() for writer in writers] == [0] * 6
    database = await lancedb.connect_async(uri)
    for name, rows in (("chunks", 61), ("documents", 20)):  # and the turn
        table = await database.open_table(name)
        ids = (await table.query().select(["id"]).to_arrow())["id"].to_pylist()
        assert len(ids) == len(set(ids)) == rows


async def test_storage_that_is_away_is_told(uri: str) -> None:
    class Away:
        async def open_table(self, name: str) -> object:
            raise OSError("the disk is gone")

    leases = Leases(Place.at(uri, {}), Away())  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="open the table leases"):
        async with leases.held("live", "ingesting", wait=0, tell=print):
            pytest.fail("there is no lease")


async def test_who_is_cancelled_while_taking_it_leaves_it_free(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(_leases: Leases, _change: int) -> None:
        await anyio.sleep_forever()

    first, second = [await LanceStore.open(uri, space=SPACE) for _ in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(Leases, "tidy", slow)
        with anyio.move_on_after(0.5):
            async with first.lease("ingesting handbook"):
                pytest.fail("it was never had")
    with anyio.fail_after(5):
        async with second.lease("ingesting wiki", tell=pytest.fail):
            pass

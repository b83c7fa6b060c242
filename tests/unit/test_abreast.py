"""Writers of one machine that commit one after the other: `pipeline.stores._abreast`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from pipeline.stores import _abreast
from pipeline.stores._abreast import one_at_a_time
from pipeline.stores._place import Place

HOLDS = """
import asyncio, sys
from pipeline.stores._abreast import one_at_a_time
from pipeline.stores._place import Place

async def hold():
    async with one_at_a_time(Place.at(sys.argv[1], {})):
        print("has it", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


async def test_who_comes_second_waits_until_the_first_has_left(tmp_path: Path) -> None:
    place, told = Place.at(str(tmp_path), {}), list[str]()

    async def commit(name: str) -> None:
        async with one_at_a_time(place):
            told.append(f"{name} begins")
            await anyio.sleep(0.02)
            told.append(f"{name} ends")

    async with anyio.create_task_group() as tasks:
        for name in "abcd":
            tasks.start_soon(commit, name)
    order = [line[0] for line in told[::2]]
    assert sorted(order) == list("abcd")
    assert told == [f"{name} {what}" for name in order for what in ("begins", "ends")]


async def test_a_process_that_is_killed_holds_nobody_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220 - once
        assert process.stdout
        assert process.stdout.readline() == "has it\n"
        with anyio.move_on_after(0.1) as waiting:
            async with one_at_a_time(Place.at(str(tmp_path), {})):
                pass
        assert waiting.cancelled_caught
        process.kill()
    with anyio.fail_after(10):
        async with one_at_a_time(Place.at(str(tmp_path), {})):
            pass


async def test_one_that_stands_still_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_abreast, "PATIENCE", 0.05)
    place = Place.at(str(tmp_path), {})
    with anyio.fail_after(10):
        async with one_at_a_time(place), one_at_a_time(place):
            pass


@pytest.mark.parametrize("uri", ["s3://bucket/tables", "/nowhere/at/all"])
async def test_where_there_is_no_folder_nobody_waits(uri: str) -> None:
    place = Place(uri)
    with anyio.fail_after(10):
        async with one_at_a_time(place), one_at_a_time(place):
            pass

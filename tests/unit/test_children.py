"""Programs that run beside another one: what they say is heard, and they end with it, whatever happens."""

# ruff: noqa: ASYNC240 - small files, and nobody waits

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from flows import children
from flows.children import end, start

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    below = subprocess.Popen([sys.executable, __file__, "below"], start_new_session=True)
    print(os.getpid(), below.pid, flush=True)
time.sleep(60)
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's doing")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose module can be started by its name, `beside`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return tmp_path / "beside.py"


async def test_what_it_says_is_heard_line_by_line(module: Path) -> None:
    module.write_text("print('one\\n\\n  two'); print('three', end='')")
    heard: list[str] = []
    child = await start("beside", ["beside"], env={})
    await child.listen(heard.append)
    assert await child.process.wait() == 0
    assert heard == ["beside | one", "beside | two", "beside | three"]


@linux_only
async def test_what_does_not_listen_is_killed_with_all_that_it_started(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "GRACE_SECONDS", 0.5)
    module.write_text(STUBBORN)
    heard: list[str] = []
    child = await start("beside", ["beside"], env={})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.listen, heard.append)
        with anyio.fail_after(30):
            while not heard:  # noqa: ASYNC110 - a list is what it fills
                await anyio.sleep(0.05)
        pids = [int(pid) for pid in heard[0].split()[2:]]
        assert [alive(pid) for pid in pids] == [True, True]
        await end([child])
        tasks.cancel_scope.cancel()
    assert [alive(pid) for pid in pids] == [False, False]


@linux_only
def test_it_ends_with_whoever_started_it_were_that_killed(module: Path) -> None:
    module.write_text("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    starter = (
        "import subprocess, sys, os, time\n"
        "tied = [sys.executable, '-m', 'flows.tied', str(os.getpid())]\n"
        "subprocess.Popen([*tied, sys.executable, '-m', 'beside'])\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(pid)


async def test_jitter_waits_a_random_part_of_what_it_may() -> None:
    from flows.jitter import begin_within  # noqa: PLC0415 - imports prefect

    for seed in range(3):
        random.seed(seed)
        part = random.Random(seed).uniform(0, 0.2)
        begun = time.monotonic()
        await begin_within(0.2)
        assert time.monotonic() - begun >= part
    begun = time.monotonic()
    await begin_within(0)
    assert time.monotonic() - begun < 0.2

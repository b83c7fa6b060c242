"""Commits of several writers of one machine, one after the other.

Tables keep themselves true whoever writes them (docs/adr/0007): of two merges at a time the second fails at
its end, and is done again after a pause. Whoever waits for the first instead has that work but once.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from pipeline.stores._place import Place

LOOK_SECONDS = 0.005
"""Between two tries: a commit takes ten times as long and more."""
PATIENCE = 30.0
"""Seconds after which one goes on beside the other: it may be on a machine that stands still."""


@asynccontextmanager
async def one_at_a_time(place: Place) -> AsyncIterator[None]:
    """Wait until no other process of this machine is in such a block for these tables.

    Where that cannot be told, as for object storage, nothing is waited for. A process that is killed leaves
    it.
    """
    folder = _opened(place)
    if folder is None:
        yield
        return
    try:
        with anyio.move_on_after(PATIENCE):
            while not _locked(folder):  # noqa: ASYNC110 - a lock has no event
                await anyio.sleep(LOOK_SECONDS)
        yield
    finally:
        _unlock(folder)
        os.close(folder)


def _opened(place: Place) -> int | None:
    try:
        import fcntl  # noqa: F401, PLC0415 - not on every platform

        return None if "://" in place.uri else os.open(place.uri, os.O_RDONLY)
    except (ImportError, OSError):
        return None


def _locked(folder: int) -> bool:
    """Whether it is ours now; so it is where the file system has no locks."""
    import fcntl  # noqa: PLC0415 - as above

    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _unlock(folder: int) -> None:
    """By hand: a process that was forked meanwhile has it open, too."""
    import fcntl  # noqa: PLC0415 - as above

    try:
        fcntl.flock(folder, fcntl.LOCK_UN)
    except OSError:
        return

"""Programs that run beside this one: started, listened to, and all of them ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from flows import tied

GRACE_SECONDS = 20.0
"""How long the programs may take to end after they were asked to, before they are killed."""

REPORT_SECONDS = 1.0
"""For a program to tell of what it had started that it has ended."""

Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A program that was started."""

    name: str
    process: Process

    @property
    def family(self) -> list[int]:
        """The process and all that it started, directly or not."""
        return [self.process.pid, *_descendants(self.process.pid)]

    async def listen(self, tell: Tell) -> None:
        """Pass on what it says, line by line, until it ends."""
        if self.process.stdout is None:
            return
        rest = ""
        async for text in TextReceiveStream(self.process.stdout, errors="replace"):
            *whole, rest = (rest + text).split("\n")
            for line in whole:
                if line.strip():
                    tell(f"{self.name} | {line.strip()}")
        if rest.strip():
            tell(f"{self.name} | {rest.strip()}")


async def start(
    name: str, command: Sequence[str], *, env: Mapping[str, str], log: IO[bytes] | None = None
) -> Child:
    """Start a Python module beside this process. It ends with it, and Ctrl-C does not reach it.

    Args:
        name: What it is called in what it says.
        command: The module, and its arguments.
        env: In addition to this process's own environment.
        log: Where its output goes; left out, `Child.listen` has it.
    """
    process = await anyio.open_process(
        tied.command(command),
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
        stdin=subprocess.DEVNULL,
        stdout=log or subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return Child(name=name, process=process)


async def end(children: Sequence[Child]) -> None:
    """Ask the programs to end, the last first, and kill what has not ended in time.

    One is asked when the one before it has ended with all that it had started: a run that is stopped still
    has to tell the server.
    """
    known: set[int] = set()
    with anyio.move_on_after(GRACE_SECONDS):
        for child in reversed(children):
            if below := child.family[1:]:
                known.update(below)
                for pid in reversed(below):
                    _signal(pid, signal.SIGTERM)
                await _gone(set(below))
                await anyio.sleep(REPORT_SECONDS)
            _signal(child.process.pid, signal.SIGTERM)
            known.update(child.family)
            await child.process.wait()
            await _gone(known)
    for child in reversed(children):
        for pid in {*known, *child.family}:
            _signal(pid, signal.SIGKILL)
        await child.process.wait()
    with anyio.move_on_after(REPORT_SECONDS):
        await _gone(known)


async def _gone(known: set[int]) -> None:
    """Wait until none of the processes is left."""
    while known & {pid for pid, _ in _processes()}:  # noqa: ASYNC110 - nothing tells of others' children
        await anyio.sleep(0.1)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    """All processes below this one."""
    below: dict[int, list[int]] = {}
    for child, parent in _processes():
        below.setdefault(parent, []).append(child)
    found, left = [], [pid]
    while left:
        left = [child for parent in left for child in below.get(parent, [])]
        found += left
    return found


def _processes() -> list[tuple[int, int]]:
    """Every process that has not ended, with its parent."""
    folder = Path("/proc")
    if not (folder / "self/stat").exists():
        command = ["ps", "-A", "-o", "pid=,ppid=,stat="]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - ours
        rows = [line.split() for line in listed.splitlines()]
        return [(int(pid), int(parent)) for pid, parent, state in rows if not state.startswith("Z")]
    found = []
    for entry in folder.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name, in brackets, may hold anything.
                state, parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
                if state != "Z":
                    found.append((int(entry.name), int(parent)))
    return found

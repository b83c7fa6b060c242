"""Worker processes for parsers that a hostile file can hang, crash or fill with memory.

Why not `anyio.to_process` or `multiprocessing`: both run the program's main module again in each worker
(1.5 s where that imports Prefect, and its effects twice where it has no guard), and both unpickle what the
worker sends.

The event loop talks to them itself: a thread that waits for the answer would cost more than many a document.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import weakref
from collections import deque
from pathlib import Path
from typing import IO, TypeVar

from anyio import (
    CancelScope,
    CapacityLimiter,
    WouldBlock,
    fail_after,
    to_thread,
    wait_readable,
    wait_writable,
)

from pipeline.errors import DocweaveError
from pipeline.parse.extract import Extract, Option, Options, Result, Unreadable

_START_SECONDS = 60
_DOCUMENTS_PER_WORKER = 1_024  # then it is replaced: what the native libraries leak, goes
_UTF8_BYTES = 4
_HEAD_BYTES = 16 * 2**20  # of a reply, beside texts and contents: names, metadata
_AT_ONCE = 64 * 1024  # what a pipe holds
_LONGEST_HEAD = 100

# A worker reads untrusted files: no keys for it. Its libraries get one thread each: the parallelism is in the
# processes, and each thread would take some 70 MB of its address space.
_INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT")
_SETTINGS = {"MALLOC_ARENA_MAX": "2", "RAYON_NUM_THREADS": "1", "TOKIO_WORKER_THREADS": "1"}

R = TypeVar("R", bound=Result)


class WorkerFailed(Exception):
    """A document that its reader failed at, in words for the user: another reader may fare better."""


class Workers:
    """Runs readers in processes, each a document at a time.

    A reader is "module:name" of a function from bytes, and options by name, to a `Result`. Processes start
    when they are needed, are used again, and end with this object or with the program, however that ends. One
    event loop at a time may use it.
    """

    def __init__(self, *, count: int, seconds: float, memory_bytes: int, output_chars: int) -> None:
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._output_chars = output_chars
        self._idle: deque[_Worker] = deque()
        self._slots = CapacityLimiter(count)
        weakref.finalize(self, _stop_all, self._idle)

    async def run(self, reader: str, content: bytes, **options: Option) -> Extract:
        """The text that the reader finds in the content.

        Raises:
            As `ask`.
        """
        return await self.ask(Extract, reader, content, options, at_most=self._output_chars)

    async def ask(self, kind: type[R], reader: str, content: bytes, options: Options, *, at_most: int) -> R:
        """What the reader makes of the content, of a size of `at_most`.

        Raises:
            Unreadable: the reader says why nobody can read it.
            WorkerFailed: the reader failed, crashed, or went over a limit.
            DocweaveError: no worker process starts.
        """
        request: dict[str, object] = {
            "reader": reader,
            "options": dict(options),
            "bytes": len(content),
            "seconds": self._seconds,
            "at_most": at_most,
        }
        await self._turn()
        try:
            worker = self._rested() or await self._started()
            try:
                status, reply = await self._converse(worker, request, content, at_most)
            except BaseException:
                with CancelScope(shield=True):
                    await to_thread.run_sync(worker.kill)
                raise
            if worker.served < _DOCUMENTS_PER_WORKER:
                self._idle.append(worker)
            else:
                await to_thread.run_sync(worker.kill)
        finally:
            self._slots.release()
        if status == "ok":
            return kind.unpacked(reply)
        reason = reply.decode(errors="replace")
        raise (Unreadable if status == "refused" else WorkerFailed)(reason)

    async def _turn(self) -> None:
        """Wait until a process is free; where one is, without a round of the event loop."""
        try:
            self._slots.acquire_nowait()
        except WouldBlock:
            await self._slots.acquire()

    def _rested(self) -> _Worker | None:
        """A worker that is idle, and has not been ended meanwhile by somebody who needed its memory."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.kill()
        return None

    async def _started(self) -> _Worker:
        worker = None
        try:
            worker = await to_thread.run_sync(_Worker, self._memory_bytes)
            with fail_after(_START_SECONDS):
                await worker.receive(at_most=0)
        except BaseException as error:
            if worker:
                with CancelScope(shield=True):
                    await to_thread.run_sync(worker.kill)
            if isinstance(error, (OSError, EOFError)):  # TimeoutError is one of the first
                raise DocweaveError(
                    f"no worker process for parsing starts: {type(error).__name__}: {error}"
                ) from error
            raise
        return worker

    async def _converse(
        self, worker: _Worker, request: dict[str, object], content: bytes, at_most: int
    ) -> tuple[str, bytes]:
        try:
            with fail_after(self._seconds):
                await worker.send(request, content)
                return await worker.receive(at_most=_UTF8_BYTES * at_most + _HEAD_BYTES)
        except TimeoutError:
            raise WorkerFailed(f"takes longer than {self._seconds:g} s to parse") from None
        except (OSError, EOFError):
            memory = f"{self._memory_bytes / 2**30:.3g} GiB"
            raise WorkerFailed(f"crashes its parser, or needs more than {memory} of memory") from None


class _Worker:
    """One process, and the conversation with it."""

    def __init__(self, memory_bytes: int) -> None:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= _SETTINGS
        environment["PYTHONPATH"] = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        self.served = 0
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-P", "-m", "pipeline.parse.worker", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        for stream in (self._process.stdin, self._process.stdout):
            os.set_blocking(_open(stream).fileno(), False)

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    async def send(self, request: dict[str, object], content: bytes) -> None:
        """Ask for one document."""
        self.served += 1
        # What fits into the pipe goes in one piece: the process is woken once.
        await self._write(json.dumps(request).encode() + b"\n" + content[:_AT_ONCE])
        await self._write(memoryview(content)[_AT_ONCE:])

    async def receive(self, *, at_most: int) -> tuple[str, bytes]:
        """The next reply.

        Raises:
            EOFError: the process is gone, or says what no worker says.
        """
        head, _, first = (await self._read()).partition(b"\n")
        status, _, length = head[:_LONGEST_HEAD].decode("ascii", errors="replace").partition(" ")
        if not length.isdecimal() or int(length) > at_most:
            raise EOFError
        missing = int(length) - len(first)
        pieces = [first]
        while missing > 0:
            pieces.append(await self._read())
            missing -= len(pieces[-1])
        if missing < 0:
            raise EOFError
        return status, b"".join(pieces)

    async def _write(self, content: bytes | memoryview) -> None:
        requests = _open(self._process.stdin).fileno()
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[os.write(requests, rest) :]
            except BlockingIOError:
                await wait_writable(requests)

    async def _read(self) -> bytes:
        replies = _open(self._process.stdout).fileno()
        await wait_readable(replies)
        piece = os.read(replies, _AT_ONCE)
        if not piece:
            raise EOFError
        return piece

    def kill(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # a request that was half sent
                _open(stream).close()


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101  both were asked for as pipes
    return stream


def _stop_all(idle: deque[_Worker]) -> None:
    while idle:
        idle.pop().kill()

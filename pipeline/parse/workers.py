"""Worker processes for parsers that a hostile file can hang, crash or fill with memory.

Why not `anyio.to_process` or `multiprocessing`: both run the program's main module again in each worker
(1.5 s where that imports Prefect, and its effects twice where it has no guard), and both unpickle what the
worker sends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import weakref
from collections import deque
from pathlib import Path
from typing import IO, TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread

from pipeline.errors import DocweaveError
from pipeline.parse.extract import Extract, Option, Options, Result, Unreadable

_START_SECONDS = 60
_DOCUMENTS_PER_WORKER = 1_024  # then it is replaced: what the native libraries leak, goes
_UTF8_BYTES = 4
_HEAD_BYTES = 16 * 2**20  # of a reply, beside texts and contents: names, metadata

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
        self._threads = CapacityLimiter(count)
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
        async with self._slots:
            worker = self._rested()
            if worker is None:
                worker = await to_thread.run_sync(self._start)
            try:
                status, reply = await to_thread.run_sync(
                    self._converse, worker, request, content, abandon_on_cancel=True, limiter=self._threads
                )
            except BaseException:
                with CancelScope(shield=True):
                    await to_thread.run_sync(worker.kill)
                raise
            if worker.served < _DOCUMENTS_PER_WORKER:
                self._idle.append(worker)
            else:
                await to_thread.run_sync(worker.kill)
        if status == "ok":
            return kind.unpacked(reply)
        reason = reply.decode(errors="replace")
        raise (Unreadable if status == "refused" else WorkerFailed)(reason)

    def _rested(self) -> _Worker | None:
        """A worker that is idle, and has not been ended meanwhile by somebody who needed its memory."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.kill()
        return None

    def _start(self) -> _Worker:
        try:
            worker = _Worker(self._memory_bytes)
            worker.receive(at_most=0, seconds=_START_SECONDS)
        except (OSError, EOFError, TimeoutError) as error:
            raise DocweaveError(
                f"no worker process for parsing starts: {type(error).__name__}: {error}"
            ) from error
        return worker

    def _converse(self, worker: _Worker, request: dict[str, object], content: bytes) -> tuple[str, bytes]:
        at_most = int(str(request["at_most"]))
        try:
            worker.send(request, content)
            # JSON escapes quotes and line feeds: up to twice the text, and a little for each page.
            return worker.receive(at_most=2 * _UTF8_BYTES * at_most + _HEAD_BYTES, seconds=self._seconds)
        except TimeoutError:
            raise WorkerFailed(f"takes longer than {self._seconds:g} s to parse") from None
        except (OSError, EOFError):
            memory = f"{self._memory_bytes / 2**30:.3g} GiB"
            raise WorkerFailed(f"crashes its parser, or needs more than {memory} of memory") from None


class _Worker:
    """One process, and the conversation with it. Blocks: for threads."""

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
        )

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def send(self, request: dict[str, object], content: bytes) -> None:
        """Ask for one document."""
        self.served += 1
        requests = _open(self._process.stdin)
        requests.write(json.dumps(request).encode() + b"\n")
        requests.write(content)
        requests.flush()

    def receive(self, *, at_most: int, seconds: float) -> tuple[str, bytes]:
        """The next reply.

        Raises:
            EOFError: the process is gone, or says what no worker says.
            TimeoutError: it does not begin to answer, and is ended. (Should it stop in the middle of its
                answer, it ends itself: it has set itself an alarm.)
        """
        replies = _open(self._process.stdout)
        answer = select.poll()
        answer.register(replies, select.POLLIN)
        if not answer.poll(seconds * 1000):
            self._process.kill()
            raise TimeoutError
        status, _, length = replies.readline(100).decode("ascii", errors="replace").partition(" ")
        if not length.strip().isdecimal() or int(length) > at_most:
            raise EOFError
        reply = replies.read(int(length))
        if len(reply) < int(length):
            raise EOFError
        return status, reply

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

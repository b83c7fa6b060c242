"""A worker process: requests go ahead of each other, replies come in their order.

Why not `anyio.to_process` or `multiprocessing`: both run the program's main module again in each worker
(1.5 s where that imports Prefect, and its effects twice where it has no guard), and both unpickle what the
worker sends.

The event loop talks to it itself: a thread that waits for the answer would cost more than many a document.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from anyio import wait_readable, wait_writable

from pipeline.parse.frames import Inbox, framed, rest

_PIPE_BYTES = 2**20  # the most that Linux gives to anyone who asks
PAGE_BYTES = mmap.PAGESIZE
"""A pipe holds so many of them, and what is written at once begins on one of its own."""
_HEAD_BYTES = 16 * 2**20  # of a reply, beside texts and contents: names, metadata
_LONGEST_STATUS = 100
_RINGS = 4096

# A worker reads untrusted files: no keys for it. Its libraries get one thread each: the parallelism is in the
# processes, and each thread would take some 70 MB of its address space. It keeps what it frees, to 64 MiB:
# to give pages back and take them again costs more than reading many a document.
_INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT")
_SETTINGS = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "RAYON_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "1",
}


class Process:
    """A worker. Nothing is known of it until it said that it is ready: its first reply."""

    def __init__(self, memory_bytes: int) -> None:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= _SETTINGS
        environment["PYTHONPATH"] = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        self.served = 0
        self._bell, bell = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-P", "-m", "pipeline.parse.worker", str(memory_bytes), str(bell)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                bufsize=0,
                pass_fds=(bell,),
            )
        except BaseException:
            os.close(self._bell)
            raise
        finally:
            os.close(bell)
        self._requests, self._replies = _number(self._process.stdin), _number(self._process.stdout)
        self.room = min(_widened(self._requests), _widened(self._replies)) // PAGE_BYTES
        self._inbox = Inbox(self._replies)
        for pipe in (self._requests, self._replies, self._bell):
            os.set_blocking(pipe, False)

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    async def ready(self) -> None:
        """Wait until it says that it is.

        Raises:
            EOFError: it has ended before.
        """
        await self.rung()
        if not self.replies(at_most=0):  # its end rings, too, before its other pipe is closed
            raise EOFError

    def send_at_once(self, head: bytes, content: bytes) -> None:
        """Ask for a document that fits into the pipe beside what was not answered: into its `room` pages.

        Raises:
            OSError: the process is gone.
        """
        self.served += 1
        pieces = framed(head, content)
        written = 0
        with contextlib.suppress(BlockingIOError):
            written = os.writev(self._requests, pieces)
        if written < sum(map(len, pieces)):
            self._process.kill()  # it did not fit: nobody would notice, and the next would be garbage

    async def send(self, head: bytes, content: bytes) -> None:
        """Ask for a document of any size.

        Raises:
            OSError: the process is gone.
        """
        self.served += 1
        pieces: list[bytes | memoryview] = [*framed(head, content)]
        while pieces:
            try:
                pieces = rest(pieces, os.writev(self._requests, pieces))
            except BlockingIOError:
                await wait_writable(self._requests)

    async def rung(self) -> None:
        """Wait until replies are there: or for more of one that is half there. May ring for nothing."""
        if self._inbox.begun:
            await wait_readable(self._replies)
        else:
            await wait_readable(self._bell)
            os.read(self._bell, _RINGS)

    def replies(self, *, at_most: int) -> list[tuple[str, bytes]]:
        """What has come, in order: what became of a document, and the reply.

        Args:
            at_most: The size of a reply.

        Raises:
            EOFError: the process is gone, or says what no worker says.
        """
        found: list[tuple[str, bytes]] = []
        most = at_most + _HEAD_BYTES
        try:
            more = True
            while more:
                more = self._inbox.fill()
                while reply := self._inbox.next(head_at_most=_LONGEST_STATUS, body_at_most=most):
                    found.append((reply[0].decode("ascii", errors="replace"), reply[1]))
        except BlockingIOError:
            pass
        except EOFError:
            if not found:
                raise
        return found

    def kill(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()
        os.close(self._bell)
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # a request that was half sent
                _open(stream).close()


def _widened(pipe: int) -> int:
    """Let a pipe hold as much as it may; what it holds then, or nothing where the system doesn't tell."""
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        return 0
    with contextlib.suppress(OSError):  # too many such pipes already
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101  both were asked for as pipes
    return stream


def _number(stream: IO[bytes] | None) -> int:
    return _open(stream).fileno()

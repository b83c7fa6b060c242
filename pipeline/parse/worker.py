"""The worker's side of `workers`: reads one document after the other, and may die of any of them.

Started as a program. It says "ready", then answers every request (its head: the reader, its options and the
limits; its body: the content) in order, with "ok", "refused" or "failed", the microseconds of processor time,
and the reply. It ends when its input does.

Each reply is in its pipe before the next document is begun: so it is known which one a worker died of. But
whoever waits for replies is woken by another pipe, the bell: when the last document in hand is begun, so that
there are more by the time that it is done; when nothing is left to do; or every few milliseconds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import marshal
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import cache

from pipeline.parse.extract import Options, Result, Unreadable
from pipeline.parse.frames import Inbox, framed, rest

_GRACE_SECONDS = 2
_RING_SECONDS = 0.03


def main(memory_bytes: int, bell: int) -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program; we end with it
    _limit_memory(memory_bytes)
    os.set_inheritable(bell, False)  # noqa: FBT003  it takes no names
    requests, replies = os.dup(0), _Replies(os.dup(1), bell)
    # A library that reads or prints must not do so in the middle of the conversation.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.set_blocking(requests, False)
    inbox = Inbox(requests)
    replies.send("ready", 0, b"")
    known: set[str] = set()
    with contextlib.suppress(EOFError):
        while True:
            head, content = _next(inbox, requests, replies)
            reader, options, seconds, at_most = marshal.loads(head)  # noqa: S302  by the program that started us
            if not inbox.begun:
                replies.ring()
            began = time.process_time()
            _die_after(seconds + _GRACE_SECONDS)
            status, reply = _answer(reader, content, options, at_most)
            _die_after(0)
            replies.send(status, time.process_time() - began, reply)
            if reader not in known:  # what it has loaded is here to stay: no use in looking for garbage there
                known.add(reader)
                gc.collect()
                gc.freeze()


def _next(inbox: Inbox, requests: int, replies: _Replies) -> tuple[bytes, bytes]:
    """The next request; where there is none yet, those that wait for replies are told so first."""
    while (request := inbox.next()) is None:
        try:
            inbox.fill()
        except BlockingIOError:
            replies.ring()
            select.select([requests], [], [])
            replies.rang = time.perf_counter()
    return request


class _Replies:
    """The way back, and the bell."""

    def __init__(self, pipe: int, bell: int) -> None:
        for written in (pipe, bell):
            os.set_blocking(written, False)
        self._pipe = pipe
        self._bell = bell
        self._heard = True
        self.rang = time.perf_counter()

    def send(self, status: str, seconds: float, reply: bytes) -> None:
        pieces: list[bytes | memoryview] = [*framed(f"{status} {1e6 * seconds:.0f}".encode(), reply)]
        self._heard = False
        while pieces:
            try:
                written = os.writev(self._pipe, pieces)
            except BlockingIOError:
                written = 0
            pieces = rest(pieces, written)
            if pieces:  # somebody has to read what does not fit
                self.ring()
                self._heard = False
                select.select([], [self._pipe], [])
        if time.perf_counter() - self.rang > _RING_SECONDS:
            self.ring()

    def ring(self) -> None:
        if not self._heard:
            with contextlib.suppress(BlockingIOError):  # full of rings that nobody has listened to yet
                os.write(self._bell, b"!")
        self._heard = True
        self.rang = time.perf_counter()


def _answer(reader: str, content: bytes, options: Options, at_most: int) -> tuple[str, bytes]:
    try:
        result = _reader(reader)(content, **options)
        if result.size <= at_most:
            return "ok", result.packed()
        return "refused", f"gives {result.size:,} characters of text; at most {at_most:,} are taken".encode()
    except Unreadable as reason:
        return "refused", str(reason).encode()
    except RecursionError:
        return "failed", b"is nested too deeply"
    except MemoryError:
        return "failed", b"needs more memory than it may have"
    except BaseException as error:  # noqa: BLE001  parsers raise anything, PyO3's panics among it; it is reported
        return "failed", f"is broken: {type(error).__name__}: {error}"[:300].encode(errors="replace")


@cache
def _reader(named: str) -> Callable[..., Result]:
    module, _, name = named.partition(":")
    reader: Callable[..., Result] = getattr(importlib.import_module(module), name)
    return reader


def _limit_memory(memory_bytes: int) -> None:
    try:
        import resource  # noqa: PLC0415  Unix only
    except ImportError:
        return
    with contextlib.suppress(ValueError, OSError):  # macOS knows the limit and does not let it be set
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_after(seconds: float) -> None:
    """Have the system end this process, should the one that waits be killed meanwhile; 0: not any more."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)  # without clearing up: threads of native libraries crash in that now and then

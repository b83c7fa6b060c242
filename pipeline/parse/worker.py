"""The worker's side of `workers`: reads one document after the other, and may die of any of them.

Started as a program. It writes "ready 0", then answers every request (a line of JSON, and the content after
it) with a line, `ok LENGTH` or `refused LENGTH` or `failed LENGTH`, and so many bytes. It ends when its input
does.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from typing import BinaryIO

from pipeline.parse.extract import Options, Result, Unreadable

_GRACE_SECONDS = 2
_AT_ONCE = 32 * 1024


def main(memory_bytes: int) -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program; we end with it
    _limit_memory(memory_bytes)
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # A library that reads or prints must not do so in the middle of the conversation.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    _send(replies, "ready", b"")
    while line := requests.readline():
        request = json.loads(line)
        content = requests.read(request["bytes"])
        _die_after(request["seconds"] + _GRACE_SECONDS)
        status, reply = _answer(request["reader"], content, request["options"], request["at_most"])
        _die_after(0)
        _send(replies, status, reply)


def _answer(reader: str, content: bytes, options: Options, at_most: int) -> tuple[str, bytes]:
    module, _, name = reader.partition(":")
    try:
        result: Result = getattr(importlib.import_module(module), name)(content, **options)
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


def _send(replies: BinaryIO, status: str, reply: bytes) -> None:
    # The first line must come whole; and a short answer in one piece wakes the one who waits once.
    replies.write(f"{status} {len(reply)}\n".encode() + reply[:_AT_ONCE])
    replies.write(memoryview(reply)[_AT_ONCE:])
    replies.flush()


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
    main(int(sys.argv[1]))
    os._exit(0)  # without clearing up: threads of native libraries crash in that now and then

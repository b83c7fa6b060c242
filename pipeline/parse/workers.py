"""Worker processes for parsers that a hostile file can hang, crash or fill with memory.

A worker that rests is given a document. One that is at work is given more, as long as it will soon have read
what it has in hand: it finds them in its pipe, and nobody has to be woken for each. Whoever asked for the
document in front holds the conversation: it listens for replies and tells the others, until its own is there;
then the next one does. So there is no task of our own, and a caller that is cancelled ends the worker.
"""

from __future__ import annotations

import marshal
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import TypeVar

from anyio import CancelScope, fail_after, move_on_after, sleep, to_thread

from pipeline.errors import DocweaveError
from pipeline.parse.extract import Extract, Option, Options, Result, Unreadable
from pipeline.parse.process import Process
from pipeline.parse.talk import DOCUMENTS_PER_WORKER, SOON, Asked, Talk

_START_SECONDS = 60
_AGAIN_SECONDS = (1, 5)  # after which one that did not start is tried again: a short want of memory passes
_UTF8_BYTES = 4
_LOOK_SECONDS = 0.1  # after which replies are looked for that no bell has told of
_PATIENCE_SECONDS = 0.5  # that others wait behind a document that takes longer than was to be expected
_STATUSES = {"ok", "refused", "failed"}
_LATEST_SHARE = 0.5  # of the latest document in what is expected of the next one

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
        self._idle: deque[Process] = deque()
        self._count = self._free = count  # of talks at a time; and how many may yet begin
        self._talks: list[Talk] = []
        self._waiting: deque[Asked] = deque()
        self._expected: dict[str, float] = {}  # processor seconds a document, by reader
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
        head = marshal.dumps((reader, dict(options), self._seconds, at_most))
        expected = self._expected.get(reader, SOON)
        asked = Asked(
            reader=reader, head=head, content=content, at_most=_UTF8_BYTES * at_most, expected=expected
        )
        await self._answer(asked)
        if asked.status == "ok":
            return kind.unpacked(asked.reply)
        reason = asked.reply.decode(errors="replace")
        raise (Unreadable if asked.status == "refused" else WorkerFailed)(reason)

    async def _answer(self, asked: Asked) -> None:
        if self._free:
            self._free -= 1
            asked.talk = Talk(holder=asked)
        else:
            self._waiting.append(asked)
            self._hand_out()
            try:
                await asked.told.wait()
            except BaseException:
                await self._give_up(asked)
                raise
        talk, asked.talk = asked.talk, None  # else each would keep the other, and so the content, in memory
        if talk:
            await self._hold(talk, asked)

    async def _give_up(self, asked: Asked) -> None:
        asked.given_up = True
        if asked.talk:
            await self._abandon(asked.talk)
        elif asked in self._waiting:
            self._waiting.remove(asked)

    async def _hold(self, talk: Talk, asked: Asked) -> None:
        """Converse with the worker until the document is answered; then the next one does."""
        try:
            while not asked.status:
                if asked in talk.in_hand:
                    await self._listen(talk)
                else:
                    await self._begin(talk, asked)
                self._hand_out()
        except BaseException:
            asked.given_up = True
            await self._abandon(talk)
            raise
        await self._pass_on(talk)

    async def _begin(self, talk: Talk, asked: Asked) -> None:
        talk.worker, talk.spoiled = self._rested() or await self._started(), False
        talk.since = time.monotonic()
        talk.take(asked)
        self._talks.append(talk)
        try:
            with fail_after(self._seconds):
                await talk.worker.send(asked.head, asked.content)
        except OSError as error:  # TimeoutError is one
            await self._lose(talk, self._reason(error))

    async def _listen(self, talk: Talk) -> None:
        """Tell those whose replies have come, or that there will be none."""
        try:
            for status, reply in await self._heard(talk):
                self._settle(talk, status, reply)
        except (OSError, EOFError) as error:
            await self._lose(talk, self._reason(error))

    async def _heard(self, talk: Talk) -> list[tuple[str, bytes]]:
        """The next replies. Where a slow document follows, they are looked for, since no bell rings."""
        assert talk.worker is not None  # noqa: S101  it was begun
        first, waited = talk.in_hand[0], time.monotonic() - talk.since
        left = self._seconds - waited
        at_most = max(asked.at_most for asked in talk.in_hand)
        with move_on_after(min(_LOOK_SECONDS, left)):
            await talk.worker.rung()
        found = talk.worker.replies(at_most=at_most)
        if not found and left <= 0:
            raise TimeoutError
        if not found and waited > _PATIENCE_SECONDS:
            if first.given_up:
                raise EOFError
            if self._count > 1:
                self._take_back(talk)
        return found

    def _settle(self, talk: Talk, status: str, reply: bytes) -> None:
        status, _, microseconds = status.partition(" ")
        if not talk.in_hand or status not in _STATUSES or not microseconds.isdecimal():
            raise EOFError
        asked, talk.since = talk.first(), time.monotonic()
        took = int(microseconds) / 1e6
        expected = self._expected.get(asked.reader, took)
        self._expected[asked.reader] = expected + _LATEST_SHARE * (took - expected)
        asked.settle(status, reply)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"takes longer than {self._seconds:g} s to parse"
        return f"crashes its parser, or needs more than {self._memory_bytes / 2**30:.3g} GiB of memory"

    async def _lose(self, talk: Talk, reason: str) -> None:
        """End a worker that the document in front was too much for; it alone has failed."""
        if talk.in_hand:
            talk.first().settle("failed", reason.encode())
        await self._end(talk)

    async def _end(self, talk: Talk) -> None:
        """End a worker; what it had in hand is read by another."""
        worker, talk.worker = talk.worker, None
        if worker:
            with CancelScope(shield=True):
                await to_thread.run_sync(worker.kill)
        if talk in self._talks:
            self._talks.remove(talk)
        self._take_back(talk, but=0)

    async def _abandon(self, talk: Talk) -> None:
        await self._end(talk)
        await self._pass_on(talk)

    def _take_back(self, talk: Talk, *, but: int = 1) -> None:
        """Have others read what a worker has in hand, without the first."""
        kept = [talk.first() for _ in range(but)]
        others = list(talk.in_hand)
        talk.in_hand.clear()
        talk.seconds = talk.pages = 0
        for asked in kept:
            talk.take(asked)
        if others:
            talk.spoiled = True
            again = [asked for asked in others if not asked.given_up and asked is not talk.holder]
            self._waiting.extendleft(reversed(again))
            self._hand_out()

    async def _pass_on(self, talk: Talk) -> None:
        """Let the next one hold the conversation, or the worker rest."""
        for asked in talk.in_hand:
            if not asked.given_up:
                self._tell(asked, talk)
                return
        if talk.worker:
            if talk.in_hand or talk.spoiled or talk.worker.served >= DOCUMENTS_PER_WORKER:
                await self._end(talk)
            else:
                self._talks.remove(talk)
                self._idle.append(talk.worker)
        self._free += 1
        self._hand_out()

    def _tell(self, asked: Asked, talk: Talk) -> None:
        """That it is to hold this conversation."""
        talk.holder = asked
        asked.talk = talk
        asked.told.set()

    def _hand_out(self) -> None:
        """Give what waits to workers that rest, or that will soon be done with what they have."""
        while self._waiting and self._free:
            self._free -= 1
            asked = self._waiting.popleft()
            self._tell(asked, Talk(holder=asked))
        while self._waiting:
            open_talks = [talk for talk in self._talks if talk.has_room(self._waiting[0])]
            if not open_talks:
                return
            min(open_talks, key=lambda talk: len(talk.in_hand)).add(self._waiting.popleft())

    def _rested(self) -> Process | None:
        """A worker that is idle, and has not been ended meanwhile by somebody who needed its memory."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.kill()
        return None

    async def _started(self) -> Process:
        """A new worker, though the system may have killed one or two before they were ready.

        Raises:
            DocweaveError: none starts.
        """
        for seconds in _AGAIN_SECONDS:
            with suppress(OSError, EOFError):
                return await self._start()
            await sleep(seconds)
        try:
            return await self._start()
        except (OSError, EOFError) as error:  # TimeoutError is one of the first
            why = "it ends before it is ready, as it does where the machine is short of memory"
            why = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else why
            raise DocweaveError(
                f"no worker process for parsing starts, at {len(_AGAIN_SECONDS) + 1} tries: {why}"
            ) from error

    async def _start(self) -> Process:
        worker = None
        try:
            worker = await to_thread.run_sync(Process, self._memory_bytes)
            with fail_after(_START_SECONDS):
                await worker.ready()
        except BaseException:
            if worker:
                with CancelScope(shield=True):
                    await to_thread.run_sync(worker.kill)
            raise
        return worker


def _stop_all(idle: deque[Process]) -> None:
    while idle:
        idle.pop().kill()

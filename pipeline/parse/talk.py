"""A document that is waited for, and a worker with those that it has in hand."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field

from anyio import Event

from pipeline.parse.process import PAGE_BYTES, Process

DOCUMENTS_PER_WORKER = 1_024  # then it is replaced: what the native libraries leak, goes
SOON = 0.03
"""Seconds of work that a worker may have in hand when it is given more."""
_MOST_IN_HAND = 8


@dataclass(slots=True, eq=False, kw_only=True)
class Asked:
    """A document that is waited for."""

    reader: str
    head: bytes
    content: bytes
    at_most: int
    expected: float
    """Seconds that it will take, as far as can be told."""
    told: Event = field(default_factory=Event)
    """Of the answer, or that the conversation is to be held."""
    talk: Talk | None = None
    """The one that it is to hold."""
    status: str = ""
    """Of the answer; empty until there is one."""
    reply: bytes = b""
    given_up: bool = False

    @property
    def pages(self) -> int:
        """Of a pipe that it fills."""
        return (len(self.head) + len(self.content)) // PAGE_BYTES + 2

    def settle(self, status: str, reply: bytes) -> None:
        """Give the answer to whoever waits for it."""
        self.status, self.reply = status, reply
        self.told.set()


@dataclass(slots=True, eq=False)
class Talk:
    """A worker at work, or one that is to be."""

    holder: Asked
    """Whoever listens to it."""
    worker: Process | None = None
    in_hand: deque[Asked] = field(default_factory=deque)
    """What was sent and not answered, in order; the worker is at the first."""
    since: float = 0
    """When we knew that the worker is at the first, by the monotonic clock."""
    seconds: float = 0
    pages: int = 0
    """What all in hand will take, and how much of the pipe it may fill."""
    spoiled: bool = False
    """Whether the worker was sent what is read elsewhere by now."""

    def take(self, asked: Asked) -> None:
        """Note that it has this in hand, too."""
        self.in_hand.append(asked)
        self.seconds += asked.expected
        self.pages += asked.pages

    def first(self) -> Asked:
        """Take what is in front out of its hand."""
        asked = self.in_hand.popleft()
        self.seconds -= asked.expected
        self.pages -= asked.pages
        return asked

    def has_room(self, asked: Asked) -> bool:
        """Whether the worker will soon be done with what it has, and another document fits into its pipe."""
        return (
            self.worker is not None
            and not self.spoiled
            and self.seconds < SOON
            and len(self.in_hand) < _MOST_IN_HAND
            and self.pages + asked.pages <= self.worker.room
            and self.worker.served < DOCUMENTS_PER_WORKER
        )

    def add(self, asked: Asked) -> None:
        """Have the worker read another document, for which there is room."""
        self.take(asked)
        if self.worker:
            with contextlib.suppress(OSError):  # it is gone: whoever listens to it will hear of that
                self.worker.send_at_once(asked.head, asked.content)

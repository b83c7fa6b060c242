"""The conversation with a server of SFTP: one that answers in parts and out of turn, or is none."""

from __future__ import annotations

import io
import random
import struct
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors._sftp import Attributes, Ended, Failure, Garbled, Session

STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105


def text(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


@dataclass
class Server:
    """Holds one file. Gives less than it is asked for, and answers what waits in any order."""

    content: bytes
    chance: random.Random
    received: bytearray = field(default_factory=bytearray)
    waiting: list[bytes] = field(default_factory=list)
    said: bytearray = field(default_factory=bytearray)

    def write(self, packet: bytes) -> None:
        self.received += packet
        while len(self.received) >= 4 and len(self.received) >= 4 + (
            size := struct.unpack_from(">I", self.received)[0]
        ):
            self.waiting.append(self._answer(bytes(self.received[4 : 4 + size])))
            del self.received[: 4 + size]

    def flush(self) -> None: ...

    def read(self, count: int) -> bytes:
        if len(self.said) < count:
            self.chance.shuffle(self.waiting)
            self.said += b"".join(text(packet) for packet in self.waiting)
            self.waiting.clear()
        found = bytes(self.said[:count])
        del self.said[:count]
        return found

    def _answer(self, asked: bytes) -> bytes:
        if asked[0] == 1:
            return struct.pack(">BI", 2, 3)
        number, about = asked[1:5], struct.pack(">IQ", 1, len(self.content))
        if asked[0] == 5:
            at, most = struct.unpack_from(">QI", asked, len(asked) - 12)
            part = self.content[at : at + self.chance.randint(1, most)]
            if not part:
                return struct.pack(">B4sI", STATUS, number, Failure.EOF)
            return bytes([DATA]) + number + text(part)
        replies = {
            3: bytes([HANDLE]) + number + text(b"handle"),
            4: struct.pack(">B4sI", STATUS, number, 0),
            16: bytes([NAME]) + number + struct.pack(">I", 1) + text(b"/real") + text(b"") + about,
            17: bytes([ATTRS]) + number + about,
        }
        return replies[asked[0]]


@given(seed=st.integers(0, 1000), size=st.integers(0, 200_000), told=st.integers(-3, 3))
def test_a_file_is_whole_however_it_is_given(seed: int, size: int, told: int) -> None:
    content = random.Random(seed).randbytes(size)
    server: Any = Server(content, random.Random(seed))
    session = Session(server, server)
    session.greet()
    [(path, about)] = session.found([b"x"])
    assert (path, about) == (b"/real", Attributes(size=size))
    handle = session.open(b"/real")
    assert isinstance(handle, bytes)
    said = max(0, size + told)
    assert session.read(handle, said) == content[: said + 1]
    session.close(handle)


@given(said=st.binary(max_size=200), greeted=st.booleans())
def test_what_is_no_server_is_told_and_nothing_else_is_raised(said: bytes, greeted: bool) -> None:  # noqa: FBT001
    greeting = struct.pack(">IBI", 5, 2, 3) if greeted else b""
    session = Session(io.BytesIO(), io.BytesIO(greeting + said))

    def talk() -> None:
        session.greet()
        session.folders([b"x"])

    with pytest.raises((Ended, Garbled)):
        talk()


@given(st.sampled_from([STATUS, HANDLE, DATA, NAME, ATTRS]), st.binary(max_size=60))
def test_a_reply_of_any_content_is_an_answer_or_garbled(kind: int, body: bytes) -> None:
    reply = text(struct.pack(">BI", kind, 0) + body)
    for ask in (Session.open, Session.told, lambda session, path: session.read(path, 10)):
        session = Session(io.BytesIO(), io.BytesIO(reply))
        try:
            answer = ask(session, b"x")
        except (Ended, Garbled):
            continue
        assert isinstance(answer, bytes | Failure | Attributes)

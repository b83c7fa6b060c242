"""What stands before a server of SFTP in tests: it notes what is asked, and fails as a folder's files say.

    python tests/sftp_front.py FOLDER PROGRAM

PROGRAM is a server of SFTP, as sshd starts it. In FOLDER, each line of the file `rules` is one of

    refuse ASK NUMBER CODE   the request of this kind with this number, of all sessions, gets this status
    refuse PATH CODE         so does everything that is asked of a path that ends so
    hang-up ASK NUMBER       the connection ends in place of an answer
    silence ASK NUMBER       there is no answer

and to `asked`, a line is written for every request.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

NAMES = {3: "OPEN", 5: "READ", 7: "LSTAT", 11: "OPENDIR", 12: "READDIR", 16: "REALPATH", 17: "STAT"}
WITH_PATH = {"OPEN", "LSTAT", "OPENDIR", "REALPATH", "STAT"}
STATUS = 101


def packet(stream: BinaryIO) -> bytes:
    """The next one, without its length; empty at the end."""
    head = stream.read(4)
    return stream.read(struct.unpack(">I", head)[0]) if len(head) == 4 else b""


def text(body: bytes) -> bytes:
    [size] = struct.unpack_from(">I", body)
    return body[4 : 4 + size]


class Front:
    """One session."""

    def __init__(self, folder: Path, program: str) -> None:
        rules = folder / "rules"
        self.rules = [line.split() for line in rules.read_text().splitlines()] if rules.exists() else []
        self.asked = (folder / "asked").open("a")
        self.so_far = [line.split()[0] for line in (folder / "asked").read_text().splitlines()]
        self.server = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.turn = threading.Lock()

    def run(self) -> None:
        threading.Thread(target=self.answers, daemon=True).start()
        assert self.server.stdin
        while asked := packet(sys.stdin.buffer):
            name = NAMES.get(asked[0], "")
            path = text(asked[5:]).decode("utf-8", "replace") if name in WITH_PATH else ""
            self.asked.write(f"{name or '-'} {path}\n")
            self.asked.flush()
            self.so_far.append(name)
            if not self.spoilt(name, path, asked[1:5]):
                self.server.stdin.write(struct.pack(">I", len(asked)) + asked)
                self.server.stdin.flush()
        self.server.kill()

    def spoilt(self, name: str, path: str, number: bytes) -> bool:
        """Whether a rule takes the request."""
        count = str(self.so_far.count(name))
        for what, *words in self.rules:
            if what == "refuse" and (
                words[:2] == [name, count] or (len(words) == 2 and path.endswith(words[0]))
            ):
                status = struct.pack(">B4sI", STATUS, number, int(words[-1])) + struct.pack(">II", 0, 0)
                self.send(status)
                return True
            if words == [name, count]:
                if what == "hang-up":
                    self.server.kill()
                    os._exit(1)
                return True
        return False

    def answers(self) -> None:
        assert self.server.stdout
        while said := packet(self.server.stdout):
            self.send(said)
        os._exit(0)

    def send(self, said: bytes) -> None:
        with self.turn:
            sys.stdout.buffer.write(struct.pack(">I", len(said)) + said)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    Front(Path(sys.argv[1]), sys.argv[2]).run()

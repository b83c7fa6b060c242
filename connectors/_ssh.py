"""The program ssh, started so that it asks nobody, trusts no host that is not known, and forwards nothing.

Blocks: for a worker thread. Its settings (`~/.ssh/config`), agent and known hosts are the user's, as with
git; what is decided here stands before them.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeVar

from pydantic import SecretStr

from connectors._sftp import Ended, Garbled, Session
from pipeline.errors import SourceError, SourceRefused, SourceUnavailable

Result = TypeVar("Result")

SECONDS: Final = 60.0
"""That a server may say nothing."""
_DECIDED: Mapping[str, str] = {
    "StrictHostKeyChecking": "yes",
    "NoHostAuthenticationForLocalhost": "no",
    "VerifyHostKeyDNS": "no",
    "UpdateHostKeys": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "ControlMaster": "no",
    "ControlPath": "none",
    "NumberOfPasswordPrompts": "1",
    "ConnectTimeout": "30",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
    "LogLevel": "ERROR",
}
_SECRET_IN, _ASKED_BY = "DOCWEAVE_SSH_SECRET", "DOCWEAVE_SSH_ASKED_BY"
_ASKPASS = f"""#!/bin/sh
case "$1" in *"${_ASKED_BY}"*) printf '%s\\n' "${_SECRET_IN}" ;; *) exit 1 ;; esac
"""
"""What ssh runs with its question. A jump host's ssh runs it, too, and gets nothing."""
_KEPT = 1 << 14
"""Bytes of what ssh says. Why it ends, it says last."""
_SHOWN = 100
"""Bytes of a key's path that ssh's question shows."""

_REFUSALS: Mapping[str, str] = {
    "remote host identification has changed": "the server shows another host key than the known one: if it "
    "was changed on purpose, put the new one into known_hosts",
    "revoked": "the server's host key is revoked in known_hosts",
    "host key verification failed": "the server's host key is not known: put it into ~/.ssh/known_hosts, or "
    "into the file that options.known_hosts names (ssh-keyscan shows it; compare its fingerprint with what "
    "the server's owner says)",
    "error in libcrypto": "options.private_key is no private key",
    "invalid format": "options.private_key is no private key",
    "permission denied": (
        "the user name, key or password is not accepted, or the key's passphrase is not right"
    ),
    "too many authentication failures": "the user name, key or password is not accepted",
    "subsystem request failed": "the server has no SFTP for this user",
    "bad configuration": "ssh does not understand its settings",
    "no matching": "the server and ssh have no algorithm in common",
}
"""What waiting does not mend, by what ssh says of it, and what it means."""
_OUTAGES: Mapping[str, str] = {
    "could not resolve": "the host name cannot be resolved",
    "connection refused": "the server refuses connections",
    "timed out": "the server does not answer",
    "not responding": "the server does not answer any more",
    "no route": "the server cannot be reached",
    "unreachable": "the server cannot be reached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A server, and who asks. What is left out is as ssh's own settings have it."""

    host: str
    port: int | None = None
    user: str | None = None
    password: SecretStr | None = None
    private_key: SecretStr | None = None
    """Its text."""
    passphrase: SecretStr | None = None
    """Of the private key."""
    known_hosts: Path | None = None

    def command(self, folder: str) -> Sequence[str]:
        """What is run; the folder is where `prepare` has put what it needs."""
        options = dict(_DECIDED)
        if self.known_hosts is not None:
            known = str(self.known_hosts).replace("%", "%%")
            options |= {"UserKnownHostsFile": f'"{known}"', "GlobalKnownHostsFile": os.devnull}
        if self.secret is None:
            options["BatchMode"] = "yes"
        if self.password is not None:
            options["PreferredAuthentications"] = "password,keyboard-interactive"
            options |= {"PubkeyAuthentication": "no", "ProxyCommand": "none"}
        if self.private_key is not None:
            options["PreferredAuthentications"] = "publickey"
            options |= {"IdentitiesOnly": "yes", "IdentityAgent": "none"}
        where = [
            *(("-i", str(Path(folder, "key"))) if self.private_key is not None else ()),
            *(("-p", str(self.port)) if self.port is not None else ()),
            *(("-l", self.user) if self.user is not None else ()),
        ]
        told = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-T", "-x", "-a", *told, *where, "-s", "--", self.host, "sftp"]

    @property
    def secret(self) -> SecretStr | None:
        """What ssh may ask for."""
        return self.password if self.password is not None else self.passphrase

    def prepare(self, folder: str) -> Mapping[str, str]:
        """Write what ssh reads into the folder, and give its environment. No secret is an argument."""
        environment = {**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
        if self.private_key is not None:
            _write(Path(folder, "key"), self.private_key.get_secret_value().strip() + "\n", 0o600)
        if self.secret is not None:
            ask = Path(folder, "askpass")
            _write(ask, _ASKPASS, 0o700)
            key = os.fsencode(Path(folder, "key"))
            asked_by = "" if self.password is not None else os.fsdecode(key[:_SHOWN])
            environment |= {
                "SSH_ASKPASS": str(ask),
                "SSH_ASKPASS_REQUIRE": "force",
                "DISPLAY": os.environ.get("DISPLAY", ":0"),  # versions before 8.4 want it
                _ASKED_BY: asked_by,
                _SECRET_IN: self.secret.get_secret_value(),
            }
        return environment


class Connection:
    """A running ssh. It is ended with `close`, or when nobody holds it any more."""

    def __init__(self, login: Login, where: str) -> None:
        """Start it; `ask` waits for the server. `where` begins the messages.

        Raises:
            SourceRefused: there is no ssh, or none that we may run.
            SourceUnavailable: this machine lacks what it takes to run it.
        """
        self._where = where
        self._greeted = False
        self._overdue = False
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="docweave-")
        except OSError as error:
            raise _not_started(where, error) from error
        try:
            environment = login.prepare(self._folder.name)
            self._process = subprocess.Popen(  # noqa: S603 - the settings' host and user, as `storage` checks them
                login.command(self._folder.name),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self._folder.cleanup()
            raise _not_started(where, error) from error
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        assert self._process.stdout is not None  # noqa: S101
        assert self._process.stderr is not None  # noqa: S101
        self._said = _Said(self._process.stderr)
        self._session = Session(self._process.stdin, self._process.stdout)
        self.close = weakref.finalize(self, _end, self._process, self._folder)

    def lives(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, work: Callable[[Session], Result]) -> Result:
        """Do something with the session.

        Raises:
            SourceRefused: the server or its key is not accepted, or does not accept us.
            SourceUnavailable: it does not answer, or stopped to.
        """
        done = threading.Event()
        threading.Thread(target=self._watch, args=(done,), daemon=True).start()
        try:
            if not self._greeted:
                self._session.greet()
                self._greeted = True
                self._folder.cleanup()
            return work(self._session)
        except Garbled:
            raise SourceRefused(
                f"{self._where}: what answers is no server of SFTP; does the account print a text at login?"
            ) from None
        except Ended:
            raise self._error() from None
        finally:
            done.set()

    def _watch(self, done: threading.Event) -> None:
        """End it, if the session has no more packets after a while and is not done."""
        packets = self._session.packets
        while not done.wait(SECONDS):
            if self._session.packets == packets:
                self._overdue = True
                self._process.kill()
                return
            packets = self._session.packets

    def _error(self) -> SourceError:
        """Why ssh has ended. What it says may be the server's words: none of them is passed on."""
        if self._overdue:
            return SourceUnavailable(f"{self._where}: the server has said nothing for {SECONDS:g} seconds")
        self._end_of_words()
        said = self._said.all().decode("utf-8", "replace").lower()
        for pattern, meaning in _REFUSALS.items():
            if pattern in said:
                return SourceRefused(f"{self._where}: {meaning}")
        for pattern, meaning in _OUTAGES.items():
            if pattern in said:
                return SourceUnavailable(f"{self._where}: {meaning}")
        return SourceUnavailable(f"{self._where}: the server closed the connection")

    def _end_of_words(self) -> None:
        """Wait for ssh to have said why: it closes its output first."""
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()


class _Said:
    """The last of what ssh says. A thread reads it, so that ssh never waits for somebody who does."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept = bytearray()
        self._thread = threading.Thread(target=_keep, args=(stream, self._kept), daemon=True)
        self._thread.start()

    def all(self) -> bytes:
        """As far as it is kept, once ssh has ended."""
        self._thread.join(1)  # a jump host's ssh may go on
        return bytes(self._kept)


def _keep(stream: IO[bytes], kept: bytearray) -> None:
    with stream:
        while part := os.read(stream.fileno(), _KEPT):
            kept += part
            del kept[:-_KEPT]


def _not_started(where: str, error: OSError) -> SourceError:
    if error.filename == "ssh" and isinstance(error, FileNotFoundError):
        return SourceRefused(f"{where}: the command ssh is not installed")
    if error.filename == "ssh" and isinstance(error, PermissionError):
        return SourceRefused(
            f"{where}: the command ssh may not be run; valid: one on PATH that this user may"
        )
    return SourceUnavailable(
        f"{where}: ssh cannot be started: {error.strerror}; it takes a process more, and a temporary folder "
        "that can be written (TMPDIR)"
    )


def _end(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    process.wait()
    for file in (process.stdin, process.stdout):
        if file is not None:
            with suppress(OSError):  # what was not yet sent
                file.close()
    folder.cleanup()


def _write(path: Path, content: str, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(content)

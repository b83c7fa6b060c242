"""OpenSSH's server on this machine, for this user alone, with keys made for the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

PASSPHRASE = "the-passphrase-4711"
_PROGRAMS = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/libexec", "/usr/lib/ssh")
_FRONT = Path(__file__).with_name("sftp_front.py")


def missing() -> str:
    """What must be installed; empty if all is there."""
    there = shutil.which("ssh") and _sshd() and _sftp_server()
    return "" if there else "needs OpenSSH's client and server: apt install openssh-client openssh-server"


@dataclass(frozen=True)
class Sshd:
    """A server that runs: at `port` as OpenSSH has it, at `front` behind `tests.sftp_front`."""

    folder: Path
    port: int
    front: int

    @property
    def key(self) -> str:
        """A private key that it accepts."""
        return (self.folder / "key").read_text()

    @property
    def locked_key(self) -> str:
        """The same, with a passphrase."""
        return (self.folder / "locked").read_text()

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def user(self) -> str:
        return getpass.getuser()

    def rule(self, *lines: str) -> None:
        """Have the front fail so from now on; forget what was asked."""
        (self.folder / "asked").write_text("")
        (self.folder / "rules").write_text("".join(line + "\n" for line in lines))

    def asked(self, kind: str) -> list[str]:
        """The paths of the requests of this kind at the front, since the last `rule`."""
        lines = (self.folder / "asked").read_text().splitlines()
        return [path for name, _, path in (line.partition(" ") for line in lines) if name == kind]


def new_key(file: Path, passphrase: str = "") -> None:
    """Make a private key in this file, and beside it the public one."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(file)]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def serving(folder: Path) -> Iterator[Sshd]:
    """A server whose files are in the folder."""
    for name in ("host", "key"):
        new_key(folder / name)
    new_key(folder / "locked", PASSPHRASE)
    keys = "".join((folder / f"{name}.pub").read_text() for name in ("key", "locked"))
    (folder / "authorized").write_text(keys)
    (folder / "rules").touch()
    (folder / "asked").touch()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd wants an empty folder, if it is root
    process, server = _started(folder)
    with process:
        try:
            yield server
        finally:
            process.terminate()


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], Sshd]:
    """A server at ports of its own: others may take one before it does, and then it tries others."""
    for _ in range(5):
        server = Sshd(folder, _free_port(), _free_port())
        host = " ".join((folder / "host.pub").read_text().split()[:2])
        known = [f"[127.0.0.1]:{port} {host}\n" for port in (server.port, server.front)]
        server.known_hosts.write_text("".join(known))
        _configure(server)
        log = folder / "log"
        with log.open("w") as said:
            process = subprocess.Popen([_sshd(), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=said)
        if _listens(process, log):
            return process, server
        process.terminate()
        process.wait()
    raise RuntimeError(f"sshd does not run: {log.read_text()}")


def _configure(server: Sshd) -> None:
    folder = server.folder
    command = f"{sys.executable} -I -S {_FRONT} {folder} {_sftp_server()}"
    (folder / "sshd_config").write_text(
        f"""
        ListenAddress 127.0.0.1:{server.port}
        ListenAddress 127.0.0.1:{server.front}
        HostKey {folder}/host
        AuthorizedKeysFile {folder}/authorized
        PidFile none
        UsePAM no
        StrictModes no
        PermitRootLogin prohibit-password
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        MaxStartups 100
        Subsystem sftp internal-sftp
        Match LocalPort {server.front}
            ForceCommand {command}
        """
    )


def _sshd() -> str:
    """The path of sshd, which wants to be started by it."""
    return (
        shutil.which(
            "sshd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
        )
        or ""
    )


def _sftp_server() -> str:
    return shutil.which("sftp-server", path=os.pathsep.join(_PROGRAMS)) or ""


def _free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _listens(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether it listens at both ports, once it does or cannot."""
    for _ in range(1000):
        said = log.read_text()
        if said.count("Server listening on") == 2:
            return True
        if process.poll() is not None or "Cannot assign" in said or "Bind to port" in said:
            return False
        time.sleep(0.02)
    return False

"""Whether a process that was on this machine is still there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
ENDED = frozenset("ZX")
"""States of a process that runs no more, and that its parent has not asked for yet."""


def this_process() -> str:
    """A name that no other process has had or will have; empty where the system tells too little."""
    return _name(os.getpid())


def is_gone(process: str) -> bool:
    """Whether the process of this name has certainly ended.

    False for one that may be on another machine, or in a container of its own: nobody can tell from here.
    """
    machine, _, rest = process.rpartition(":")
    pid = rest.partition(".")[0]
    if not pid.isdecimal() or machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and somebody else's
        pass
    now = _name(int(pid))
    return bool(now) and (now != process or _field(int(pid), 0) in ENDED)


def _name(pid: int) -> str:
    """The machine since it was started, the numbering that the pid belongs to, the pid, when it began."""
    machine, began = _machine(), _field(pid, 19)
    return f"{machine}:{pid}.{began}" if machine and began else ""


def _machine() -> str:
    with suppress(OSError):
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{(PROC / 'self/ns/pid').stat().st_ino}"
    return ""


def _field(pid: int, number: int) -> str:
    """A field of /proc/PID/stat, counted from the state (see proc(5)); empty where there is none."""
    with suppress(OSError, IndexError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[number]
    return ""

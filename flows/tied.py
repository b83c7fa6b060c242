"""Starts a program that ends when the process that started it is gone, were it killed.

    python -m flows.tied PARENT_PID PROGRAM ARGUMENT...

On Linux the kernel sees to it; elsewhere the program is just started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def command(module: Sequence[str]) -> list[str]:
    """What starts a Python module, with its arguments, tied to this process."""
    python = [sys.executable, "-m"]
    return [*python, "flows.tied", str(os.getpid()), *python, *module]


def main() -> None:
    """Become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()

"""A few of the kills of benchmarks/crashes.py: what hundreds of them show stands in docs/performance.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_runs_that_are_killed_at_random_moments_end_as_if_they_had_not_been() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "crashes.py"), "--kills", "5"]
    # A process of its own: it forks, which one that runs other tests must not.
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^kills +[5-9]", done.stdout, re.MULTILINE)
    assert re.search(r"^end states unlike the undisturbed one +0$", done.stdout, re.MULTILINE)

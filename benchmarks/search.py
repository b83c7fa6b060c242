"""How long `docweave search` takes, start of the process included.

    python benchmarks/search.py SETTINGS.yaml "a question"

Prints the median and the slowest of some runs for each mode, beside a Python process that does nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 9
DOCWEAVE = Path(sys.executable).with_name("docweave")


def seconds(command: list[str]) -> list[float]:
    subprocess.run(command, check=True, capture_output=True)  # the first run fills the file cache
    took = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    return took


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    settings, question = sys.argv[1:]
    search = [str(DOCWEAVE), "search", "--config", settings, question]
    commands = {"python -c pass": [sys.executable, "-c", "pass"]} | {
        f"docweave search --mode {mode}": [*search, "--mode", mode] for mode in ("hybrid", "vector", "text")
    }
    print("| command | median s | slowest s |\n|---|---|---|")
    for label, command in commands.items():
        took = seconds(command)
        print(f"| `{label}` | {statistics.median(took):.2f} | {max(took):.2f} |", flush=True)


if __name__ == "__main__":
    main()

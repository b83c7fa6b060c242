"""What `docweave deploy` takes: so many sources, each with a schedule of its own, on a real server.

    python benchmarks/deploy.py                     100 sources; fails beyond 60 s
    python benchmarks/deploy.py --sources 500

Starts a Prefect server with a database of its own, deploys to it as a command of its own (so that the time
has the imports in it), deploys again when nothing has changed, then after one schedule of ten has changed,
and last with half of the sources gone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BAR_SECONDS = 60.0


def settings(number: int, minute: int = 0) -> str:
    lines = ["sources:"]
    for n in range(number):
        cron = f"{minute if n % 10 == 0 else 0} {n % 24} * * *"
        lines.append(f'  s{n}: {{type: files, path: docs, schedule: {{cron: "{cron}", jitter: 5m}}}}')
    return "\n".join(lines) + "\n"


def deploy(config: Path, env: dict[str, str]) -> tuple[float, float, str]:
    """Seconds, those of them on a processor (the command's own, without the server's), and what was done."""
    command = [sys.executable, "-m", "apps", "deploy", "--prune", "--json", "--config", str(config)]
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if ended.returncode:
        sys.exit(ended.stdout + ended.stderr)
    kinds = [one["done"] for one in json.loads(ended.stdout)["deployments"]]
    return seconds, worked, ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=int, default=100)
    chosen = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.prefect_server import prefect_serving

    with tempfile.TemporaryDirectory() as folder, prefect_serving(Path(folder)) as server:
        config = Path(folder) / "docweave.yaml"
        env = {**os.environ, **server.env}
        steps = [
            ("first", settings(chosen.sources)),
            ("nothing changed", settings(chosen.sources)),
            ("one of ten changed", settings(chosen.sources, minute=30)),
            ("half are gone", settings(chosen.sources // 2, minute=30)),
        ]
        print("| deploy | seconds | of its own | done |\n|---|---|---|---|")
        worst = 0.0
        for name, text in steps:
            config.write_text(text)
            seconds, worked, done = deploy(config, env)
            worst = max(worst, seconds)
            print(f"| {name} | {seconds:.1f} | {worked:.1f} | {done} |", flush=True)
    return int(worst > BAR_SECONDS)


if __name__ == "__main__":
    sys.exit(main())

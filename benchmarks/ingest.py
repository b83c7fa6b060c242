"""What an ingest costs: time, memory and requests, of a first run and of a second one.

    python benchmarks/ingest.py FOLDER              with the embedded default: a quarter, then all
    python benchmarks/ingest.py FOLDER --service    against the strict stand-in for Perplexity's service

Each run is a process of its own, so that its peak memory is its own. Prefect is left out: its start
is the same for every folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
COLUMNS = ["documents", "MB", "run", "seconds", "documents/s", "peak MB", "owed", "failed"]
COLUMNS += ["chunks", "tokens", "requests"]
LIMIT = 120_000
"""Tokens that the service takes in one request."""


async def run_once(settings_file: Path) -> dict[str, float]:
    """One ingest in this process."""
    from config.build import build_pipeline, connectors
    from config.load import load_settings
    from pipeline.ingest import ingest_source

    settings = load_settings(settings_file)
    started = time.perf_counter()
    async with build_pipeline(settings) as pipeline:
        for connector, metadata in connectors(settings):
            report = await ingest_source(connector, pipeline, metadata=metadata)
    return {
        "seconds": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "documents": report.listed,
        "owed": report.owed,
        "failed": len(report.failures),
        "chunks": report.chunks,
        "tokens": report.tokens,
        "requests": report.requests,
        "cost_usd": report.cost_usd,
    }


def run(settings_file: Path) -> dict[str, float]:
    """One ingest in a process of its own."""
    command = [sys.executable, __file__, "--once", str(settings_file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def linked(folder: Path, into: Path, every: int) -> tuple[int, float]:
    """Hard-link or copy each n-th file; give their number and megabytes."""
    number, size = 0, 0
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for path in files[::every]:
        target = into / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            target.write_bytes(path.read_bytes())
        number, size = number + 1, size + path.stat().st_size
    return number, size / 1e6


def settings_for(folder: Path, work: Path, base_url: str | None) -> Path:
    """A YAML file that ingests the folder into a store beside it."""
    service = f"embedding: {{provider: perplexity, base_url: {base_url}}}\n" if base_url else ""
    path = work / "docweave.yaml"
    path.write_text(
        f"store: {{uri: {work / 'lancedb'}}}\n{service}sources:\n  corpus: {{type: files, path: {folder}}}\n"
    )
    return path


@contextmanager
def service() -> Iterator[str]:
    """The stand-in, in a process of its own; prints what it was asked when it ends."""
    command = [str(Path(sys.executable).with_name("docweave")), "fake-service", "--port", "8901"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        time.sleep(3)
        try:
            yield "http://127.0.0.1:8901"
        finally:
            process.send_signal(2)
            process.wait(20)


def print_runs(folder: Path, every: int, base_url: str | None) -> float:
    """Ingest twice and print two lines; give the first run's peak memory."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        number, megabytes = linked(folder, work / "corpus", every)
        settings_file = settings_for(work / "corpus", work, base_url)
        first, second = run(settings_file), run(settings_file)
        stored = sum(path.stat().st_size for path in (work / "lancedb").rglob("*") if path.is_file()) / 1e6
    for label, result in (("first", first), ("second", second)):
        rate = f"{number / result['seconds']:,.0f}" if label == "first" else ""
        print(
            f"| {number:,} | {megabytes:.1f} | {label} | {result['seconds']:.1f} | {rate} "
            f"| {result['peak_mb']:.0f} | {result['owed']:,.0f} | {result['failed']:.0f} "
            f"| {result['chunks']:,.0f} | {result['tokens']:,.0f} | {result['requests']:.0f} |"
        )
    least = -(-first["tokens"] // LIMIT)
    print(
        f"<!-- store {stored:.0f} MB; "
        f"requests / ⌈tokens / {LIMIT:,}⌉ = {first['requests'] / max(1, least):.3f};"
        f" second / first = {second['seconds'] / first['seconds']:.3f} -->"
    )
    return first["peak_mb"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--service", action="store_true", help="against the stand-in service")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(asyncio.run(run_once(arguments.once))))
        return
    if not arguments.folder:
        parser.error("which folder?")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    folder = arguments.folder.resolve()
    if arguments.service:
        os.environ["PERPLEXITY_API_KEY"] = "test-key"
        with service() as base_url:
            print_runs(folder, 1, base_url)
        return
    quarter = print_runs(folder, 4, None)
    print(f"<!-- peak memory of all / of a quarter = {print_runs(folder, 1, None) / quarter:.2f} -->")


if __name__ == "__main__":
    main()

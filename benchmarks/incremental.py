"""What a run costs when little or nothing has changed, and whether memory stays flat.

    python benchmarks/incremental.py FOLDER
    python benchmarks/incremental.py FOLDER --every 10     with each tenth file only

A copy of the folder is ingested with the embedded default embedder: a quarter of its files into tables of its
own, then all of them, and after that all again after each of some events. Each run is a process of its own,
so that its time and its peak memory are its own. "Process" is all of its time, Python's start and imports
with it, "CPU" is how much of that it computed, and "work" is from the settings to the report. Prefect is left
out: its start is the same for every folder. The repeated runs are the best of three.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
UNCHANGED_SECONDS = 3.0
EDIT_SECONDS = 1.0
"""More than a run without change takes, for one document among all."""
FLAT = 1.25
"""The peak memory for all files, for that for a quarter of them, at most."""
COUNTS = ("added", "changed", "renamed", "rewritten", "touched", "removed")


async def run_once(settings_file: Path) -> dict[str, Any]:
    """One ingest in this process."""
    started = time.perf_counter()
    from config.build import build_pipeline, connectors
    from config.load import load_settings
    from pipeline.ingest import ingest_source

    settings = load_settings(settings_file)
    async with build_pipeline(settings) as pipeline:
        [(connector, metadata)] = connectors(settings)
        report = await ingest_source(connector, pipeline, metadata=metadata)
    return {
        "work": time.perf_counter() - started,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "listed": report.listed,
        "failed": len(report.failures),
        "read": report.owed,
        "tokens": report.tokens,
        "did": {name: count for name in COUNTS if (count := getattr(report, name))},
    }


def run(settings_file: Path) -> dict[str, Any]:
    """One ingest in a process of its own."""
    command = [sys.executable, __file__, "--once", str(settings_file)]
    started, cpu = time.perf_counter(), children_cpu()
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    seconds = time.perf_counter() - started
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**told, "process": seconds, "cpu": children_cpu() - cpu}


def children_cpu() -> float:
    """Seconds that processes computed that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Corpus:
    """A copy of some files, and the tables that they are ingested into."""

    work: Path
    files: list[Path]

    @classmethod
    def copied(cls, folder: Path, work: Path, every: int) -> Corpus:
        files = sorted(path for path in folder.rglob("*.md") if path.is_file() and not path.is_symlink())
        copies = []
        for path in files[::every]:
            target = work / "corpus" / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            copies.append(Path(shutil.copyfile(path, target)))
        corpus = cls(work, copies)
        corpus.write_settings("{}")
        return corpus

    @property
    def settings(self) -> Path:
        return self.work / "docweave.yaml"

    def write_settings(self, metadata: str) -> None:
        source = f"{{type: files, path: {self.work / 'corpus'}, metadata: {metadata}}}"
        self.settings.write_text(f"store: {{uri: {self.work / 'db'}}}\nsources:\n  corpus: {source}\n")

    def edit(self) -> None:
        path = self.files[len(self.files) // 2]
        path.write_text(path.read_text() + f"\n- One more line, of {time.time_ns()}.\n")

    def rename(self) -> None:
        path = self.files[len(self.files) // 3]
        self.files[len(self.files) // 3] = path.rename(path.with_name(f"moved-{time.time_ns()}.md"))

    def remove(self) -> None:
        self.files.pop(len(self.files) // 4).unlink()

    def touch_all(self) -> None:
        for path in self.files:
            os.utime(path)

    def change_metadata(self) -> None:
        self.write_settings(f"{{team: people {time.time_ns()}}}")

    def events(self) -> Iterator[tuple[str, Callable[[], None], int]]:
        """What happens, and how often it is measured."""
        yield "nothing", lambda: None, 3
        yield "one edited", self.edit, 3
        yield "one renamed", self.rename, 3
        yield "one removed", self.remove, 3
        yield "all touched", self.touch_all, 1
        yield "other metadata of the source", self.change_metadata, 1
        yield "nothing", lambda: None, 3


def best_of(settings: Path, event: Callable[[], None], rounds: int) -> dict[str, Any]:
    runs = []
    for _ in range(rounds):
        event()
        runs.append(run(settings))
    return min(runs, key=lambda result: float(result["process"]))


def row(event: str, result: dict[str, Any], bar: str = "") -> str:
    did = ", ".join(f"{count:,} {name}" for name, count in result["did"].items()) or "none"
    return (
        f"| {result['listed']:,} | {event} | {result['read']:,} | {did} | {result['tokens']:,} "
        f"| {result['work']:.2f} | {result['process']:.2f} | {result['cpu']:.2f} "
        f"| {result['peak']:.0f} | {bar} |"
    )


def judged(value: float, most: float, what: str) -> str:
    return f"{what} {value:.2f} ≤ {most:g}: {'yes' if value <= most else 'NO'}"


def measure(folder: Path, every: int) -> bool:
    """Print the table; give whether every bar is met."""
    print("| documents | event | read | written | tokens | work s | process s | CPU s | peak MB | bar |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    met: list[str] = []

    def show(event: str, result: dict[str, Any], bar: str = "") -> None:
        met.append(bar)
        print(row(event, result, bar), flush=True)

    with tempfile.TemporaryDirectory() as name:
        quarter = Corpus.copied(folder, Path(name), 4 * every)
        first_quarter = run(quarter.settings)
        show("first", first_quarter)
        again_quarter = best_of(quarter.settings, lambda: None, 3)
        show("nothing", again_quarter)
    with tempfile.TemporaryDirectory() as name:
        corpus = Corpus.copied(folder, Path(name), every)
        first = run(corpus.settings)
        show("first", first, judged(first["peak"] / first_quarter["peak"], FLAT, "× a quarter's peak"))
        unchanged = 0.0
        for event, happen, rounds in corpus.events():
            result = best_of(corpus.settings, happen, rounds)
            bar = ""
            if event == "nothing":
                unchanged = result["process"]
                flat = judged(result["peak"] / again_quarter["peak"], FLAT, "× a quarter's peak")
                bar = f"{judged(unchanged, UNCHANGED_SECONDS, 'process s')}; {flat}"
            elif event == "one edited":
                bar = judged(result["process"] - unchanged, EDIT_SECONDS, "s more")
            show(event, result, bar)
    return not any("NO" in bar for bar in met)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each n-th file")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(asyncio.run(run_once(options.once))))
        return
    if not options.folder:
        parser.error("which folder?")
    if not measure(options.folder.resolve(), options.every):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""What do two workers make of one source, in time and in the tables?

    python benchmarks/scaling.py FOLDER                  workers that are up already, one and two
    python benchmarks/scaling.py FOLDER --workers 1 2 4  other numbers
    python benchmarks/scaling.py FOLDER --tokens-per-minute 8000000    is a shared ceiling kept to?

Each worker may have 8 requests in flight. The stand-in takes 40 ms + 2 µs a token for each, and as many at a
time as all workers together have. It runs in a process of its own, and has counted the texts once before. A
worker is a process that has ingested something before and waits, as one of a pool does; the time is that of
the whole ingest under its lease: listing, plan, board, work, removals and upkeep. The tables are compared
with those of a run without workers: every row, vector and mark.

Workers share the machine's cores with each other, with the stand-in and with the tables' own threads: what is
measured on N cores tells nothing of more than N workers.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

IN_FLIGHT = 8
BASE_MS = 40
US_PER_TOKEN = 2
PORT = 8904
RUNS = 5
COLUMNS = ["run", "workers", "seconds", "of it at work", "documents", "failed", "requests", "asked again"]
COLUMNS += ["shards", "tables"]


def settings_for(folder: Path, work: Path, workers: int, said: argparse.Namespace) -> Path:
    path = work / "docweave.yaml"
    ceiling = f", tokens_per_minute: {said.tokens_per_minute}" if said.tokens_per_minute else ""
    path.write_text(
        f"store: {{uri: {work / 'lancedb'}}}\n"
        f"embedding: {{provider: perplexity, base_url: http://127.0.0.1:{PORT}, "
        f"concurrency: {IN_FLIGHT * max(1, workers)}{ceiling}}}\n"
        f"execution: {{workers: {max(1, workers)}, shard_tokens: {said.shard_tokens}}}\n"
        f"sources:\n  corpus: {{type: files, path: {folder}}}\n"
    )
    return path


@contextmanager
def service(slots: int, said: argparse.Namespace) -> Iterator[None]:
    """The stand-in, in a process of its own."""
    program = str(Path(sys.executable).with_name("docweave"))
    pace = ["--delay-ms", str(BASE_MS), "--delay-us-per-token", str(said.us_per_token)]
    if said.tokens_per_minute:
        pace += ["--tokens-per-minute", str(said.tokens_per_minute)]
    command = [program, "fake-service", "--port", str(PORT), "--max-in-flight", str(slots), *pace]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(6)
        try:
            yield
        finally:
            process.send_signal(2)
            process.wait(20)


class Workers:
    """Processes that wait until they are told of a board."""

    def __init__(self, config: Path, count: int) -> None:
        command = [sys.executable, __file__, "--as-worker", str(config)]
        self.processes = [
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        if {self._said(process) for process in self.processes} != {"ready"}:
            raise SystemExit("a worker did not start")

    def send(self, lease: str) -> list[str]:
        for process in self.processes:
            cast("IO[str]", process.stdin).write(f"{lease}\n")
            cast("IO[str]", process.stdin).flush()
        told = [self._said(process) for process in self.processes]
        return [one for one in told if one != "done"]

    def _said(self, process: subprocess.Popen[str]) -> str:
        return cast("IO[str]", process.stdout).readline().strip() or f"worker {process.pid} is gone"

    def end(self) -> None:
        for process in self.processes:
            if process.stdin:
                process.stdin.close()
            process.wait(30)


def worker(config: Path) -> None:
    from config.build import build_pipeline, connectors, open_boards
    from config.execution import part_of
    from config.load import load_settings
    from pipeline.shards import work_off_shards
    from pipeline.shards_told import failure

    async def run(lease: str) -> None:
        settings = part_of(load_settings(config))
        [(connector, metadata)] = connectors(settings)
        board = await (await open_boards(settings, lease)).opened()
        try:
            async with build_pipeline(settings) as pipeline, pipeline.store.join(lease):
                await work_off_shards(board, connector, pipeline, metadata=metadata)
        except Exception as error:
            await board.fail(failure(error))
            raise

    warm_up(config)
    print("ready", flush=True)
    for line in sys.stdin:
        asyncio.run(run(line.strip()))
        print("done", flush=True)


def warm_up(config: Path) -> None:
    """Ingest three of the documents elsewhere: what a process loads once in its life is loaded then."""
    import lancedb  # noqa: F401 - upkeep needs it
    import yaml

    settings = yaml.safe_load(config.read_text())
    with tempfile.TemporaryDirectory() as name:
        few = Path(name) / "few"
        few.mkdir()
        for path in sorted(Path(settings["sources"]["corpus"]["path"]).rglob("*.md"))[:3]:
            (few / path.name).write_bytes(path.read_bytes())
        settings["sources"]["corpus"]["path"] = str(few)
        settings["store"]["uri"] = str(Path(name) / "lancedb")
        elsewhere = Path(name) / "docweave.yaml"
        elsewhere.write_text(yaml.safe_dump(settings))
        asyncio.run(ingest(elsewhere, None, []))


async def ingest(config: Path, workers: Workers | None, shown: list[str]) -> dict[str, float | int]:
    """One ingest; without workers, all of it in this process."""
    from config.build import build_pipeline, connectors, open_boards
    from config.load import load_settings
    from pipeline.ingest import ingest_source
    from pipeline.shards import Crew

    settings = load_settings(config)
    async with build_pipeline(settings) as pipeline:
        [(connector, metadata)] = connectors(settings)
        async with pipeline.store.lease("measuring") as lease:  # made, the first time: waits half a second
            started = time.perf_counter()
            crew, moments = None, list[float]()
            if workers:

                async def send() -> Sequence[str]:
                    moments.append(time.perf_counter() - started)
                    said = await asyncio.to_thread(workers.send, lease)
                    moments.append(time.perf_counter() - started)
                    return said

                crew = Crew(
                    boards=await open_boards(settings, lease),
                    lease=lease,
                    workers=settings.execution.workers,
                    shard_tokens=settings.execution.shard_tokens,
                    send=send,
                    tell=shown.append,
                )
            report = await ingest_source(connector, pipeline, metadata=metadata, crew=crew)
            seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "working": moments[1] - moments[0] if moments else seconds,
            "documents": report.added,
            "failed": len(report.failures),
            "requests": report.requests,
            "refused": report.retries,
            "shards": len(shown) and int(shown[0].split(" in ")[1].split()[0]),
        }


def digest(store: Path) -> str:
    """Of all rows, vectors and marks, in the order of their ids, but for when they were written."""
    import lancedb

    database, state = lancedb.connect(store), hashlib.blake2b(digest_size=8)
    for name, not_a_row in (("chunks", "key IS NULL"), ("documents", "false")):
        rows = database.open_table(name).search().where(f"NOT ({not_a_row})").limit(10**9).to_arrow()
        rows = rows.drop_columns([column for column in rows.schema.names if column == "updated_at"])
        for row in rows.sort_by("id").to_pylist():
            state.update(repr(row).encode())
    return state.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shard-tokens", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--us-per-token", type=float, default=US_PER_TOKEN, help="of the stand-in; usual: 2")
    parser.add_argument("--tokens-per-minute", type=int, help="that the stand-in takes, and workers share")
    parser.add_argument("--as-worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["PERPLEXITY_API_KEY"] = "test-key"
    if arguments.as_worker:
        worker(arguments.as_worker)
        return
    if not arguments.folder:
        parser.error("which folder?")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    best: dict[int, float] = {}
    found: set[str] = set()
    with service(IN_FLIGHT * max(arguments.workers), arguments):
        for run in range(arguments.runs + 1):
            for count in [0, *arguments.workers]:
                result, tables = measured(arguments, count)
                found.add(tables)
                if run:  # before, the stand-in counts the texts for the first time
                    best[count] = min(best.get(count, 1e9), float(result["seconds"]))
                cells = [f"{value:.2f}" if isinstance(value, float) else value for value in result.values()]
                label = str(run) if run else "warm-up"
                print(
                    f"| {label} | {count or 'none'} | {' | '.join(map(str, cells))} | {tables} |", flush=True
                )
    first, *more = arguments.workers
    for count in more if best else ():
        print(f"\nbest of {count} workers / best of {first}: {best[count] / best[first]:.2f}", end="")
        print(f"; / best of a run by itself: {best[count] / best[0]:.2f}")
    print("tables: all equal, bit for bit" if len(found) == 1 else f"tables: {len(found)} kinds")
    sys.exit(len(found) != 1)


def measured(arguments: argparse.Namespace, count: int) -> tuple[dict[str, float | int], str]:
    """One ingest by so many workers, or by the run itself; and the digest of its tables."""
    with tempfile.TemporaryDirectory() as name:
        config = settings_for(arguments.folder.resolve(), Path(name), count, arguments)
        warm_up(config)
        workers = Workers(config, count) if count else None
        result = asyncio.run(ingest(config, workers, []))
        if workers:
            workers.end()
        return result, digest(Path(name) / "lancedb")


if __name__ == "__main__":
    main()

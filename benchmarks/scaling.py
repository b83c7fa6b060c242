"""What do two workers make of one source, in time and in the tables?

    python benchmarks/scaling.py FOLDER                  workers that are up already, one and two
    python benchmarks/scaling.py FOLDER --workers 1 2 4  other numbers
    python benchmarks/scaling.py FOLDER --tokens-per-minute 1700000    is a shared ceiling kept to?

Each worker may have 8 requests in flight. The stand-in takes 40 ms + 2 µs a token for each, and as many at a
time as all workers together have. It runs in a process of its own, and has counted the texts once before. A
worker is a process that has ingested something before and waits, as one of a pool does; the time is that of
the whole ingest under its lease: listing, plan, board, work, removals and upkeep. The tables are compared
with those of a run without workers: every row, vector and mark. Beside the time stands what processor time
the run, its workers and the stand-in took, threads of the tables included: their sum cannot be had in less
than its part for each core.

"apart": as many processes that know nothing of each other, each with its part of the documents and tables of
its own. More than that cannot be had of the machine: on two threads of one core it is far from twice as much.

Workers share the machine's cores with each other, with the stand-in and with the tables' own threads: what is
measured on N cores tells nothing of more than N workers.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, cast

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

IN_FLIGHT = 8
BASE_MS = 40
US_PER_TOKEN = 2
PORT = 8904
RUNS = 4
COLUMNS = ["run", "workers", "seconds", "of it at work", "documents", "failed", "requests", "asked again"]
COLUMNS += ["shards", "cpu: run", "workers", "stand-in", "tables"]


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
def service(slots: int, log: Path, said: argparse.Namespace) -> Iterator[None]:
    """The stand-in, in a process of its own."""
    program = str(Path(sys.executable).with_name("docweave"))
    pace = ["--delay-ms", str(BASE_MS), "--delay-us-per-token", str(said.us_per_token), "--log", str(log)]
    if said.tokens_per_minute:
        pace += ["--tokens-per-minute", str(said.tokens_per_minute)]
    command = [program, "fake-service", "--port", str(PORT), "--max-in-flight", str(slots), *pace]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                with suppress(OSError):
                    stand_in_seconds()
                    break
                time.sleep(0.2)
            yield
        finally:
            process.send_signal(2)
            process.wait(20)


def fullest_minute(log: Path) -> tuple[int, int]:
    """The most tokens that came to the stand-in in any 60 s, by its own clock; and how often it said 429."""
    seen = [json.loads(line) for line in log.read_text().splitlines()]
    came = sorted((datetime.fromisoformat(one["time"]).timestamp(), one["tokens"]) for one in seen)
    most, window, inside = 0, 0, deque[tuple[float, int]]()
    for moment, tokens in came:
        inside.append((moment, tokens))
        window += tokens
        while inside[0][0] <= moment - 60:
            window -= inside.popleft()[1]
        most = max(most, window)
    return most, sum(one["status"] == 429 for one in seen)


def kept_to(log: Path, ceiling: int) -> bool:
    """Whether no minute had more than was allowed; prints what the fullest had."""
    most, refused = fullest_minute(log)
    print(
        f"fullest 60 s at the stand-in: {most:,} tokens of {ceiling:,} ({most / ceiling:.1%}), "
        f"{refused} requests refused (429): {'kept to' if most <= ceiling and not refused else 'NOT KEPT TO'}"
    )
    return most <= ceiling and not refused


def stand_in_seconds() -> float:
    """Processor time that the stand-in took until now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/stats", timeout=60) as reply:
        return float(json.load(reply)["cpu_seconds"])


class Workers:
    """Processes that wait until they are told of a board."""

    def __init__(self, config: Path, count: int) -> None:
        command = [sys.executable, __file__, "--as-worker", str(config)]
        self.seconds = 0.0
        """Processor time of all of them in the last run."""
        self.processes = [
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        if {self._said(process) for process in self.processes} != {"ready"}:
            raise SystemExit("a worker did not start")

    def send(self, config: Path, lease: str, count: int) -> list[str]:
        """Send so many of them; give what those say that failed."""
        for process in self.processes[:count]:
            cast("IO[str]", process.stdin).write(f"{config}\t{lease}\n")
            cast("IO[str]", process.stdin).flush()
        told = [self._said(process).split() for process in self.processes[:count]]
        self.seconds = sum(float(words[1]) for words in told if words[0] == "done")
        return [" ".join(words) for words in told if words[0] != "done"]

    def apart(self, configs: Sequence[Path]) -> float:
        """Have each ingest something of its own, all at the same time; the seconds of the slowest."""
        chosen = self.processes[: len(configs)]
        for process, config in zip(chosen, configs, strict=True):
            cast("IO[str]", process.stdin).write(f"{config}\t\n")
            cast("IO[str]", process.stdin).flush()
        said = [self._said(process) for process in chosen]
        if any(not words.startswith("done") for words in said):
            raise SystemExit(f"a worker failed by itself: {said}")
        return max(float(words.split()[2]) for words in said)

    def _said(self, process: subprocess.Popen[str]) -> str:
        return cast("IO[str]", process.stdout).readline().strip() or f"worker {process.pid} is gone"

    def end(self) -> None:
        for process in self.processes:
            if process.stdin:
                process.stdin.close()
            process.wait(30)


def worker(warm: Path) -> None:
    from config.build import build_pipeline, connectors, open_boards
    from config.execution import part_of
    from config.load import load_settings
    from pipeline.shards import work_off_shards
    from pipeline.shards_told import failure

    async def run(config: Path, lease: str) -> None:
        settings = part_of(load_settings(config))
        [(connector, metadata)] = connectors(settings)
        board = await (await open_boards(settings, lease)).opened()
        try:
            async with build_pipeline(settings) as pipeline, pipeline.store.join(lease):
                ceiling = getattr(settings.embedding, "tokens_per_minute", None)
                await work_off_shards(board, connector, pipeline, metadata=metadata, most_tokens=ceiling)
        except Exception as error:
            await board.fail(failure(error))
            raise

    warm_up(warm)
    print("ready", flush=True)
    for line in sys.stdin:
        config, lease = line.rstrip("\n").split("\t")
        started = time.process_time()
        seconds = 0.0
        if lease:
            asyncio.run(run(Path(config), lease))
        else:
            seconds = asyncio.run(ingest(Path(config), None, []))["seconds"]
        print("done", time.process_time() - started, seconds, flush=True)


def warm_up(config: Path) -> None:
    """Ingest some of the documents elsewhere: what a process loads once in its life is loaded then."""
    import yaml

    settings = yaml.safe_load(config.read_text())
    if "tokens_per_minute" in settings["embedding"]:
        return  # it would count against what is measured
    with tempfile.TemporaryDirectory() as name:
        few = Path(name) / "few"
        few.mkdir()
        paths = sorted(Path(settings["sources"]["corpus"]["path"]).rglob("*.md"))
        for path in paths[:: max(1, len(paths) // 20)]:  # of all kinds: some ask for a model of languages
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
            started, cpu, cpu_there = time.perf_counter(), time.process_time(), stand_in_seconds()
            crew, moments = None, list[float]()
            if workers:

                async def send() -> Sequence[str]:
                    moments.append(time.perf_counter() - started)
                    said = await asyncio.to_thread(workers.send, config, lease, settings.execution.workers)
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
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        return {
            "seconds": seconds,
            "working": moments[1] - moments[0] if moments else seconds,
            "documents": report.added,
            "failed": len(report.failures),
            "requests": report.requests,
            "refused": report.retries,
            "shards": len(shown) and int(shown[0].split(" in ")[1].split()[0]),
            "cpu": cpu,
            "cpu of workers": workers.seconds if workers else 0.0,
            "cpu of the stand-in": stand_in_seconds() - cpu_there,
        }


def digest(store: Path) -> str:
    """Of all rows, vectors and marks, in the order of their ids, but for when they were written."""
    import lancedb
    import pyarrow as pa

    database, state = lancedb.connect(store), hashlib.blake2b(digest_size=8)
    for name, not_a_row in (("chunks", "key IS NULL"), ("documents", "false")):
        rows = database.open_table(name).search().where(f"NOT ({not_a_row})").limit(10**9).to_arrow()
        rows = rows.drop_columns([column for column in rows.schema.names if column == "updated_at"])
        rows = rows.sort_by("id").combine_chunks()
        for column in rows.schema.names:
            values = rows[column].combine_chunks()
            if pa.types.is_fixed_size_list(values.type):
                state.update(values.flatten().to_numpy(zero_copy_only=False).tobytes())
            else:
                state.update(repr(values.to_pylist()).encode())
    return state.hexdigest()


def parts(folder: Path, work: Path, count: int, said: argparse.Namespace) -> list[Path]:
    """Settings for so many ingests, of about as many bytes each."""
    configs, folders = [], [work / f"part {number}" / "files" for number in range(count)]
    for part in folders:
        part.mkdir(parents=True)
        configs.append(settings_for(part, part.parent, 0, said))
    sizes = [0] * count
    for path in sorted(folder.rglob("*.md"), key=lambda path: -path.stat().st_size):
        least = sizes.index(min(sizes))
        sizes[least] += path.stat().st_size
        shutil.copyfile(path, folders[least] / f"{sizes[least]}-{path.name}")
    return configs


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
    slots = IN_FLIGHT * max(arguments.workers)
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "requests.jsonl"
        with service(slots, log, arguments):
            good = measure(arguments, Path(name))
        if arguments.tokens_per_minute:
            good = kept_to(log, arguments.tokens_per_minute) and good
    sys.exit(not good)


def measure(arguments: argparse.Namespace, folder: Path) -> bool:
    """Print a line a run, and what the best of them tell; whether all tables are equal."""
    best: dict[int, float] = {}
    apart: dict[int, float] = {}
    found: set[str] = set()
    warm = settings_for(arguments.folder.resolve(), folder, 0, arguments)
    warm_up(warm)
    workers = Workers(warm, max(arguments.workers))
    # Under a ceiling, what was sent in a run before would count against the next.
    plans = [[0], *[[0, *arguments.workers]] * arguments.runs]
    for run, counts in enumerate(plans if not arguments.tokens_per_minute else [arguments.workers[-1:]]):
        for count in counts:
            place = folder / f"{run} {count}"
            place.mkdir()
            config = settings_for(arguments.folder.resolve(), place, count, arguments)
            result = asyncio.run(ingest(config, workers if count else None, []))
            tables = digest(place / "lancedb")
            found.add(tables)
            if run:  # before, the stand-in counts the texts for the first time
                best[count] = min(best.get(count, 1e9), float(result["seconds"]))
            shown = [run or "warm-up", count or "none", *result.values(), tables]
            cells = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in shown]
            print(f"| {' | '.join(cells)} |", flush=True)
            shutil.rmtree(place)
        for count in arguments.workers[1:] if run else ():
            place = folder / f"{run} {count} apart"
            took = workers.apart(parts(arguments.folder.resolve(), place, count, arguments))
            apart[count] = min(apart.get(count, 1e9), took)
            print(f"| {run} | {count} apart | {took:.2f} |{' |' * (len(COLUMNS) - 3)}", flush=True)
            shutil.rmtree(place)
    workers.end()
    first, *more = arguments.workers
    for count in more if best else ():
        print(f"\nbest of {count} workers / best of {first}: {best[count] / best[first]:.2f}", end="")
        print(f"; / best of a run by itself: {best[count] / best[0]:.2f}")
        print(f"best of {count} apart / best of {first}: {apart[count] / best[first]:.2f}")
    print("tables: all equal, bit for bit" if len(found) == 1 else f"tables: {len(found)} kinds")
    return len(found) == 1


if __name__ == "__main__":
    main()

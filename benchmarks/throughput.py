"""How much of an ingest is the service's own time?

    python benchmarks/throughput.py FOLDER

The stand-in takes 40 ms + 2 µs a token for an answer, and 16 requests at a time. It runs in a process of its
own, and has counted the texts once before: what is measured is the second ingest, into an empty store, in a
fresh process, without that process's start.

The service's critical path: each request is put at the moment at which it was ready to be sent, each answer
takes what the service says it takes, 16 at a time; the last answer's end, counted from the begin of the
ingest, is when a client that loses no time at all would have all vectors. It holds the time that reading,
parsing and chunking take until the last request is ready, since no service can answer what it has not been
asked. "Service alone" is its time as if every request had been ready at once.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
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
from typing import Any, cast

ROOT = Path(__file__).parent.parent
SLOTS = 16
BASE_SECONDS = 0.040
SECONDS_PER_TOKEN = 2e-6
PORT = 8902
RUNS = 3
COLUMNS = ["run", "documents", "seconds", "critical path", "ratio", "requests", "asked again"]
COLUMNS += ["service alone", "CPU s/MB"]


def latency(tokens: float) -> float:
    return BASE_SECONDS + tokens * SECONDS_PER_TOKEN


def finished(ready: list[tuple[float, float]]) -> float:
    """When the last answer comes, at the earliest: requests by (moment ready, tokens), in seconds."""
    slots = [0.0] * SLOTS
    heapq.heapify(slots)
    for moment, tokens in sorted(ready):
        heapq.heappush(slots, max(moment, heapq.heappop(slots)) + latency(tokens))
    return max(slots)


async def run_once(settings_file: Path) -> dict[str, Any]:
    """One ingest in this process, with a note of when each request was ready."""
    from config.build import build_pipeline, connectors
    from config.load import load_settings
    from pipeline.embedders.perplexity import PerplexityEmbedder
    from pipeline.ingest import ingest_source
    from pipeline.records import EmbedReply, EmbedRequest

    ready: list[tuple[float, int]] = []
    settings = load_settings(settings_file)
    async with build_pipeline(settings) as pipeline:
        embedder = cast(PerplexityEmbedder, pipeline.embedder)
        embed = embedder.embed

        async def noted(request: EmbedRequest) -> EmbedReply:
            ready.append((time.perf_counter() - started, request.tokens))
            return await embed(request)

        embedder.embed = noted  # type: ignore[method-assign]
        [(connector, metadata)] = connectors(settings)
        started, cpu = time.perf_counter(), time.process_time()
        report = await ingest_source(connector, pipeline, metadata=metadata)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "cpu": cpu + children.ru_utime + children.ru_stime,
        "ready": ready,
        "documents": report.added,
        "retries": report.retries,
    }


def run(settings_file: Path) -> dict[str, Any]:
    """One ingest in a process of its own."""
    command = [sys.executable, __file__, "--once", str(settings_file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def service() -> Iterator[str]:
    """The stand-in, in a process of its own."""
    program = str(Path(sys.executable).with_name("docweave"))
    pace = ["--delay-ms", str(BASE_SECONDS * 1e3), "--delay-us-per-token", str(SECONDS_PER_TOKEN * 1e6)]
    command = [program, "fake-service", "--port", str(PORT), "--max-in-flight", str(SLOTS), *pace]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(4)
        try:
            yield f"http://127.0.0.1:{PORT}"
        finally:
            process.send_signal(2)
            process.wait(20)


def settings_for(folder: Path, work: Path, base_url: str) -> Path:
    path = work / "docweave.yaml"
    path.write_text(
        f"store: {{uri: {work / 'lancedb'}}}\n"
        f"embedding: {{provider: perplexity, base_url: {base_url}, concurrency: {SLOTS}}}\n"
        f"sources:\n  corpus: {{type: files, path: {folder}}}\n"
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(asyncio.run(run_once(arguments.once))))
        return
    if not arguments.folder:
        parser.error("which folder?")
    folder = arguments.folder.resolve()
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    os.environ["PERPLEXITY_API_KEY"] = "test-key"
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    with service() as base_url:
        for number in range(RUNS + 1):
            with tempfile.TemporaryDirectory() as name:
                result = run(settings_for(folder, Path(name), base_url))
            ready = [(float(moment), float(tokens)) for moment, tokens in result["ready"]]
            seconds, path = result["seconds"], finished(ready)
            alone = finished([(0.0, tokens) for _, tokens in ready])
            label = str(number) if number else "warm-up"
            print(
                f"| {label} | {result['documents']} | {seconds:.2f} | {path:.2f} | {seconds / path:.2f} "
                f"| {len(ready)} | {result['retries']} | {alone:.2f} "
                f"| {result['cpu'] / megabytes:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

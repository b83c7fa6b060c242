"""What the stand-in service costs: CPU seconds for a million tokens, of new texts and of texts it has seen.

    python benchmarks/fake_service.py FOLDER

Sends the folder's Markdown in chunks of 2,000 characters, in requests of up to 110,000 tokens, 16 at a time,
twice; for each way of counting and each endpoint with a server of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipeline import tokens

CHARACTERS = 2_000
MOST_TOKENS = 110_000
MOST_TEXTS = 512
AT_A_TIME = 16
HEADERS = {"Authorization": "Bearer test-key", "Content-Type": "application/json"}
COLUMNS = ["", "tokens", "new: CPU s / M tokens", "wall s", "seen: CPU s / M tokens", "wall s"]
RUNS = [
    (
        "contextualized, int8",
        "/v1/contextualizedembeddings",
        "pplx-embed-context-v1-0.6b",
        "base64_int8",
        "exact",
    ),
    ("standard, int8", "/v1/embeddings", "pplx-embed-v1-0.6b", "base64_int8", "exact"),
    ("OpenRouter, floats", "/api/v1/embeddings", "qwen/qwen3-embedding-4b", "float", "exact"),
    (
        "contextualized, --count bytes",
        "/v1/contextualizedembeddings",
        "pplx-embed-context-v1-0.6b",
        "base64_int8",
        "bytes",
    ),
]


def requests_of(folder: Path) -> list[list[list[str]]]:
    """Groups of chunks, filled by tokens."""
    filled: list[list[list[str]]] = [[]]
    held, texts = 0, 0
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text("utf-8", errors="replace")
        chunks = [text[start : start + CHARACTERS] for start in range(0, len(text), CHARACTERS)]
        chunks = [chunk for chunk in chunks if chunk.strip()]
        size = sum(map(tokens.count, chunks)) + len(chunks)
        if not chunks or size > 31_000:
            continue
        if held + size > MOST_TOKENS or texts + len(chunks) > MOST_TEXTS:
            filled.append([])
            held = texts = 0
        filled[-1].append(chunks)
        held, texts = held + size, texts + len(chunks)
    return filled


@contextmanager
def service(count: str) -> Iterator[str]:
    """The stand-in, in a process of its own."""
    command = [
        str(Path(sys.executable).with_name("docweave")),
        "fake-service",
        "--port",
        "0",
        "--count",
        count,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield next(iter(process.stderr or ())).split()[1]
        finally:
            process.terminate()


def ask(url: str, body: bytes | None = None) -> dict[str, object]:
    request = urllib.request.Request(url, body, HEADERS)  # noqa: S310 - our own
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the same
        reply: dict[str, object] = json.load(answer)
    return reply


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    filled = requests_of(parser.parse_args().folder)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name, path, model, encoding, count in RUNS:
        options = {"model": model, "dimensions": 1024, "encoding_format": encoding}
        inputs = [g if "context" in path else [text for group in g for text in group] for g in filled]
        bodies = [json.dumps(options | {"input": texts}).encode() for texts in inputs]
        with service(count) as base_url, ThreadPoolExecutor(AT_A_TIME) as threads:
            cells = []
            for _ in range(2):
                before, started = ask(f"{base_url}/stats"), time.perf_counter()
                list(threads.map(lambda body: ask(base_url + path, body), bodies))  # noqa: B023 - done within the loop
                after, seconds = ask(f"{base_url}/stats"), time.perf_counter() - started
                used = int(str(after["tokens"])) - int(str(before["tokens"]))
                cpu = float(str(after["cpu_seconds"])) - float(str(before["cpu_seconds"]))
                cells += [f"{cpu / used * 1e6:.2f}", f"{seconds:.2f}"]
        print(f"| {name} | {used:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

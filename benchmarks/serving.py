"""How fast `docweave serve` answers over HTTP, and how much of what an exact search finds.

    python benchmarks/serving.py FOLDER... --work WORK     about 100,000 chunks; WORK keeps them for more runs

The documents are cut into small chunks, embedded with the embedded default and indexed. The server runs in a
process of its own; questions are pieces of chunks. Each has been asked once before, so that its vector is
known: times are those beyond the embedding of the question, the way through HTTP and JSON among them. Fails
where a hybrid, filtered question takes more than 25 ms (median, one client) or 60 ms (of 20, the slowest but
one; 8 clients), or where less than 98 % of the best ten are found. Give it a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import lancedb
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.vector_index import embedded  # noqa: E402 - the project is found first
from config.build import maintain  # noqa: E402
from config.load import load_settings  # noqa: E402
from pipeline.embedders.local import LocalEmbedder  # noqa: E402

DOCWEAVE = Path(sys.executable).with_name("docweave")
P50, P95, RECALL = 25.0, 60.0, 0.98
CLIENTS = 8
CLOSE = 1e-5
FILTERS = {
    "none": "",
    "a source": "source = {source}",
    "a source, a path": "source = {source} and path ~ '**/*1*'",
    "no source": "not source = {source}",
    "metadata": "language = en",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    mode: str
    name: str
    where: str


class Client:
    """One connection that stays open."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80)

    def search(self, **asked: object) -> tuple[float, dict[str, object]]:
        """Milliseconds, and what was found."""
        body = json.dumps(asked)
        began = time.perf_counter()
        self._connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        took = (time.perf_counter() - began) * 1e3
        if answer.status != http.HTTPStatus.OK:
            sys.exit(f"{answer.status}: {content.decode()[:300]}")
        return took, json.loads(content)


@contextmanager
def served(settings: Path) -> Iterator[str]:
    command = [str(DOCWEAVE), "serve", "--config", str(settings), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None  # noqa: S101 - it was asked for
        try:
            yield next(line for line in server.stderr if line.startswith("http")).strip()
        finally:
            server.terminate()


def timed(address: str, row: Row, questions: Sequence[str], clients: int, pause: float = 0.0) -> list[float]:
    """Milliseconds of each question, asked by so many at once, who pause so many seconds between two."""
    took: list[float] = []

    def ask(part: Sequence[str]) -> None:
        client = Client(address)
        chance = random.Random(part[0])  # noqa: S311 - no secret
        for question in part:
            time.sleep(chance.uniform(0, 2 * pause))
            took.append(client.search(question=question, mode=row.mode, where=row.where, limit=10)[0])

    threads = [threading.Thread(target=ask, args=(questions[n::clients],)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    source: np.ndarray  # type: ignore[type-arg]
    places: Mapping[tuple[str, str, int], int]
    unit: np.ndarray  # type: ignore[type-arg]
    """Of unit length, or zero. Shape (chunks, dimensions)."""
    questions: Sequence[str]


def corpus(uri: str, questions: int) -> Corpus:
    table = lancedb.connect(uri).open_table("chunks")
    columns = ["source", "key", "ordinal", "text", "vector"]
    rows = table.search().where("key IS NOT NULL").select(columns).limit(10**9).to_arrow()
    flat = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(rows), -1).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    drawn, asked = np.random.default_rng(0), []
    for n in drawn.choice(len(rows), questions, replace=False):
        words = rows["text"][int(n)].as_py().split()
        start = int(drawn.integers(0, max(1, len(words) - 8)))
        asked.append(" ".join(words[start : start + 8]) or "nothing")
    places = zip(
        rows["source"].to_pylist(), rows["key"].to_pylist(), rows["ordinal"].to_pylist(), strict=True
    )
    return Corpus(
        source=np.array(rows["source"].to_pylist()),
        places={place: n for n, place in enumerate(places)},
        unit=vectors,
        questions=asked,
    )


def recall(address: str, known: Corpus, source: str | None) -> float:
    """Of the best ten of an exact search, those that the server finds. Ties count as found."""
    client, embedder, found, due = Client(address), LocalEmbedder(), 0, 0
    where = f"source = {source}" if source else ""
    holds = known.source == source if source else np.ones(len(known.source), np.bool_)
    for question in known.questions:
        vector = asyncio.run(embedder.embed_query(question)).astype(np.float32)
        scores = known.unit @ (vector / max(float(np.linalg.norm(vector)), 1e-9))
        best = np.sort(scores[holds])[-10:]
        _, answer = client.search(question=question, mode="vector", where=where, limit=10)
        hits = answer["hits"]
        assert isinstance(hits, list)  # noqa: S101 - as the description has it
        numbers = [known.places[hit["source"], hit["key"], hit["ordinal"]] for hit in hits]
        found += sum(scores[n] >= best[0] - CLOSE for n in numbers)
        due += len(best)
    return found / due


def measured(address: str, known: Corpus, modes: Sequence[str], pause: float) -> bool:
    """Print the tables; whether the bars are kept to."""
    source = max(set(known.source.tolist()), key=known.source.tolist().count)
    passed = True
    for mode in modes:
        timed(address, Row(mode=mode, name="", where=""), known.questions, 2)
    print(
        f"{len(known.unit):,} chunks of {known.unit.shape[1]} dimensions, {len(known.questions)} questions\n"
    )
    print(f"| mode | filter | p50 ms | p95 ms | p50 ms, {CLIENTS} clients | p95 ms, {CLIENTS} clients |")
    print("|---|---|---|---|---|---|", flush=True)
    for mode in modes:
        for name, where in FILTERS.items():
            row = Row(mode=mode, name=name, where=where.format(source=source))
            alone = timed(address, row, known.questions, 1)
            together = timed(address, row, known.questions, CLIENTS, pause)
            figures = [f"{one(part):.1f}" for part in (alone, together) for one in (statistics.median, p95)]
            print(f"| {mode} | {name} | {' | '.join(figures)} |", flush=True)
            if (mode, name) == ("hybrid", "a source"):
                passed = statistics.median(alone) <= P50 and p95(together) <= P95
    print("\n| recall@10, by vector | |\n|---|---|")
    for name, chosen in {"no filter": None, "a source": source}.items():
        share = recall(address, known, chosen)
        print(f"| {name} | {share:.4f} |", flush=True)
        passed = passed and share >= RECALL
    return passed


def p95(took: Sequence[float]) -> float:
    return float(np.percentile(took, 95))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    parser.add_argument("--work", type=Path, help="keep the embedded chunks here")
    parser.add_argument("--tokens", type=int, default=64, help="the most that a chunk has")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument(
        "--pause",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help=f"of each of {CLIENTS} clients between two questions, on average; none, if left out",
    )
    parser.add_argument("--modes", nargs="+", default=["hybrid", "vector", "text"], metavar="MODE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        asyncio.run(embedded([folder.resolve() for folder in given.folders], work, given.tokens))
        settings = load_settings(work / "docweave.yaml")
        asyncio.run(maintain(settings, tell=print))
        known = corpus(settings.store.uri, given.questions)
        unlimited = work / "serving.yaml"
        text = (work / "docweave.yaml").read_text("utf-8")
        unlimited.write_text(f"{text}serve: {{requests_per_minute: 0}}\n", encoding="utf-8")
        with served(unlimited) as address:
            passed = measured(address, known, given.modes, given.pause)
    if not passed:
        sys.exit("a bar is missed")


if __name__ == "__main__":
    main()

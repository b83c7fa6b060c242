"""Kill -9 at random moments: do the tables end as if nothing had been, and what was paid twice?

    python benchmarks/crashes.py                200 kills, some minutes
    python benchmarks/crashes.py --kills 20

One script is run over and over: ingest a folder, edit it (documents are edited, added, renamed, emptied and
removed, a long one is among them), ingest it again; against the stand-in for Perplexity's service. At a
random moment its process is killed, and started again, and so on until it comes to its end. Then all marks,
rows and vectors are compared with those that an undisturbed run leaves, bit for bit. The service counts the
groups that it embedded, and a process that is killed leaves behind how many it had sent and not yet kept.

The processes are forked from this one, which has imported everything and opened nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import lancedb  # noqa: E402, F401 - once for all processes that are forked

from apps.fake_service.server import serving  # noqa: E402 - the path comes first
from apps.fake_service.service import Answer, EmbeddingService, Request  # noqa: E402
from connectors.files import FilesConnector, FilesSettings  # noqa: E402
from pipeline import tokens  # noqa: E402
from pipeline.chunk import Chunker  # noqa: E402
from pipeline.embedders.perplexity import PerplexityEmbedder  # noqa: E402
from pipeline.ingest import ingest_source  # noqa: E402
from pipeline.parse import DocumentParser  # noqa: E402
from pipeline.plan import RemovalGuard  # noqa: E402
from pipeline.prepare import Pipeline  # noqa: E402
from pipeline.records import (  # noqa: E402
    DocumentState,
    Embedded,
    EmbeddingSpace,
    EmbedLimits,
    EmbedReply,
    EmbedRequest,
    ItemRef,
    RawDocument,
    Spending,
    Vectors,
)
from pipeline.stores.lance import LanceStore  # noqa: E402

KEY = "pplx-crashes-4d1a"
DOCUMENTS = 60
CONCURRENCY = 4
ANSWER_SECONDS = 0.020
STAGES = ("start", "read", "embed", "journal", "replace", "touch", "remove", "spent", "upkeep", "edit")
"""Of several that are under way, the last of these counts."""


class Progress:
    """What a process is doing, in memory that outlives it: counts of what is under way, by stage."""

    names = (*STAGES, "open groups")
    """The last: groups that were sent, and whose vectors are not kept yet."""

    def __init__(self) -> None:
        self._numbers = struct.Struct(f"{len(self.names)}i")
        self._memory = mmap.mmap(-1, self._numbers.size)

    def clear(self) -> None:
        self._memory[:] = bytes(self._numbers.size)

    def add(self, name: str, number: int) -> None:
        at = 4 * self.names.index(name)
        (old,) = struct.unpack_from("i", self._memory, at)
        struct.pack_into("i", self._memory, at, old + number)

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        self.add(stage, 1)
        try:
            yield
        finally:
            self.add(stage, -1)

    def now(self) -> tuple[str, int]:
        """The stage, and the open groups."""
        *stages, groups = self._numbers.unpack(self._memory[:])
        under_way = [name for name, number in zip(STAGES, stages, strict=True) if number]
        return (under_way or ["start"])[-1], groups


PROGRESS = Progress()


# --- the process that is killed


class Folder(FilesConnector):
    """Notes that it reads."""

    async def load(self, ref: ItemRef) -> RawDocument:
        with PROGRESS.during("read"):
            return await super().load(ref)


class SmallRequests(PerplexityEmbedder):
    """Sends many requests where a few would do, and notes what is on its way."""

    @property
    def limits(self) -> EmbedLimits:
        return EmbedLimits(
            group_tokens=1_200, group_chunks=200, request_tokens=2_400, request_groups=4, request_chunks=400
        )

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        PROGRESS.add("open groups", len(request.groups))
        with PROGRESS.during("embed"):
            return await super().embed(request)


class Store(LanceStore):
    """Notes what is written while it is."""

    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        with PROGRESS.during("journal"):
            await super().journal(vectors)
        PROGRESS.add("open groups", -len(vectors))

    async def replace(self, documents: Sequence[Embedded]) -> None:
        with PROGRESS.during("replace"):
            await super().replace(documents)

    async def touch(self, states: Sequence[DocumentState]) -> None:
        with PROGRESS.during("touch"):
            await super().touch(states)

    async def remove(self, source: str, keys: Sequence[str]) -> None:
        with PROGRESS.during("remove"):
            await super().remove(source, keys)

    async def spent(self, spending: Spending) -> None:
        with PROGRESS.during("spent"):
            await super().spent(spending)

    async def upkeep(self) -> None:
        with PROGRESS.during("upkeep"):
            await super().upkeep()


async def script(folder: Path, base_url: str) -> None:
    """Ingest, edit, ingest; from where it was stopped."""
    if not (folder / "edited").exists():
        await ingest(folder, base_url)
        with PROGRESS.during("edit"):
            edit(folder / "corpus")
            (folder / "edited").touch()
    await ingest(folder, base_url)


async def ingest(folder: Path, base_url: str) -> None:
    connector = Folder(source="corpus", settings=FilesSettings(type="files", path=folder / "corpus"))
    async with pipeline_in(folder, base_url) as pipeline, pipeline.store.lease("ingesting", wait=60):
        report = await ingest_source(connector, pipeline, guard=RemovalGuard(approved=DOCUMENTS))
    if not report.complete:
        raise RuntimeError(f"not all was done: {report}")


@asynccontextmanager
async def pipeline_in(folder: Path, base_url: str) -> AsyncIterator[Pipeline]:
    model = "pplx-embed-context-v1-0.6b"
    embedder = SmallRequests(model=model, dimensions=128, api_key=KEY, base_url=base_url)
    try:
        yield Pipeline(
            parser=DocumentParser(),
            chunker=Chunker(max_tokens=96),
            embedder=embedder,
            store=await Store.open(str(folder / "db"), space=embedder.space),
            concurrency=CONCURRENCY,
        )
    finally:
        await embedder.aclose()


async def print_content(folder: Path) -> None:
    """A digest of every mark, row and vector that the tables hold of the folder, and how many rows."""
    space = EmbeddingSpace(provider="perplexity", model="pplx-embed-context-v1-0.6b", dimensions=128)
    store = await LanceStore.open(str(folder / "db"), space=space)
    content, rows = hashlib.sha256(), 0
    async for document in store.stored("corpus"):
        states = [mark.state for mark in document.marks]
        content.update(repr((document.key, states, document.chunks)).encode())
        content.update(document.vectors.tobytes())
        rows += len(document.chunks)
    counts = dict(await store.counts())
    (folder / "content.json").write_text(json.dumps([content.hexdigest(), counts["corpus"], rows]))


# --- the folder


def put(path: Path, text: str, *, second: int) -> None:
    """Write a file at once, with the same time of change in every run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    part.write_text(text)
    os.utime(part, (1_700_000_000 + second,) * 2)
    part.replace(path)


def document(number: int, sections: int = 3) -> str:
    chance = random.Random(number)  # noqa: S311 - makes documents
    words = ["river", "stone", "lamp", "winter", "letter", "garden", "window", "engine", "harbour"]
    parts = (f"## Part {n}\n\n{' '.join(chance.choices(words, k=60))}.\n" for n in range(sections))
    return "\n".join([f"# Document {number}\n", *parts])


def write(corpus: Path) -> None:
    for number in range(DOCUMENTS):
        put(corpus / f"{number:02}.md", document(number), second=1)
    put(corpus / "book.md", document(1_000, sections=40), second=1)


def edit(corpus: Path) -> None:
    """Of each ten documents four are edited, one is renamed, emptied, removed, touched; some are added."""
    for number in range(0, DOCUMENTS, 10):
        for n in range(number, number + 4):
            put(corpus / f"{n:02}.md", f"{document(n)}\nOne more line.\n", second=2)
        put(corpus / f"moved/{number:02}.md", document(number + 4), second=1)
        (corpus / f"{number + 4:02}.md").unlink(missing_ok=True)
        put(corpus / f"{number + 5:02}.md", "", second=2)
        (corpus / f"{number + 6:02}.md").unlink(missing_ok=True)
        put(corpus / f"{number + 7:02}.md", document(number + 7), second=2)
        put(corpus / f"new/{number:02}.md", document(2_000 + number), second=2)
    put(corpus / "book.md", f"{document(1_000, sections=40)}\nThe end.\n", second=2)


# --- the service


class Counting(EmbeddingService):
    """Writes a line for each request that it embeds: a digest of each group."""

    def __init__(self, into: Path) -> None:
        super().__init__(api_key=KEY, delay=lambda _tokens: ANSWER_SECONDS)
        self._into = into.open("a", buffering=1)

    @contextmanager
    def visit(self, request: Request) -> Iterator[Answer]:
        with super().visit(request) as answer:
            if request.method == "POST" and answer.status == 200:
                groups = json.loads(request.body)["input"]
                self._into.write(json.dumps([digest(group) for group in groups]) + "\n")
            yield answer


def digest(group: list[str]) -> str:
    return hashlib.sha256(json.dumps(group).encode()).hexdigest()[:16]


def serve(into: Path) -> None:
    with serving(Counting(into)) as base_url:
        print(base_url, flush=True)
        sys.stdin.read()  # until this process's parent is done


@contextmanager
def service(into: Path) -> Iterator[str]:
    """Its address; it is a process of its own."""
    command = [sys.executable, __file__, "--serve", str(into)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.communicate()  # its input ends, and so does it


# --- the one who kills


@dataclass
class Outcome:
    """What came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    """By the stage that they fell in: "start" until the first item is read, and between two stages."""
    scripts: int = 0
    unequal: int = 0
    groups: int = 0
    """Embedded in an undisturbed script."""
    twice: int = 0
    """Groups that were paid for more than once, each time counted."""
    open: int = 0
    """Groups that were sent and not kept, over all kills."""
    passed: int = 0
    """Scripts in which more was paid twice than had been open."""
    most_open: int = 0
    rows: int = 0
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not (self.unequal or self.passed)


def forked(work: Callable[[], Coroutine[None, None, None]]) -> int:
    """Do it in a process of its own; gives its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        asyncio.run(work())
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """Wait for it; gives the signal or the code that it ended with."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int) -> bool:
    """Kill it, if it still runs; gives whether that ended it.

    Raises:
        RuntimeError: it had failed by itself.
    """
    os.kill(pid, signal.SIGKILL)
    code = ended(pid)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the script failed by itself with {code}")
    return code == -signal.SIGKILL


def undisturbed(folder: Path, base_url: str) -> float:
    """Run the script to its end; gives the seconds that it takes."""
    PROGRESS.clear()
    started = time.perf_counter()
    if code := ended(forked(lambda: script(folder, base_url))):
        raise RuntimeError(f"the script failed with {code}")
    return time.perf_counter() - started


def content(folder: Path) -> list[object]:
    if ended(forked(lambda: print_content(folder))):
        raise RuntimeError("the tables could not be read")
    return list(json.loads((folder / "content.json").read_text()))


def measure(kills: int, seed: int) -> Outcome:
    """Run scripts, and kill them, until there have been so many kills."""
    started, chance, outcome = time.perf_counter(), random.Random(seed), Outcome()  # noqa: S311 - moments
    warm_up()
    with tempfile.TemporaryDirectory() as name:
        paid_file = Path(name, "paid")
        with service(paid_file) as base_url:
            folder = Path(name, "script")  # the same for all: where a document is stands in its rows
            write(folder / "corpus")
            seconds = undisturbed(folder, base_url)
            wanted = content(folder)
            outcome.groups = len(lines_from(paid_file, 0))
            outcome.rows = int(str(wanted[2]))
            while outcome.kills.total() < kills:
                shutil.rmtree(folder)
                disturb(folder, base_url, paid_file, lambda: chance.uniform(0, seconds), outcome)
                outcome.unequal += content(folder) != wanted
                if sys.stderr.isatty():
                    print(f"{outcome.kills.total()} kills", end="\r", file=sys.stderr, flush=True)
    outcome.seconds = time.perf_counter() - started
    return outcome


def disturb(
    folder: Path, base_url: str, paid_file: Path, moment: Callable[[], float], outcome: Outcome
) -> None:
    """Run one script to its end, killing it at random moments on its way."""
    write(folder / "corpus")
    before, open_groups, killed = paid_file.stat().st_size, 0, True
    while killed:
        PROGRESS.clear()
        pid = forked(lambda: script(folder, base_url))
        time.sleep(moment())
        killed = kill(pid)
        if killed:
            stage, groups = PROGRESS.now()
            outcome.kills[stage] += 1
            outcome.most_open = max(outcome.most_open, groups)
            open_groups += groups
    paid = lines_from(paid_file, before)
    twice = len(paid) - len(set(paid))
    outcome.scripts += 1
    outcome.twice += twice
    outcome.open += open_groups
    outcome.passed += twice > open_groups


def warm_up() -> None:
    """Load what a first document loads, once for all that are forked."""
    warnings.filterwarnings("ignore", message="lancedb fork support")  # nothing of it runs in this process
    tokens.encoding()
    ref = ItemRef(source="corpus", key="0.md", version="")
    raw = RawDocument(ref=ref, content=document(0).encode(), media_type="text/markdown")
    asyncio.run(DocumentParser().parse(raw))


def lines_from(paid_file: Path, place: int) -> list[str]:
    """The groups that were embedded since the file had this size."""
    with paid_file.open() as file:
        file.seek(place)
        return [group for line in file for group in json.loads(line)]


def lines(outcome: Outcome) -> list[str]:
    """The outcome as a table."""
    fell = ", ".join(f"{stage} {outcome.kills[stage]}" for stage in STAGES if outcome.kills[stage])
    rows = [
        ("kills", f"{outcome.kills.total():,} in {outcome.scripts:,} scripts"),
        ("fell into", fell),
        ("groups, rows of a script", f"{outcome.groups:,}, {outcome.rows:,}"),
        ("end states unlike the undisturbed one", f"{outcome.unequal}"),
        ("groups sent and not kept at a kill", f"{outcome.open:,}, {outcome.most_open} at most"),
        ("groups paid for twice", f"{outcome.twice:,}"),
        ("scripts in which more than these were", f"{outcome.passed}"),
        ("seconds", f"{outcome.seconds:.0f}"),
    ]
    return [f"{name:40}{value}" for name, value in rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    outcome = measure(options.kills, options.seed)
    print("\n".join(lines(outcome)))
    if not outcome.sound:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Files that hang, crash or fill their parser, and readers that do so on purpose."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from pipeline.errors import DocweaveError, ParseError
from pipeline.parse import DocumentParser, ParseLimits
from pipeline.parse.extract import Extract, Unreadable
from pipeline.parse.worker import _Replies
from pipeline.parse.workers import WorkerFailed, Workers
from pipeline.records import Document, ItemRef, RawDocument
from tests import hostile

READERS = """
import os, sys, time
from pipeline.parse.extract import Extract, Part, Unreadable

def echo(content):
    return Extract(parts=(Part(text=content.decode("utf-8", "surrogatepass"), number=1),), title="T")

def sleep(content):
    time.sleep(60)

def spin(content):
    while True: pass

def allocate(content):
    held = []
    while True: held.append(bytearray(50_000_000))

def abort(content):
    os.abort()

def leave(content):
    os._exit(0)

def chatter(content):
    print("ok 4", flush=True); os.write(1, b"ok 9999999\\n"); input_read = sys.stdin.read()
    return echo(b"after the noise" + input_read.encode())

def refuse(content):
    raise Unreadable("is of no use")

def fail(content):
    raise RuntimeError("strange bytes")

def panic(content):
    raise BaseException("a panic")

def secrets(content):
    return echo(" ".join(sorted(os.environ)).encode())

def pid(content):
    return echo(str(os.getpid()).encode())

def do(content):
    # Of one reader with `echo`'s pace, as far as anybody knows: what it is told to do.
    told, _, path = content.decode().partition(" ")
    while told == "until" and not os.path.exists(path):
        time.sleep(0.05)
    return {"abort": abort, "sleep": sleep, "nap": nap}.get(told, echo)(content)

def nap(content):
    time.sleep(2)
    return echo(content)
"""


@pytest.fixture(autouse=True)
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile_readers.py").write_text(READERS)
    monkeypatch.syspath_prepend(tmp_path)


def workers(
    *, seconds: float = 30, memory_bytes: int = 2**30, count: int = 1, output_chars: int = 1000
) -> Workers:
    return Workers(count=count, seconds=seconds, memory_bytes=memory_bytes, output_chars=output_chars)


async def text_of(pool: Workers, reader: str, content: bytes = b"text") -> str:
    extract: Extract = await pool.run(f"hostile_readers:{reader}", content)
    return extract.parts[0].text


async def test_a_worker_serves_one_document_after_the_other() -> None:
    pool = workers()

    assert await text_of(pool, "echo", "ä\ud800\n\0".encode("utf-8", "surrogatepass")) == "ä\ud800\n\0"
    assert await text_of(pool, "pid") == await text_of(pool, "pid")


async def test_what_was_read_is_not_kept_until_somebody_looks_for_garbage() -> None:
    pool, content = workers(), bytes(bytearray(b"text"))
    await text_of(pool, "echo", content)
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(content)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(text_of, pool, "echo", content)
        assert sys.getrefcount(content) == before
    finally:
        gc.enable()


def test_a_bell_that_nobody_listens_to_holds_no_worker_up() -> None:
    listening, bell = os.pipe()
    receiving, sending = os.pipe()
    replies = _Replies(sending, bell)
    try:
        assert not os.get_blocking(bell)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(bell, bytes(4096))
        replies.send("ok", 0, b"text")
        replies.ring()
        assert os.read(receiving, 100).endswith(b"text")
    finally:
        for pipe in (listening, bell, receiving, sending):
            os.close(pipe)


@pytest.mark.parametrize("size", [0, 2**16 - 1, 2**16, 2**16 + 1, 3_000_001])
async def test_contents_and_texts_larger_than_a_pipe_arrive_whole(size: int) -> None:
    content = ("0123456789\n" * (size // 11 + 1))[:size]

    assert await text_of(workers(output_chars=4_000_000), "echo", content.encode()) == content


async def test_other_documents_are_served_while_one_is_sent_and_read() -> None:
    pool = workers(seconds=2, count=2, output_chars=4_000_000)
    texts: list[str] = []

    async def read(reader: str, content: bytes) -> None:
        try:
            texts.append(await text_of(pool, reader, content))
        except WorkerFailed as failure:
            texts.append(str(failure))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, "sleep", b"x" * 3_000_000)
        await anyio.sleep(0.5)
        tasks.start_soon(read, "echo", b"y" * 3_000_000)

    assert texts == ["y" * 3_000_000, "takes longer than 2 s to parse"]


@pytest.mark.parametrize("reader", ["abort", "leave"])
async def test_a_reader_that_ends_its_process_costs_its_document_only(reader: str) -> None:
    pool = workers()
    before = await text_of(pool, "pid")

    with pytest.raises(WorkerFailed, match="crashes its parser, or needs more than 1 GiB"):
        await text_of(pool, reader)

    assert await text_of(pool, "pid") != before


@pytest.mark.parametrize("reader", ["sleep", "spin"])
async def test_a_reader_that_does_not_end_is_ended(reader: str) -> None:
    pool = workers(seconds=1)  # enough for what is read after it, on a machine that is busy
    started = time.monotonic()

    with pytest.raises(WorkerFailed, match="takes longer than 1 s"):
        await text_of(pool, reader)

    assert time.monotonic() - started < 5
    assert await text_of(pool, "echo") == "text"


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited where the system can")
async def test_a_reader_gets_no_more_memory_than_it_may_have() -> None:
    pool = workers(memory_bytes=2**29)

    with pytest.raises(WorkerFailed, match="memory"):
        await text_of(pool, "allocate")

    assert await text_of(pool, "echo") == "text"


async def test_what_a_reader_prints_and_reads_disturbs_nothing() -> None:
    pool = workers()

    assert await text_of(pool, "chatter") == "after the noise"
    assert await text_of(pool, "echo") == "text"


async def test_what_a_reader_raises_is_told() -> None:
    pool = workers()

    with pytest.raises(Unreadable, match=r"^is of no use$"):
        await text_of(pool, "refuse")
    with pytest.raises(WorkerFailed, match=r"^is broken: RuntimeError: strange bytes$"):
        await text_of(pool, "fail")
    with pytest.raises(WorkerFailed, match=r"^is broken: BaseException: a panic$"):
        await text_of(pool, "panic")
    with pytest.raises(Unreadable, match="gives 1,001 characters of text; at most 1,000"):
        await text_of(pool, "echo", b"x" * 1001)


async def test_a_worker_sees_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", "k")

    assert "PERPLEXITY_API_KEY" not in await text_of(workers(), "secrets")


async def test_a_cancelled_document_ends_its_worker() -> None:
    pool = workers()
    process = psutil.Process(int(await text_of(pool, "pid")))

    with anyio.move_on_after(0.3) as scope:
        await text_of(pool, "sleep")

    assert scope.cancelled_caught
    assert not process.is_running()
    assert await text_of(pool, "echo") == "text"


async def test_a_worker_that_died_while_it_rested_is_replaced() -> None:
    pool = workers()
    process = psutil.Process(int(await text_of(pool, "pid")))
    process.kill()
    await anyio.to_thread.run_sync(process.wait)

    assert await text_of(pool, "echo") == "text"


async def test_no_more_documents_are_parsed_at_once_than_there_are_processes() -> None:
    pool = workers(count=2, seconds=0.5)
    started = time.monotonic()

    async def late() -> None:
        with pytest.raises(WorkerFailed):
            await text_of(pool, "sleep")

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(late)

    assert 1 <= time.monotonic() - started < 10


async def all_of(pool: Workers, contents: list[str]) -> list[str]:
    """What comes of contents that are asked for at the same time, of a reader that is known to be quick."""
    for _ in range(12):
        await text_of(pool, "do")
    found: dict[int, str] = {}

    async def read(number: int, content: str) -> None:
        try:
            found[number] = await text_of(pool, "do", content.encode())
        except WorkerFailed as failure:
            found[number] = str(failure).partition(",")[0]

    async with anyio.create_task_group() as tasks:
        for number, content in enumerate(contents):
            tasks.start_soon(read, number, content)
    return [found[number] for number in range(len(contents))]


@pytest.mark.parametrize("count", [1, 2])
async def test_documents_that_wait_together_are_each_given_their_own_text(count: int) -> None:
    contents = [f"{number} " * (1 + number * 997 % 5_000) for number in range(300)]

    assert await all_of(workers(count=count, output_chars=100_000), contents) == contents


async def test_texts_larger_than_a_pipe_come_back_while_others_wait() -> None:
    contents = [str(number) * 700_000 for number in range(10)]

    assert await all_of(workers(output_chars=700_000), contents) == contents


@pytest.mark.parametrize(("at", "count"), [(0, 1), (5, 1), (5, 2)])
async def test_of_documents_that_wait_together_a_crash_costs_the_one_that_crashed(
    at: int, count: int
) -> None:
    contents = [f"text {number}" for number in range(12)]
    contents[at] = "abort"

    texts = await all_of(workers(count=count), contents)

    assert texts == [*contents[:at], "crashes its parser", *contents[at + 1 :]]


@pytest.mark.parametrize("count", [1, 2])
async def test_of_documents_that_wait_together_the_one_that_does_not_end_is_ended(count: int) -> None:
    contents = [f"text {number}" for number in range(8)]
    contents[2] = "sleep"

    texts = await all_of(workers(count=count, seconds=2), contents)

    assert texts == [*contents[:2], "takes longer than 2 s to parse", *contents[3:]]


async def test_documents_behind_one_that_is_slower_than_thought_are_read_by_another_worker(
    tmp_path: Path,
) -> None:
    pool, end = workers(count=2), tmp_path / "end"
    texts: list[str] = []

    async def read(content: str) -> None:
        texts.append(await text_of(pool, "do", content.encode()))
        if len(texts) == 4:
            end.touch()

    await all_of(pool, ["a", "b", "c"])
    async with anyio.create_task_group() as tasks:
        for content in (f"until {end}", "a", "b", "c", "d"):
            tasks.start_soon(read, content)

    assert sorted(texts[:4]) == ["a", "b", "c", "d"]


async def test_who_waits_behind_a_cancelled_document_is_served() -> None:
    pool = workers()
    texts: list[str] = []

    async def read(content: str) -> None:
        texts.append(await text_of(pool, "do", content.encode()))

    async def give_up() -> None:
        with anyio.move_on_after(0.1):
            await read("sleep")

    await all_of(pool, [])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
        await anyio.sleep(0.01)
        for content in ("a", "b"):
            tasks.start_soon(read, content)

    assert sorted(texts) == ["a", "b"]


async def test_a_document_that_is_cancelled_while_it_waits_costs_nobody_anything() -> None:
    pool = workers()
    texts: list[str] = []

    async def read(content: str) -> None:
        texts.append(await text_of(pool, "do", content.encode()))

    async def give_up(content: str) -> None:
        with anyio.move_on_after(0.05):
            await read(content)

    await all_of(pool, [])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, "nap")
        for content in ("sleep", "nap", "sleep"):
            tasks.start_soon(give_up, content)
        tasks.start_soon(read, "last")

    assert sorted(texts) == ["last", "nap"]
    assert await text_of(pool, "echo") == "text"


async def test_workers_end_with_their_pool() -> None:
    pool = workers()
    process = psutil.Process(int(await text_of(pool, "pid")))

    del pool

    assert not process.is_running()


def killed_at_first(folder: Path, *, times: int) -> Path:
    """An interpreter that is killed so many times before it can say anything."""
    program = folder / "python"
    tried = folder / "tried"
    program.write_text(
        f'#!/bin/sh\necho >> "{tried}"\n'
        f'[ "$(wc -l < "{tried}")" -le {times} ] && kill -9 $$\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    program.chmod(0o755)
    return program


async def test_a_worker_that_is_killed_before_it_is_ready_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.parse.workers._AGAIN_SECONDS", (0, 0))
    monkeypatch.setattr(sys, "executable", str(killed_at_first(tmp_path, times=2)))

    assert await text_of(workers(), "echo", b"in the end") == "in the end"


async def test_a_worker_that_is_killed_every_time_is_told_with_what_may_be_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.parse.workers._AGAIN_SECONDS", (0, 0))
    monkeypatch.setattr(sys, "executable", str(killed_at_first(tmp_path, times=3)))

    with pytest.raises(DocweaveError, match=r"at 3 tries: .* where the machine is short of memory"):
        await text_of(workers(), "echo")


async def test_a_machine_that_starts_no_process_is_no_fault_of_the_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.parse.workers._AGAIN_SECONDS", ())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(DocweaveError, match="no worker process for parsing starts") as raised:
        await text_of(workers(), "echo")

    assert not isinstance(raised.value, ParseError)


PROGRAM = """
import sys, time, anyio
from pipeline.parse.workers import Workers

async def main():
    pool = Workers(count=2, seconds=1, memory_bytes=2**30, output_chars=1000)
    print((await pool.run("hostile_readers:pid", b"")).parts[0].text, flush=True)
    if "sleep" in sys.argv:
        await pool.run("hostile_readers:sleep", b"")
    time.sleep(60)

anyio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGALRM")
@pytest.mark.parametrize("deed", ["rest", "sleep"])
def test_workers_do_not_outlive_a_program_that_is_killed(deed: str, tmp_path: Path) -> None:
    # No guard around the program's start, on purpose: the workers must not run it again.
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), deed], stdout=subprocess.PIPE, env=environment
    )
    with program:
        assert program.stdout is not None
        worker = psutil.Process(int(program.stdout.readline()))
        time.sleep(0.2)
        program.send_signal(signal.SIGKILL)

    _gone, alive = psutil.wait_procs([worker], timeout=10)

    assert not alive


@pytest.fixture(scope="module")
def parser() -> DocumentParser:
    return DocumentParser(ParseLimits(seconds=20, memory_bytes=2**30, output_chars=5_000_000), processes=1)


async def parse(parser: DocumentParser, key: str, content: bytes) -> Document:
    ref = ItemRef(source="s", key=key, version="1")
    return await parser.parse(RawDocument(ref=ref, content=content, media_type=""))


async def the_next_is_read(parser: DocumentParser) -> bool:
    return (await parse(parser, "next.html", b"<h1>Next</h1>")).title == "Next"


@pytest.mark.parametrize("key", hostile.QUICK)
async def test_a_broken_file_is_a_parse_error_and_the_next_one_is_read(
    parser: DocumentParser, key: str
) -> None:
    with pytest.raises(ParseError, match=f"^{key} "):
        await parse(parser, key, hostile.QUICK[key]())

    assert await the_next_is_read(parser)


@pytest.mark.parametrize("key", hostile.HARMLESS)
async def test_an_odd_file_gives_its_text_and_nothing_else(parser: DocumentParser, key: str) -> None:
    document = await parse(parser, key, hostile.HARMLESS[key]())

    assert "root:" not in document.text
    assert await the_next_is_read(parser)


@pytest.mark.parametrize("key", hostile.CONTAINERS)
async def test_a_hostile_container_is_refused_whole(parser: DocumentParser, key: str) -> None:
    ref = ItemRef(source="s", key=key, version="1")

    with pytest.raises(ParseError, match=f"^{key} "):
        await parser.children(RawDocument(ref=ref, content=hostile.CONTAINERS[key](), media_type=""))

    assert await the_next_is_read(parser)


@pytest.mark.parametrize("key", ["flate-bomb.pdf", "page-tree-loop.pdf", "bomb.docx"])
async def test_a_bomb_costs_its_document_only(parser: DocumentParser, key: str) -> None:
    started = time.monotonic()

    with pytest.raises(ParseError, match=f"^{key} "):
        await parse(parser, key, hostile.SLOW[key]())

    assert time.monotonic() - started < 45
    assert await the_next_is_read(parser)


async def test_a_slip_out_of_an_archive_stays_in_it(parser: DocumentParser) -> None:
    ref = ItemRef(source="s", key="a.zip", version="1")

    found = await parser.children(RawDocument(ref=ref, content=hostile.zip_slip(), media_type=""))

    assert [document.ref.key for document in found.documents] == [
        "a.zip!/tmp/slip.md",
        "a.zip!/etc/slip.md",
        "a.zip!/slip.md",
        "a.zip!/a/slip.md",
        "a.zip!/link.md",
    ]
    assert found.documents[-1].content == b"/etc/passwd"


async def test_overlapping_members_are_refused(parser: DocumentParser) -> None:
    ref = ItemRef(source="s", key="a.zip", version="1")

    content = hostile.overlapping_zip()
    found = await parser.children(RawDocument(ref=ref, content=content, media_type=""))

    assert (len(found.documents), len(found.refused)) == (1, 399)


async def test_a_table_cell_that_claims_to_span_millions_is_read(parser: DocumentParser) -> None:
    page = b"<table><tr><td colspan=100000000 rowspan=100000000>x</td></tr></table>"

    assert "x" in (await parse(parser, "span.html", page)).text

"""Look at what a run depends on beside its settings: versions, disk, clock, limits, the tables' health.

What the settings name is tried by `config.check`.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
from packaging.requirements import InvalidRequirement, Requirement

from config.build import store_options
from config.check import Finding
from config.embedding import ServiceEmbedding
from config.settings import Settings
from pipeline.errors import DocweaveError

State = Literal["ok", "warn", "fail"]

LIBRARIES = ("lancedb", "prefect", "pydantic", "pyarrow", "fastapi", "httpx")
"""Whose versions are told even where all are right."""
SMALL_DISK, LITTLE_DISK = 500 << 20, 2 << 30
"""Bytes that are free: below the first a run fails soon; below the second it may."""
SMALL_TMP = 200 << 20
FEW_FILES = 1024
"""Descriptors: LanceDB keeps a table's files open, and each request and parser has some."""
SKEWED_SECONDS, WRONG_SECONDS = 30, 300
"""From when on a clock is told of; and from when on services and storage refuse what it signs."""
ANSWER_SECONDS = 10.0
MANY_ROWS = 1_000
"""That no index covers: searches get slower by them."""
LARGE_ROWS = 10_000
"""From so many on it is felt that a table is in many small files."""
JOURNAL_OVER = 1.25
"""The journal may be so many times as large as it should be, for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What came of looking at one thing."""

    what: str
    state: State
    message: str
    todo: str = ""
    """What to do about it."""


def of_finding(finding: Finding) -> Diagnosis:
    """What `docweave check` found, in the doctor's words."""
    return Diagnosis(
        what=finding.what, state="ok" if finding.ok else "fail", message=finding.message, todo=""
    )


async def machine() -> list[Diagnosis]:
    """What no settings are needed for."""
    looks: tuple[Callable[[], Diagnosis], ...] = (_python, _libraries, _temporary, _descriptors)
    return [await anyio.to_thread.run_sync(look) for look in looks]


async def surroundings(settings: Settings) -> list[Diagnosis]:
    """What the settings name, beside what a check tries: disk, clocks, and how the tables are."""
    found = [await anyio.to_thread.run_sync(_disk, settings)]
    if isinstance(settings.embedding, ServiceEmbedding):
        found.append(await clock_at("clock (service)", settings.embedding.base_url))
    found.append(await anyio.to_thread.run_sync(_folder_clock, settings))
    return found + [one async for one in _tables(settings)]


def _python() -> Diagnosis:
    said = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.platform(terse=True)}"
    )
    return Diagnosis(what="python", state="ok", message=said)


def _libraries() -> Diagnosis:
    """Whether all that Docweave needs is there, in a version that it was tried with."""
    wrong, there = [], {}
    for requirement in _required():
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        there[requirement.name] = version
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, and must be {requirement.specifier}")
    said = ", ".join(f"{name} {there[name]}" for name in LIBRARIES if name in there)
    if wrong:
        todo = "install Docweave anew, with its own ranges (./scripts/setup, or pip install --upgrade)"
        return Diagnosis(what="versions", state="fail", message="\n".join(wrong), todo=todo)
    return Diagnosis(what="versions", state="ok", message=f"docweave {metadata.version('docweave')}, {said}")


def _required() -> Iterator[Requirement]:
    for text in metadata.requires("docweave") or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _temporary() -> Diagnosis:
    folder = tempfile.gettempdir()
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        todo = "set TMPDIR to a folder that can be written"
        return Diagnosis(what="temporary", state="fail", message=f"{folder}: {error.strerror}", todo=todo)
    state: State = "ok" if free >= SMALL_TMP else "warn"
    todo = "" if state == "ok" else "make room, or set TMPDIR: large items and plans go there"
    return Diagnosis(what="temporary", state=state, message=f"{folder}: {_size(free)} free", todo=todo)


def _descriptors() -> Diagnosis:
    try:
        import resource  # noqa: PLC0415 - some systems have no such limits
    except ImportError:
        return Diagnosis(what="open files", state="ok", message="no limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = "no limit" if soft == resource.RLIM_INFINITY else f"at most {soft:,}"
    if soft == resource.RLIM_INFINITY or soft >= FEW_FILES:
        return Diagnosis(what="open files", state="ok", message=said)
    more = "" if hard == resource.RLIM_INFINITY or hard >= FEW_FILES else ", as an administrator"
    todo = f"ulimit -n 4096{more} (LimitNOFILE= in a systemd unit)"
    return Diagnosis(what="open files", state="warn", message=said, todo=todo)


def _disk(settings: Settings) -> Diagnosis:
    """Compacting writes a table anew before the old files go: as much again must fit."""
    folder = _local(settings)
    if folder is None:
        return Diagnosis(what="disk", state="ok", message=f"{settings.store.uri} is no folder here")
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    sizes = [_bytes(table) for table in folder.glob("*.lance")]
    largest = max(sizes, default=0)
    said = f"{_size(free)} free at {there}; the tables take {_size(sum(sizes))}"
    if free < max(SMALL_DISK, largest // 4):
        todo = "make room now: a run that finds none fails"
        return Diagnosis(what="disk", state="fail", message=said, todo=todo)
    if free < max(LITTLE_DISK, largest):
        todo = f"make room: compacting the largest table takes {_size(largest)} for a while"
        return Diagnosis(what="disk", state="warn", message=said, todo=todo)
    return Diagnosis(what="disk", state="ok", message=said)


def _folder_clock(settings: Settings) -> Diagnosis:
    """A folder of another machine has that one's clock."""
    folder = _local(settings)
    if folder is None:
        return Diagnosis(what="clock", state="ok", message=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there) as file:
            skew = Path(file.name).stat().st_mtime - time.time()
    except OSError as error:
        return Diagnosis(what="clock", state="warn", message=f"{there}: {error.strerror}")
    return skewed("clock", skew, f"the store's at {there}")


async def clock_at(what: str, address: str) -> Diagnosis:
    """How far our clock is from that of a server, by the Date of its answer, whatever that is."""
    import httpx  # noqa: PLC0415 - takes a tenth of a second, and most commands need none

    host = httpx.URL(address).host
    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, follow_redirects=False) as client:
            answer = await client.head(address)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        todo = "see the network, a proxy (HTTPS_PROXY) and the address in the settings"
        said = f"{host} does not answer: {type(error).__name__}"
        return Diagnosis(what=what, state="warn", message=said, todo=todo)
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return Diagnosis(what=what, state="ok", message=f"{host} answers, without telling its time")
    return skewed(what, theirs.timestamp() - time.time(), f"{host}'s")


def skewed(what: str, seconds: float, whose: str) -> Diagnosis:
    """What is said of two clocks."""
    if abs(seconds) < SKEWED_SECONDS:
        return Diagnosis(what=what, state="ok", message=f"within {SKEWED_SECONDS} s of {whose}")
    said = f"{abs(seconds):,.0f} s {'behind' if seconds > 0 else 'ahead of'} {whose}"
    todo = "set the clock by NTP: signed requests are refused, schedules and ages are wrong"
    state: State = "fail" if abs(seconds) >= WRONG_SECONDS else "warn"
    return Diagnosis(what=what, state=state, message=said, todo=todo)


async def _tables(settings: Settings) -> AsyncIterator[Diagnosis]:
    from pipeline.stores import lance_health  # noqa: PLC0415 - imports lancedb, which takes seconds

    if (folder := _local(settings)) and not folder.exists():
        yield Diagnosis(what="tables", state="ok", message="none yet: `docweave ingest` makes them")
        return
    try:
        health = await lance_health.look(
            settings.store.uri, store_options(settings), policy=settings.store.upkeep.policy
        )
    except DocweaveError as error:
        yield Diagnosis(what="tables", state="fail", message=str(error), todo="see `docweave check`")
        return
    for diagnosis in _of_tables(settings, health):
        yield diagnosis


def _of_tables(settings: Settings, health: object) -> Iterator[Diagnosis]:
    from pipeline.stores.lance_health import Health  # noqa: PLC0415 - as above

    assert isinstance(health, Health)  # noqa: S101 - for the type checker
    if not health.tables:
        yield Diagnosis(what="tables", state="ok", message="none yet: `docweave ingest` makes them")
    for table in health.tables:
        said = f"{table.rows:,} rows" + (f", {_size(table.bytes_before)}" if table.bytes_before else "")
        due = [
            text
            for wanted, text in (
                (table.compacted, "in small files"),
                (table.extended, f"{min(table.extended, table.rows):,} rows that no index covers"),
                (table.indexed, f"no index yet of {', '.join(table.indexed)}"),
                (table.versions, f"{table.versions:,} old versions"),
                (table.orphans, f"{table.orphans:,} orphaned files"),
            )
            if wanted
        ]
        searched = table.table.startswith(("chunks", "documents"))
        slow = searched and (
            (table.compacted and table.rows >= LARGE_ROWS) or table.extended >= MANY_ROWS or table.indexed
        )
        message = "; ".join([said, *due, *([table.kept] if table.kept else [])])
        too_large = (
            table.table == "journal" and (table.bytes_before or 0) > settings.store.journal * JOURNAL_OVER
        )
        if too_large:
            message += f"; store.journal allows {_size(settings.store.journal)}"
        wrong = slow or too_large
        todo = "docweave maintain" if wrong else ""
        yield Diagnosis(
            what=f"tables.{table.table}", state="warn" if wrong else "ok", message=message, todo=todo
        )
    if health.staged is not None:
        said = f"a rebuild is being made, or was stopped (generation {health.staged})"
        todo = "`docweave ingest --rebuild` goes on with it"
        yield Diagnosis(what="tables.rebuild", state="warn", message=said, todo=todo)
    for held in health.leases:
        state: State = "warn" if held.gone else "ok"
        todo = "nothing: the next run takes over" if held.gone else ""
        said = f"{held.tables}: {held.by}" + (", and has ended without a word" if held.gone else "")
        yield Diagnosis(what="lease", state=state, message=said, todo=todo)


def _local(settings: Settings) -> Path | None:
    return None if "://" in settings.store.uri else Path(settings.store.uri)


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # upkeep was quicker
            continue
    return total


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"

"""Copying a database elsewhere while runs write it, and back: see docs/operating.md.

The files of a table are never changed once they are written; which of them make a version, its manifest says.
A backup is therefore the manifests as they were at one moment, and every file that was there after it. What a
run was in the middle of at that moment looks as if it had been stopped there, which the next run puts right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

import anyio

from pipeline.errors import StoreBusy, StoreError, StoreRefused
from pipeline.stores import _core
from pipeline.stores._files import Files, Gone, Sizes
from pipeline.stores._lease import Leases
from pipeline.stores._place import Place
from pipeline.stores._schema import JOURNAL, LEASE, LEASES, RUNS, SPENDING

MARK: Final = "docweave-backup.json"
"""What a backup consists of. Written after all else, so that a backup that was stopped is none, or still the
one before."""
FORM: Final = 1
LEFT_OUT: Final = (LEASES, LEASE)
"""Tables that say who writes: nobody does, where they would be restored."""
ALONE: Final = (JOURNAL, RUNS, SPENDING)
"""Tables that may be newer than the others: they say what runs did and paid, whatever became of it."""
LOOKS = 200
"""How often it is looked for a moment in which nobody commits anything, …"""
LOOK_AGAIN = 0.05
"""… so many seconds apart."""
ROUNDS = 5
"""How often it begins anew, where upkeep cleared away what was being copied."""
AT_ONCE = 4
"""Files that are copied at the same time."""

_TABLE = re.compile(r"([^/]+)\.lance/")
_MANIFEST = re.compile(r"[^/]+\.lance/_versions/[^/]+\.manifest")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What stands in a backup's mark."""

    of: str
    """The database's address."""
    taken_at: str
    """The moment that it is of: UTC, ISO 8601."""
    files: Mapping[str, int]
    """Bytes, by path."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())

    @property
    def tables(self) -> list[str]:
        """Their names."""
        return sorted({found[1] for path in self.files if (found := _TABLE.match(path))})


@dataclass(slots=True, kw_only=True)
class Copied:
    """What was done."""

    backup: Backup
    files: int = 0
    """That were copied, the others being there already."""
    bytes: int = 0


async def back_up(source: Place, target: Place, *, tell: Tell = lambda _: None) -> Copied:
    """Copy the database as it is at one moment. Nobody has to wait, and nothing is written to it.

    Where the target has an earlier backup of the same database, only files that are new are copied, and those
    that the database has no longer are deleted at the end.

    Raises:
        StoreRefused: there is nothing to copy, the target holds something else, or a storage turns us away.
        StoreBusy: commits came too fast for a moment between two, or upkeep cleared away what was copied.
        StoreUnavailable: a storage does not answer.
    """
    here, there = Files(source), Files(target)
    earlier = await _earlier(source, there)
    if earlier is None:  # so that one that is stopped can be taken up again
        await _write(there, Backup(of=str(source), taken_at="", files={}))
    copied = Copied(backup=Backup(of=str(source), taken_at="", files={}))
    for _ in range(ROUNDS):
        manifests = await _moment(here)
        copied.backup = Backup(of=str(source), taken_at=_now(), files=manifests)
        tell(f"copying {len(copied.backup.tables)} tables as they are at {copied.backup.taken_at}")
        try:
            files = await _beside(here, manifests)
            known = await there.sizes() if earlier else {}
            await _copy(
                here, there, {path: size for path, size in files.items() if known.get(path) != size}, copied
            )
            # The newest last: a backup that is opened while it is made has no version that lacks a file.
            await _copy(here, there, manifests, copied)
        except Gone:
            tell("upkeep cleared away what was being copied: beginning anew")
            continue
        if manifests.keys() <= (await here.sizes()).keys():
            break
    else:
        raise StoreBusy(
            f"{source}: upkeep cleared away what was being copied, {ROUNDS} times: try again later"
        )
    copied.backup = Backup(of=str(source), taken_at=copied.backup.taken_at, files={**files, **manifests})
    await _write(there, copied.backup)
    await there.delete(
        [path for path in await there.sizes() if path not in copied.backup.files and path != MARK]
    )
    return copied


async def restore(source: Place, target: Place, *, tell: Tell = lambda _: None) -> Copied:
    """Put the database of a backup where there is none.

    It is whole or not there: what was stopped is done by doing it again.

    Raises:
        StoreRefused: there is no backup, it is damaged, the target has tables, or a storage turns us away.
        StoreBusy: a run writes there.
        StoreUnavailable: a storage does not answer.
    """
    here, there = Files(source), Files(target)
    backup = await _marked(here)
    if backup is None:
        raise StoreRefused(f"{source} holds no backup: it has no {MARK}")
    if not backup.files:
        raise StoreRefused(f"{source}: the backup was not completed: back up again, or restore another one")
    sizes = await here.sizes()
    if wrong := [path for path, size in backup.files.items() if sizes.get(path) != size]:
        raise StoreRefused(
            f"{source}: the backup is damaged: {len(wrong):,} of its {len(backup.files):,} files are missing "
            f"or of another size, such as {min(wrong)}"
        )
    await _is_free(there, backup)
    connection = await target.opened(_core.connect(target.uri, target.options))
    copied = Copied(backup=backup)
    async with Leases(target, connection).held("live", "restoring a backup", wait=0, tell=tell) as lease:
        await _is_free(there, backup)
        tell(f"copying {len(backup.tables)} tables as they were at {backup.taken_at}")
        manifests = {path: size for path, size in backup.files.items() if _MANIFEST.fullmatch(path)}
        rest = {path: size for path, size in backup.files.items() if path not in manifests}
        try:
            await _copy(here, there, rest, copied)
            await lease.check()
            await _copy(here, there, manifests, copied)
        except Gone as error:
            raise StoreRefused(f"{source}: the backup is damaged: {error} is missing") from error
    return copied


async def _moment(here: Files) -> Sizes:
    """The manifests of all tables at one moment: seen twice, with no commit in between.

    Raises:
        StoreRefused: there are no tables.
        StoreBusy: there is no such moment.
    """
    before: Sizes | None = None
    for _ in range(LOOKS):
        names = [name for name in await here.folders() if name.removesuffix(".lance") not in LEFT_OUT]
        found: Sizes = {}
        for name in names:
            listed = await here.sizes(f"{name}/_versions/")
            found |= {path: size for path, size in listed.items() if _MANIFEST.fullmatch(path)}
        if not found:
            raise StoreRefused(f"{here.place} holds no tables: nothing to back up")
        if before is not None and _together(before) == _together(found):
            return found
        before = found
        await anyio.sleep(LOOK_AGAIN)
    raise StoreBusy(f"{here.place}: commits came too fast for a moment between two: try again later")


def _together(manifests: Sizes) -> Sizes:
    """Without tables that nothing else depends on."""
    return {path: size for path, size in manifests.items() if path.partition(".lance/")[0] not in ALONE}


async def _beside(here: Files, manifests: Sizes) -> Sizes:
    """All other files of the tables that these manifests are of."""
    tables = {path.partition("/")[0] for path in manifests}
    return {
        path: size
        for path, size in (await here.sizes()).items()
        if path.partition("/")[0] in tables and "/_versions/" not in path
    }


async def _copy(here: Files, there: Files, files: Sizes, copied: Copied) -> None:
    """Copy these files, several at a time.

    Raises:
        Gone: one is no longer there.
        StoreError: a storage does not answer, or turns us away.
    """
    rest = iter(sorted(files))
    failed: list[Gone | StoreError] = []

    async def work() -> None:
        for path in rest:
            if failed:
                return
            try:
                await here.copy(path, there)
            except (Gone, StoreError) as error:
                failed.append(error)
                return
            copied.files += 1
            copied.bytes += files[path]

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(work)
    if failed:
        raise failed[0]


async def _earlier(source: Place, there: Files) -> Backup | None:
    """The backup that the target has, to be brought up to date.

    Raises:
        StoreRefused: it has something else, or a backup of another database.
    """
    if str(source).rstrip("/") == str(there.place).rstrip("/"):
        raise StoreRefused(f"{source} cannot be backed up to itself")
    found = await _marked(there)
    if found and found.of != str(source):
        raise StoreRefused(f"{there.place} holds a backup of {found.of}: choose another place for this one")
    if found is None and await there.sizes():
        raise StoreRefused(f"{there.place} holds something else: choose a place that is empty")
    return found


async def _write(there: Files, backup: Backup) -> None:
    await there.write(MARK, json.dumps({"form": FORM, **asdict(backup)}, indent=1).encode())


async def _marked(files: Files) -> Backup | None:
    """What the mark says; None where there is none.

    Raises:
        StoreRefused: it is of a later form, or is none of ours.
    """
    text = await files.read(MARK)
    if text is None:
        return None
    try:
        said = json.loads(text)
        form = said.pop("form")
        if form == FORM:
            return Backup(**said)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreRefused(f"{files.place}/{MARK} is no mark of a backup") from error
    raise StoreRefused(f"{files.place} was made by a later Docweave (form {form}): restore it with that one")


async def _is_free(there: Files, backup: Backup) -> None:
    """Refuse where there are tables, but for those of the same backup that was not restored to its end."""
    names = {name.removesuffix(".lance") for name in await there.folders()} - {*LEFT_OUT}
    manifests = [path for path in await there.sizes() if _MANIFEST.fullmatch(path)]
    theirs = [
        path for path in manifests if path.partition(".lance/")[0] in names and path not in backup.files
    ]
    complete = {path for path in backup.files if _MANIFEST.fullmatch(path)} <= {*manifests}
    if theirs or (complete and manifests):
        raise StoreRefused(
            f"{there.place} holds tables already ({', '.join(sorted(names))}): name an empty place as "
            "store.uri, or move them away"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

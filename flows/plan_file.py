"""Plans in files: what `docweave plan` saved, for `docweave ingest` to do exactly that.

Lines of JSON, so that a source's documents are read without the others': the first tells what the plan holds,
the others hold a source each, in that order. No text of a document is in it, and no secret.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, TypeAdapter, ValidationError

from config.build import build_pipeline, connectors
from config.settings import Settings
from pipeline.errors import SettingsError
from pipeline.plan import SourcePlan, check_recipe
from pipeline.prepare import Preparer
from pipeline.records import EmbeddingSpace
from pipeline.report import SourceReport

FORMAT = 1

_SOURCE = TypeAdapter(SourcePlan)


class Head(BaseModel):
    """A plan file's first line."""

    docweave_plan: int
    """The format of the file."""
    docweave: str
    """The version that wrote it."""
    rebuild: bool
    store: str
    """A digest of the tables' address."""
    space: str
    tokens: int
    cost_usd: float
    sources: dict[str, str]
    """Each with its recipe, in the order of their lines."""


def check_target(path: Path, *, force: bool) -> None:
    """Refuse a file that could not be saved, before anything is read.

    Raises:
        SettingsError: it is there and may not be overwritten, or its folder is not.
    """
    if not path.parent.is_dir():
        raise SettingsError(f"--save {path}: {path.parent} is no folder")
    if path.is_dir():
        raise SettingsError(f"--save {path} is a folder: name a file in it")
    if path.exists() and not force:
        raise SettingsError(f"--save {path} is there already; --force overwrites it")


def save(  # noqa: PLR0913 - what a plan file holds, by name
    path: Path,
    plans: Sequence[SourcePlan],
    *,
    settings: Settings,
    space: EmbeddingSpace,
    rebuild: bool,
    force: bool,
) -> None:
    """Write a plan, whole or not at all.

    Raises:
        SettingsError: it cannot be written, or is there already.
    """
    head = Head(
        docweave_plan=FORMAT,
        docweave=metadata.version("docweave"),
        rebuild=rebuild,
        store=_digest(settings.store.uri),
        space=str(space),
        tokens=sum(plan.tokens for plan in plans),
        cost_usd=sum(plan.cost_usd for plan in plans),
        sources={plan.source: plan.recipe for plan in plans},
    )
    check_target(path, force=force)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            _write(file, head, plans)
        if force:
            part.replace(path)
        else:
            path.hardlink_to(part)  # unlike a replacement, it refuses what came there meanwhile
    except FileExistsError:
        raise SettingsError(f"--save {path} is there already; --force overwrites it") from None
    except OSError as error:
        raise SettingsError(f"--save {path} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _write(file: BinaryIO, head: Head, plans: Sequence[SourcePlan]) -> None:
    file.write(head.model_dump_json().encode() + b"\n")
    file.writelines(_SOURCE.dump_json(plan) + b"\n" for plan in plans)
    file.flush()
    os.fsync(file.fileno())


def read_head(path: Path) -> Head:
    """What a plan file holds, without its documents.

    Raises:
        SettingsError: it cannot be read, is no plan, or one of another version.
    """
    with _opened(path) as file:
        return _head(path, file)


def read_source(path: Path, source: str) -> SourcePlan:
    """One source's plan.

    Raises:
        SettingsError: as `read_head`; or the file is broken, or has no plan of the source.
    """
    with _opened(path) as file:
        head = _head(path, file)
        if source not in head.sources:
            raise SettingsError(
                f"{path} holds no plan of {source!r}; it holds: {', '.join(head.sources) or 'none'}"
            )
        place = list(head.sources).index(source)
        for number, line in enumerate(file):
            if number == place:
                return _source(path, line, source)
    raise SettingsError(f"{path} is broken: the plan of {source!r} is missing; make a new plan")


def chosen(path: Path, names: Sequence[str], settings: Settings, *, rebuild: bool) -> list[str]:
    """The sources that an ingest by a plan is about: those named, or all that it holds.

    Raises:
        SettingsError: as `read_head`; or the plan is of other tables or sources, or for a rebuild where this
            is none.
    """
    head = read_head(path)
    if head.rebuild != rebuild:
        needs = "for a rebuild: add" if head.rebuild else "not for a rebuild: leave out"
        raise SettingsError(f"{path} is {needs} --rebuild, or make a new plan")
    if head.store != _digest(settings.store.uri):
        raise SettingsError(f"{path} was made for other tables than {settings.store.uri}; make a new plan")
    wanted = list(settings.sources) if rebuild else list(names) or list(head.sources)
    if missing := [name for name in wanted if name not in head.sources]:
        raise SettingsError(
            f"{path} holds no plan of {', '.join(missing)}; it holds: {', '.join(head.sources) or 'none'}"
        )
    return wanted


async def check_settings(path: Path, names: Sequence[str], settings: Settings) -> None:
    """Refuse a plan as a whole that was made with other settings than these.

    Raises:
        SettingsError: it was; or as `read_head`.
        StoreError: the tables cannot be read.
    """
    head = read_head(path)
    async with build_pipeline(settings, rebuild=head.rebuild) as pipeline:
        if head.space != str(pipeline.embedder.space):
            raise SettingsError(
                f"{path} was made for vectors of {head.space}, and the settings name "
                f"{pipeline.embedder.space}; make a new plan"
            )
        for connector, about in connectors(settings, names):
            report = SourceReport(source=connector.source)
            preparer = Preparer(connector=connector, pipeline=pipeline, metadata=about, report=report)
            check_recipe(connector.source, head.sources[connector.source], preparer.recipe)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise SettingsError(f"the plan {path} cannot be read: {error.strerror}") from error


def _head(path: Path, file: BinaryIO) -> Head:
    line = file.readline(1_000_000)
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    number = found.get("docweave_plan") if isinstance(found, dict) else None
    if not isinstance(number, int):
        raise SettingsError(f"{path} is no plan: `docweave plan --save FILE` makes one")
    if number != FORMAT:
        raise SettingsError(
            f"{path} is a plan of format {number}, made by docweave {found.get('docweave')}; this version "
            f"reads format {FORMAT}: make a new plan"
        )
    try:
        return Head.model_validate(found)
    except ValidationError:
        raise SettingsError(f"{path} is broken: its first line; make a new plan") from None


def _source(path: Path, line: bytes, source: str) -> SourcePlan:
    try:
        plan = _SOURCE.validate_json(line)
    except ValidationError:
        plan = None  # what it says would show the input
    if plan is None or plan.source != source or not line.endswith(b"\n"):
        raise SettingsError(f"{path} is broken: the plan of {source!r} cannot be read; make a new plan")
    return plan


def _digest(uri: str) -> str:
    return hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()

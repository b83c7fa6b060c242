"""Documents that a function of yours yields."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import anyio.to_thread
from pydantic import ByteSize, Field, JsonValue, ValidationError

from connectors.media_types import UNKNOWN, media_type
from connectors.settings import AccessLabel, SharedSettings, StrictModel
from connectors.spool import Spool
from pipeline.errors import DocweaveError, ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

_END = object()


class PythonSettings(SharedSettings):
    """A function in Python."""

    shaping: ClassVar[tuple[str, ...]] = ("function", "arguments")

    type: Literal["python"] = Field(description="Documents that a function of yours yields.")
    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="Where it is, as module:function. It yields mappings with `key` and `text` (or "
        "`content`: bytes), and if known `version`, `title`, `url`, `media_type`, `metadata` and `access`: "
        "labels, or an empty list for what everybody may see.",
    )
    arguments: dict[str, JsonValue] = Field(default={}, description="What it is called with, by name.")
    max_bytes: ByteSize = Field(
        default=ByteSize(50_000_000), description="Documents larger than this are reported and left out."
    )


class Yielded(StrictModel):
    """What the function yields."""

    key: str = Field(min_length=1)
    text: str | None = None
    content: bytes | None = None
    version: str | None = None
    title: str | None = None
    url: str | None = None
    media_type: str | None = None
    metadata: dict[str, JsonValue] = Field(default={})
    access: list[AccessLabel] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonConnector:
    """Lists what the function yields, which is called once a run; content waits on disk until it is loaded.

    Where the function gives no version, a digest of all that it gives stands for it.
    """

    source: str
    settings: PythonSettings
    _spool: Spool = field(default_factory=Spool)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every document that the function yields.

        Raises:
            SourceRefused: there is no such function, or it yields what is no document, or one key twice.
            SourceUnavailable: it raised, so that the listing is not complete.
        """
        self._spool.clear()
        async for given in self._yielded():
            if given.key in self._spool:
                raise SourceRefused(f"{self._where()} yields the key {given.key!r} twice")
            packed = _packed(given)
            self._spool.put(given.key, packed)
            version = given.version or hashlib.sha256(packed).hexdigest()
            yield ItemRef(source=self.source, key=given.key, version=version, size=len(_content(given)))

    async def load(self, ref: ItemRef) -> RawDocument:
        """The document as the function yielded it.

        Raises:
            ItemUnreadable: it is too large, or was not yielded in this run.
        """
        if ref.key not in self._spool:
            raise ItemUnreadable(f"{self._where()} has not yielded {ref.key!r} in this run")
        given = Yielded.model_validate(await anyio.to_thread.run_sync(_unpacked, self._spool.get(ref.key)))
        content, most = _content(given), self.settings.max_bytes
        if len(content) > most:
            raise ItemUnreadable(
                f"{ref.key} has {len(content):,} bytes, more than sources.{self.source}.max_bytes: {most:,}"
            )
        by_name = media_type(ref.key)
        kind = "text/plain" if given.text is not None and by_name == UNKNOWN else by_name
        return RawDocument(
            ref=ref,
            content=content,
            media_type=given.media_type or kind,
            title=given.title,
            url=given.url,
            metadata=given.metadata,
            access=None if given.access is None else tuple(given.access),
        )

    def _where(self) -> str:
        return f"sources.{self.source}.function: {self.settings.function}"

    async def _yielded(self) -> AsyncIterator[Yielded]:
        """What it yields; a function that is not async runs in a thread, a document at a time."""
        found = self._called()
        given = found if inspect.isasyncgen(found) else _in_a_thread(self._iterator(found))
        try:
            async for one in given:
                yield self._checked(one)
        except DocweaveError:
            raise
        except Exception as error:
            raise SourceUnavailable(
                f"{self._where()} raised {type(error).__name__} while it listed: {error}. Without the rest "
                "the listing is not complete"
            ) from error
        finally:
            await given.aclose()

    def _called(self) -> object:
        module, _, name = self.settings.function.partition(":")
        try:
            function: Callable[..., object] = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise SourceRefused(
                f"{self._where()} cannot be imported: {error}. Install it, or name its folder in PYTHONPATH"
            ) from error
        except (ImportError, AttributeError) as error:
            raise SourceRefused(f"{self._where()} cannot be imported: {error}") from error
        try:
            return function(**self.settings.arguments)
        except TypeError as error:
            raise SourceRefused(f"{self._where()} cannot be called with these arguments: {error}") from error

    def _iterator(self, found: object) -> Iterator[object]:
        try:
            return iter(found)  # type: ignore[call-overload, no-any-return]
        except TypeError as error:
            raise SourceRefused(
                f"{self._where()} gives {type(found).__name__}: it must yield documents"
            ) from error

    def _checked(self, given: object) -> Yielded:
        try:
            checked = Yielded.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise SourceRefused(
                f"{self._where()} yields what is no document: {place}: {first['msg']}; valid: "
                f"{', '.join(Yielded.model_fields)}"
            ) from error
        if (checked.text is None) == (checked.content is None):
            raise SourceRefused(f"{self._where()} must give {checked.key!r} either text or content")
        return checked


async def _in_a_thread(iterator: Iterator[object]) -> AsyncGenerator[object]:
    """What the iterator gives, each step of it made in a thread."""
    try:
        while (given := await anyio.to_thread.run_sync(next, iterator, _END)) is not _END:
            yield given
    finally:
        if inspect.isgenerator(iterator):
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(iterator.close)


def _content(given: Yielded) -> bytes:
    return given.content if given.content is not None else (given.text or "").encode("utf-8", "replace")


def _packed(given: Yielded) -> bytes:
    """All of it, as bytes that are equal for equal documents."""
    about = given.model_dump(exclude={"content"}, exclude_none=True)
    head = json.dumps(about, sort_keys=True).encode()
    return head + b"\n" + (given.content or b"") if given.content is not None else head


def _unpacked(packed: bytes) -> Mapping[str, object]:
    head, separator, content = packed.partition(b"\n")
    about: dict[str, object] = json.loads(head)
    return {**about, "content": content} if separator else about

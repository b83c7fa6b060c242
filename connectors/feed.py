"""Entries of an RSS or Atom feed."""

from __future__ import annotations

import hashlib
import html
import io
import json
import logging
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urljoin

import anyio.to_thread
from pydantic import Field

from connectors._http import Answer, Http, whole
from connectors._url import shown
from connectors.cache_folder import cache_file
from connectors.http_content import content_of, kind_of
from connectors.http_settings import HttpSettings, WebUrl
from connectors.settings import LocalPath
from connectors.spool import Spool
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, JsonValue, RawDocument

log = logging.getLogger(__name__)

_END = re.compile(
    rb"</\s*(?:[\w.-]+:)?(?:rss|feed|rdf)\s*>\s*(?:<!--.{0,500}?-->\s*)*\Z", re.IGNORECASE | re.DOTALL
)
_MARKUP = re.compile(r"<[^<>]{0,1000}>")


class FeedSettings(HttpSettings):
    """The entries of an RSS or Atom feed."""

    needs: ClassVar = {"feedparser": "feedparser"}
    extra: ClassVar[str] = "feed"
    shaping: ClassVar[tuple[str, ...]] = ("full",)

    type: Literal["feed"] = Field(description="Entries of an RSS or Atom feed.")
    url: WebUrl = Field(description="Of the feed.")
    full: bool = Field(
        default=False,
        description="Read the article that an entry links to, where its host is allowed, in place of what "
        "the feed says of it.",
    )
    keep_vanished: bool = Field(
        default=True,
        description="Keep entries that the feed does not list any more: feeds list only the newest.",
    )
    cache: LocalPath | None = Field(
        default=None,
        description="The folder that keeps the feed, so that an unchanged one is not downloaded again. Left "
        "out: docweave in the user's cache folder.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a feed says of one entry."""

    key: str
    content: str
    media_type: str
    title: str | None
    url: str | None
    metadata: dict[str, JsonValue]

    @property
    def version(self) -> str:
        """A digest of all that is said: few feeds tell reliably when an entry was updated."""
        return hashlib.sha256(self.packed()).hexdigest()

    def packed(self) -> bytes:
        """To be kept until it is loaded."""
        about = [self.key, self.content, self.media_type, self.title, self.url, self.metadata]
        return json.dumps(about, sort_keys=True).encode()


@dataclass(slots=True, kw_only=True)
class FeedConnector:
    """Lists the entries of a feed, and reads them or the articles that they link to.

    A key is an entry's id, else its link. A version is a digest of all that the feed says of the entry.
    """

    source: str
    settings: FeedSettings
    _http: Http = field(init=False, repr=False)
    _spool: Spool = field(init=False, repr=False, default_factory=Spool)

    def __post_init__(self) -> None:
        self._http = self.settings.http(self.source, [self.settings.url])

    @property
    def keeps_vanished(self) -> bool:
        """Whether what a listing lacks is kept: it is a window on the newest entries, not all there is."""
        return self.settings.keep_vanished

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every entry that the feed has now, in its order.

        Raises:
            SourceRefused: there is no feed, or it turned us away.
            SourceUnavailable: it did not answer, or ends early.
        """
        self._spool.clear()
        with whole(f"sources.{self.source}.url"):
            content, url = await self._fetched()
        for entry in await anyio.to_thread.run_sync(self._entries, content, url):
            if entry.key not in self._spool:  # of two with one id the first is the newer
                self._spool.put(entry.key, entry.packed())
                yield ItemRef(source=self.source, key=entry.key, version=entry.version)

    async def load(self, ref: ItemRef) -> RawDocument:
        """The entry as the feed has it, or its article as it is now.

        Raises:
            ItemUnreadable: the feed did not list it, or its article cannot be read.
            SourceUnavailable: the article's host does not answer.
        """
        if ref.key not in self._spool:
            raise ItemUnreadable(f"{shown(self.settings.url)} has not listed {ref.key!r} in this run")
        kept = await anyio.to_thread.run_sync(self._spool.get, ref.key)
        key, text, kind, title, url, metadata = json.loads(kept)
        entry = Entry(key=key, content=text, media_type=kind, title=title, url=url, metadata=metadata)
        content = entry.content.encode("utf-8", "replace")
        if self.settings.full:
            answer = await self._article(entry)
            url, kind = answer.url, kind_of(answer)
            content = content_of(answer, kind)
        return RawDocument(
            ref=ref, content=content, media_type=kind, title=entry.title, url=url, metadata=entry.metadata
        )

    async def _article(self, entry: Entry) -> Answer:
        if entry.url is None:
            raise ItemUnreadable(
                f"entry {entry.key!r} links to no article; full: false reads the entry itself"
            )
        turned_away = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        answer = await self._http.get(entry.url, returned=turned_away)
        if answer.status in turned_away:
            raise ItemUnreadable(f"{shown(answer.url)} answered {answer.status}: it wants credentials")
        return answer

    async def _fetched(self) -> tuple[bytes, str]:
        """The feed and where it is; from the cache, where the server says that it is the same."""
        file = await anyio.to_thread.run_sync(
            cache_file, self.source, self.settings.cache, "cache", [self.settings.url]
        )
        kept = await anyio.to_thread.run_sync(_read_kept, file) if file else None
        if kept is not None and kept.conditions:
            answer = await self._http.get(self.settings.url, headers=kept.conditions, returned={304})
            if answer.status == HTTPStatus.NOT_MODIFIED and answer.url == kept.url:
                return kept.content, kept.url
            if answer.status == HTTPStatus.NOT_MODIFIED:
                answer = await self._http.get(self.settings.url)
        else:
            answer = await self._http.get(self.settings.url)
        if not _END.search(answer.content[-4096:]):
            self._check_is_feed(answer.content)
            raise SourceUnavailable(f"{shown(answer.url)} ends before its entries do")
        if file:
            await anyio.to_thread.run_sync(_keep, file, answer)
        return answer.content, answer.url

    def _entries(self, content: bytes, url: str) -> list[Entry]:
        """The entries that can be told apart."""
        parsed = _parsed(content)
        if not parsed.get("version"):
            raise SourceRefused(f"{self._where} is neither RSS nor Atom")
        found = (_entry(said, url) for said in parsed["entries"])
        return [entry for entry in found if entry is not None]

    def _check_is_feed(self, content: bytes) -> None:
        if not _parsed(content).get("version"):
            raise SourceRefused(f"{self._where} is neither RSS nor Atom")

    @property
    def _where(self) -> str:
        return f"sources.{self.source}.url: {shown(self.settings.url)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A feed as it was fetched last."""

    url: str
    etag: str
    modified: str
    content: bytes

    @property
    def conditions(self) -> dict[str, str]:
        asked = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in asked.items() if value}


def _read_kept(file: Path) -> _Kept | None:
    try:
        head, _, content = file.read_bytes().partition(b"\n")
        return _Kept(**json.loads(head), content=content)
    except (OSError, ValueError, TypeError):
        return None


def _keep(file: Path, answer: Answer) -> None:
    """Write it beside and put it in place in one step: another run may be reading."""
    headers = answer.headers
    about = {"url": answer.url, "etag": headers.get("etag", ""), "modified": headers.get("last-modified", "")}
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as beside:
            beside.write(json.dumps(about).encode() + b"\n" + answer.content)
        Path(beside.name).replace(file)
    except OSError as error:  # a full disk costs the next run a download
        log.warning("the feed is not cached: %s", error)


def _parsed(content: bytes) -> Mapping[str, Any]:
    """What feedparser makes of it; it is given bytes and fetches nothing."""
    import feedparser  # noqa: PLC0415 - an extra, and heavy

    try:
        parsed: Mapping[str, Any] = feedparser.parse(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001 - it is meant to take anything, and raises whatever it meets
        return {"trouble": type(error).__name__}
    return parsed


def _entry(said: Mapping[str, Any], feed: str) -> Entry | None:
    """What an entry says; None where nothing tells it from others."""
    link = _text(said.get("link"))
    key = _text(said.get("id")) or link
    if not key:
        return None
    title = html.unescape(_MARKUP.sub("", _text(said.get("title")))).strip()
    text, kind = _content(said)
    about: dict[str, JsonValue] = {
        "published": _moment(said.get("published_parsed")),
        "updated": _moment(said.get("updated_parsed")),
        "authors": [name for one in said.get("authors", ()) if (name := _text(one.get("name")))],
        "tags": [name for one in said.get("tags", ()) if (name := _text(one.get("term")))],
    }
    return Entry(
        key=key,
        content=text or title,
        media_type=kind if text else "text/plain",
        title=title or None,
        url=_absolute(feed, link),
        metadata={name: value for name, value in about.items() if value},
    )


def _content(said: Mapping[str, Any]) -> tuple[str, str]:
    """The longest that is said, and its media type: some feeds have a summary beside the whole."""
    parts = [*said.get("content", ()), *([said["summary_detail"]] if "summary_detail" in said else [])]
    texts = [(_text(part.get("value")), _text(part.get("type"))) for part in parts]
    text, kind = max(texts, key=lambda one: len(one[0]), default=("", ""))
    return text, "text/html" if "html" in kind else "text/plain"


def _moment(parsed: Sequence[int] | None) -> str | None:
    if parsed is None:
        return None
    try:
        return datetime(*parsed[:6], tzinfo=UTC).isoformat()  # type: ignore[misc, arg-type]
    except (ValueError, OverflowError):
        return None


def _absolute(feed: str, link: str) -> str | None:
    try:
        return urljoin(feed, link) if link else None
    except ValueError:
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

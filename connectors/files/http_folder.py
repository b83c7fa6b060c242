"""Files on a web server that lists its folders, or one file on any."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

import anyio

from connectors._answer import Answer
from connectors._http import Http
from connectors._manners import Credentials, Manners
from connectors._reach import Reach
from connectors._url import shown
from connectors.choice import Choice
from connectors.http_content import HTML, content_of, decoded, kind_of
from connectors.storage import StorageOptions
from pipeline.errors import ItemUnreadable, SourceError, SourceRefused
from pipeline.records import ItemRef, RawDocument

_AT_ONCE = 4
"""Files that are asked for their versions at a time."""
_DEEPEST = 40
"""Folders in folders: more than that go round in a circle."""
_LARGEST_LISTING = 50_000_000
_NO_HEAD = (405, 501)
_AS_IT_IS = {"Accept-Encoding": "identity"}
"""Packed on the way, a file would have another size, and perhaps another ETag."""
_UNTOLD = "untold"
"""The version of a file that is listed only so that it is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFolder:
    """The files that a web server lists, as those of nginx, Apache and Python do; or the one at the address.

    An address that ends with a slash is a folder. A version is the ETag, else the time of the last change
    and the size, each asked for without the content; of a server that tells neither, a digest.
    """

    source: str
    url: str
    options: StorageOptions
    max_bytes: int
    _opened: list[Http] = field(default_factory=list)

    async def listed(self, choice: Choice) -> AsyncIterator[ItemRef]:
        """Every file that is chosen, folder by folder. Nothing is asked about the others.

        Raises:
            SourceRefused: bad credentials, nothing there, or no listing.
            SourceUnavailable: it does not answer, or stopped to.
        """
        async with self._http().opened():
            if not self.url.endswith("/"):
                yield await self._found(unquote(self.url.rpartition("/")[2]), self.url)
                return
            async for ref in self._folder(choice.below(), choice, 0):
                yield ref

    async def load(self, ref: ItemRef, most: int) -> RawDocument:
        """The file as it is now, with the version that belongs to the content.

        Raises:
            ItemUnreadable: it vanished, or is too large.
            SourceError: as `listed`.
        """
        answer = await self._http().get(self._at(ref.key), headers=_AS_IT_IS, max_bytes=most)
        kind = kind_of(answer)
        version = _version(answer.headers, answer.content)
        return RawDocument(
            ref=replace(ref, version=version, size=_size(answer.headers)),
            content=content_of(answer, kind),
            media_type=kind,
            url=answer.url,
        )

    async def _folder(self, folder: str, choice: Choice, depth: int) -> AsyncIterator[ItemRef]:
        """The files of a folder and those below. `folder` is empty, or ends with a slash."""
        if depth > _DEEPEST:
            raise SourceRefused(f"{self._where()}: the folders go round in a circle: see {folder}")
        paths = [folder + name for name in _names(await self._listing(folder))]
        refs = await self._all_found([path for path in paths if not path.endswith("/") and choice.has(path)])
        for path in paths:
            if path in refs:
                yield refs[path]
            elif path.endswith("/") and choice.reaches(path.rstrip("/")):
                async for ref in self._folder(path, choice, depth + 1):
                    yield ref

    async def _all_found(self, keys: Iterable[str]) -> dict[str, ItemRef]:
        """The files with these keys, several asked for at a time."""
        refs: dict[str, ItemRef] = {}
        failures: list[SourceError] = []
        limiter = anyio.CapacityLimiter(_AT_ONCE)

        async def find(key: str) -> None:
            async with limiter:
                try:
                    refs[key] = await self._found(key, self._at(key))
                except SourceError as error:
                    failures.append(error)
                    tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(find, key)
        if failures:
            raise failures[0]
        return refs

    async def _listing(self, folder: str) -> Answer:
        try:
            answer = await self._http().get(self._at(folder), max_bytes=_LARGEST_LISTING)
        except ItemUnreadable as error:
            raise SourceRefused(f"{self._where()}: {error}") from error
        if answer.media_type not in HTML:
            raise SourceRefused(
                f"{self._where()}: {shown(answer.url)} is {answer.media_type or 'of no media type'}, and no "
                "listing of a folder: leave out the slash at the end, if it is a file"
            )
        return answer

    async def _found(self, key: str, url: str) -> ItemRef:
        """The file with this key, without its content, if its server tells enough of it."""
        try:
            answer = await self._http().request("HEAD", url, headers=_AS_IT_IS, returned=_NO_HEAD)
            if answer.status in _NO_HEAD or _mark(answer.headers) is None:
                answer = await self._http().get(url, headers=_AS_IT_IS, max_bytes=self.max_bytes)
        except ItemUnreadable:
            return ItemRef(source=self.source, key=key, version=_UNTOLD)  # loading it says why
        version = _version(answer.headers, answer.content)
        return ItemRef(source=self.source, key=key, version=version, size=_size(answer.headers))

    def _at(self, key: str) -> str:
        return self.url + quote(key) if self.url.endswith("/") else self.url

    def _where(self) -> str:
        return f"sources.{self.source}.url: {shown(self.url)}"

    def _http(self) -> Http:
        if not self._opened:
            manners = Manners(connections=_AT_ONCE, max_bytes=self.max_bytes)
            reach = Reach.of(self.source, self.url)
            self._opened.append(Http(reach, manners=manners, credentials=self._credentials()))
        return self._opened[0]

    def _credentials(self) -> Credentials | None:
        if self.options.token is not None:
            return Credentials(secret=self.options.token, url=self.url)
        if self.options.username is not None and self.options.password is not None:
            return Credentials(secret=self.options.password, url=self.url, user=self.options.username)
        return None


class _Links(HTMLParser):
    """The targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _names(listing: Answer) -> list[str]:
    """What is listed, in order: files, and folders with a slash at the end. Other links are passed over."""
    links = _Links()
    links.feed(decoded(listing.content, listing.charset))
    here = urlsplit(listing.url)
    names: set[str] = set()
    for link in links.found:
        try:
            target = urlsplit(urldefrag(urljoin(listing.url, link.strip())).url)
        except ValueError:
            continue
        if (target.scheme, target.netloc) != (here.scheme, here.netloc) or target.query:
            continue
        name = unquote(target.path).removeprefix(unquote(here.path))
        if name != unquote(target.path) and name and "/" not in name[:-1] and name != "/":
            names.add(name)
    return sorted(names)


def _mark(headers: Mapping[str, str]) -> str | None:
    """What the headers tell of the version."""
    if tag := headers.get("etag", "").removeprefix("W/").strip('"'):
        return tag
    if modified := headers.get("last-modified"):
        return f"{modified}-{headers.get('content-length', '')}"
    return None


def _version(headers: Mapping[str, str], content: bytes) -> str:
    return _mark(headers) or hashlib.sha256(content).hexdigest()


def _size(headers: Mapping[str, str]) -> int | None:
    size = headers.get("content-length", "")
    return int(size) if size.isdigit() and not headers.get("content-encoding") else None

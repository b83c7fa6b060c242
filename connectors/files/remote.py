"""Documents in object storage, on a web server that lists its folders, over SFTP, or in a ZIP archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from connectors.choice import Choice
from connectors.files.archive import Archive
from connectors.files.http_folder import HttpFolder
from connectors.files.local import FilesConnector
from connectors.files.settings import FilesSettings
from connectors.files.sftp import SftpFolder
from connectors.objects import Objects
from connectors.storage import HTTP, SFTP, address
from pipeline.records import ItemRef, RawDocument


class Place(Protocol):
    """Where files are."""

    def listed(self, choice: Choice) -> AsyncIterator[ItemRef]:
        """Every file that is chosen."""

    async def load(self, ref: ItemRef, most: int) -> RawDocument:
        """One file of at most so many bytes, with the version that belongs to the content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFiles:
    """Lists and reads the files below an address.

    A key is the path relative to the address, with `/` between the names; a version is the storage's own
    mark of the content. Listing asks for no content.
    """

    source: str
    settings: FilesSettings
    place: Place

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every file that the settings include, in the order in which the storage has them.

        Raises:
            SourceRefused: bad credentials, or no such place.
            SourceUnavailable: it does not answer, or stopped to.
        """
        chosen = self.settings
        choice = Choice(include=chosen.include, exclude=chosen.exclude, hidden=chosen.hidden)
        async for ref in self.place.listed(choice):
            yield ref

    async def load(self, ref: ItemRef) -> RawDocument:
        """The file as it is now, with the version that belongs to the content.

        Raises:
            ItemUnreadable: it vanished, may not be read, or is too large.
            SourceError: as `list_items`.
        """
        return await self.place.load(ref, self.settings.max_bytes)


def files_connector(*, source: str, settings: FilesSettings) -> FilesConnector | RemoteFiles:
    """What reads the files of these settings."""
    if settings.url is None:
        return FilesConnector(source=source, settings=settings)
    at = address(settings.url)
    if at.scheme in HTTP:
        folder = HttpFolder(
            source=source, url=settings.url, options=settings.options, max_bytes=settings.max_bytes
        )
        return RemoteFiles(source=source, settings=settings, place=folder)
    if at.scheme == SFTP:
        sftp = SftpFolder(source=source, at=at, options=settings.options)
        return RemoteFiles(source=source, settings=settings, place=sftp)
    root = at._replace(path="") if at.archive else at
    objects = Objects(source=source, at=root, options=settings.options)
    place: Place = Archive(source=source, at=at, objects=objects) if at.archive else objects
    return RemoteFiles(source=source, settings=settings, place=place)

"""Files in folders and shared drives of Google Drive as documents."""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors import globs
from connectors._http import whole
from connectors.google_drive.api import Api, Withheld
from connectors.google_drive.settings import GoogleDriveSettings
from connectors.media_types import UNKNOWN, media_type
from connectors.spool import Spool
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, JsonValue, RawDocument

_GOOGLE = "application/vnd.google-apps."
_FOLDER = f"{_GOOGLE}folder"
_OPEN_XML = "application/vnd.openxmlformats-officedocument"
_EXPORTS = {
    f"{_GOOGLE}document": ("gdoc", "text/markdown"),
    f"{_GOOGLE}spreadsheet": ("gsheet", f"{_OPEN_XML}.spreadsheetml.sheet"),
    f"{_GOOGLE}presentation": ("gslides", f"{_OPEN_XML}.presentationml.presentation"),
}
"""Google's own documents: how their paths end, and as what they are read. Others of its own are not."""
_FIELDS = "id,name,mimeType,modifiedTime,md5Checksum,size,trashed,webViewLink,driveId,owners(emailAddress)"
_PERMISSIONS = "permissions(id,type,emailAddress,domain,deleted)"
UNDISCLOSED = "undisclosed"
"""The label of a file of which it is not known who may read it."""
_PICTURE = re.compile(r"^\[image\d+\]:\s*<data:[^>]*>\s*$", re.MULTILINE)
_SHOWN_PICTURE = re.compile(r"!\[([^\]]*)\]\[image\d+\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleDriveConnector:
    """Lists the files below the folders, by id; each is read, or exported, when it is loaded.

    The version is the time of the last change, the checksum where there is one, and a digest of what is
    stored beside the text. What is in the trash is not listed, nor are shortcuts.
    """

    source: str
    settings: GoogleDriveSettings
    _folders: Spool = field(default_factory=Spool)
    """The path of the folder that each listed file is in."""
    _apis: list[Api] = field(default_factory=list)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every file below the folders that is included, each once.

        Raises:
            SourceRefused: no such folder, or it is not shared with the account.
            SourceUnavailable: Google does not answer, or did not search all.
        """
        self._folders.clear()
        async with self._api().http.opened():
            for folder in self.settings.folders:
                root = await self._root(folder)
                async for path, found in self._below(root):
                    if found["id"] not in self._folders:
                        self._folders.put(found["id"], path.encode("utf-8", "surrogatepass"))
                        yield self._ref(found, path)

    async def load(self, ref: ItemRef) -> RawDocument:
        """The file as it is now.

        Raises:
            ItemUnreadable: it vanished, is too large, or may not be downloaded.
            SourceError: as `list_items`.
        """
        async with self._api().http.opened():
            # First what is known of it, then its content: if it changes in between, the next run sees that.
            found = await self._file(ref.key)
            if found.get("trashed"):
                raise ItemUnreadable(f"{ref.key} was moved to the trash")
            size = int(found.get("size") or 0)
            if size > self.settings.max_bytes and found["mimeType"] not in _EXPORTS:
                raise ItemUnreadable(
                    f"{ref.key} has {size:,} bytes, more than sources.{self.source}.max_bytes: "
                    f"{self.settings.max_bytes:,}"
                )
            content, kind = await self._content(found)
            held = self._folders.get(ref.key) if ref.key in self._folders else b""
            path = held.decode("utf-8", "surrogatepass")
            access = await self._access(found)
        return RawDocument(
            ref=self._ref(found, path),
            content=content,
            media_type=kind,
            title=found["name"],
            url=found.get("webViewLink"),
            metadata=_about(found, path),
            access=access,
        )

    async def _root(self, folder: str) -> Mapping[str, Any]:
        """What is known of a folder of the settings; a shared drive by its own name.

        Raises:
            SourceRefused: it is none, or not to be seen.
        """
        where = f"sources.{self.source}.folders: {folder}"
        account = self._api().tokens.account()
        with whole(f"{where} is not there, or not shared with {account}"):
            root = await self._file(folder)
            if root["id"] == root.get("driveId"):
                root = {**root, **await self._api().json("drives", root["id"], fields="name")}
        if root["mimeType"] != _FOLDER or root.get("trashed"):
            raise SourceRefused(f"{where} is {'in the trash' if root.get('trashed') else 'no folder'}")
        return root

    async def _below(self, root: Mapping[str, Any]) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """The path of the folder, and what is known, of each included file; folder by folder.

        One folder is asked for at a time: asked for several at once, Drive has been seen to leave files out.
        """
        wanted, reachable = globs.matching(self.settings.include), globs.reaching(self.settings.include)
        unwanted = globs.matching(self.settings.exclude)
        seen = {root["id"]}
        waiting = deque([(root["id"], _name(root), "")])
        while waiting:
            folder, shown, above = waiting.popleft()
            async for found in self._children(folder, root.get("driveId")):
                name = _name(found)
                path = above + name
                if unwanted.fullmatch(path):
                    continue
                if found["mimeType"] == _FOLDER:
                    if reachable.fullmatch(path) and found["id"] not in seen:
                        seen.add(found["id"])
                        waiting.append((found["id"], f"{shown}/{name}", f"{path}/"))
                elif wanted.fullmatch(path) and not _is_other(found):
                    yield shown, found

    async def _children(self, folder: str, drive: str | None) -> AsyncIterator[Mapping[str, Any]]:
        """What is directly in a folder.

        Raises:
            SourceUnavailable: the folder vanished meanwhile.
        """
        asked = {
            "q": f"'{folder}' in parents and trashed = false",
            "fields": f"nextPageToken,incompleteSearch,files({self._asked_fields()})",
            "pageSize": "1000",
            "orderBy": "createdTime",
            "supportsAllDrives": "true",
            "includeItemsFromAllDrives": "true",
        }
        if drive:
            asked |= {"corpora": "drive", "driveId": drive}
        try:
            async for found in self._api().pages("files", part="files", **asked):
                yield found
        except ItemUnreadable as error:
            raise SourceUnavailable(
                f"{error}, of the folder {folder}: the listing is not complete"
            ) from error

    async def _file(self, key: str) -> Mapping[str, Any]:
        return await self._api().json("files", key, fields=self._asked_fields(), supportsAllDrives="true")

    async def _content(self, found: Mapping[str, Any]) -> tuple[bytes, str]:
        """The content, and its media type."""
        api, key, kind = self._api(), found["id"], found["mimeType"]
        if kind not in _EXPORTS:
            content = (await api.get("files", key, alt="media", supportsAllDrives="true")).content
            by_name = media_type(found["name"])  # Drive has it from whatever sent the file there
            return content, kind if by_name == UNKNOWN else by_name
        kind = _EXPORTS[kind][1]
        try:
            content = (await api.get("files", key, "export", mimeType=kind)).content
        except Withheld as error:
            # Pictures count, as Base64: of a document that has too many, the text is left.
            if error.reason != "exportSizeLimitExceeded" or kind != "text/markdown":
                raise
            return (await api.get("files", key, "export", mimeType="text/plain")).content, "text/plain"
        return (_without_pictures(content), kind) if kind == "text/markdown" else (content, kind)

    async def _access(self, found: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The labels of a file; where Google does not tell, those of the settings, or one that nobody has."""
        if not self.settings.permissions:
            return None
        permissions = await self._permissions(found)
        if permissions is None:
            return None if self.settings.access else (UNDISCLOSED,)
        return _labels(permissions)

    async def _permissions(self, found: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
        """Who may read a file; None where Google does not tell this account."""
        if "permissions" in found:
            return list(found["permissions"])
        fields = f"nextPageToken,{_PERMISSIONS}"
        path = ("files", found["id"], "permissions")
        listed = self._api().pages(
            *path, part="permissions", fields=fields, pageSize="100", supportsAllDrives="true"
        )
        try:
            return [one async for one in listed]
        except Withheld:
            return None

    def _ref(self, found: Mapping[str, Any], folder: str) -> ItemRef:
        beside: list[JsonValue] = [found["name"], found["mimeType"], folder, *_owners(found)]
        if self.settings.permissions:
            ids = found.get("permissionIds") or [one["id"] for one in found.get("permissions") or ()]
            beside.append(["access", *sorted(ids)])
        digest = hashlib.blake2b(json.dumps(beside, ensure_ascii=True).encode(), digest_size=8).hexdigest()
        version = f"{found['modifiedTime']} {found.get('md5Checksum') or '-'} {digest}"
        size = int(found["size"]) if found.get("size") and found["mimeType"] not in _EXPORTS else None
        return ItemRef(source=self.source, key=found["id"], version=version, size=size)

    def _asked_fields(self) -> str:
        return f"{_FIELDS},permissionIds,{_PERMISSIONS}" if self.settings.permissions else _FIELDS

    def _api(self) -> Api:
        if not self._apis:
            self._apis.append(Api(source=self.source, settings=self.settings))
        return self._apis[0]


def _name(found: Mapping[str, Any]) -> str:
    """The name as it stands in a path; of Google's own documents, with what tells them apart."""
    name = str(found["name"]).replace("/", "_")
    export = _EXPORTS.get(found["mimeType"])
    return f"{name}.{export[0]}" if export else name


def _is_other(found: Mapping[str, Any]) -> bool:
    """Whether it is something of Google's own that is not read: a form, a map, a shortcut."""
    return str(found["mimeType"]).startswith(_GOOGLE) and found["mimeType"] not in _EXPORTS


def _owners(found: Mapping[str, Any]) -> list[str]:
    return sorted(str(one["emailAddress"]) for one in found.get("owners") or () if one.get("emailAddress"))


def _about(found: Mapping[str, Any], folder: str) -> dict[str, JsonValue]:
    about: dict[str, JsonValue] = {"folder": folder, "modified": str(found["modifiedTime"])}
    if owners := _owners(found):
        about["owners"] = [*owners]
    return about


def _labels(permissions: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """E-mail addresses of users and groups, domains, and `anyone` who has the link."""
    held = (one for one in permissions if not one.get("deleted"))
    named = (
        "anyone" if one["type"] == "anyone" else one.get("emailAddress") or one.get("domain") for one in held
    )
    return tuple(sorted({str(name).lower() for name in named if name})) or (UNDISCLOSED,)


def _without_pictures(content: bytes) -> bytes:
    """Markdown without the pictures that an export puts at its end."""
    text = _PICTURE.sub("", content.decode("utf-8", "replace"))
    return _SHOWN_PICTURE.sub(r"\1", text).rstrip().encode()

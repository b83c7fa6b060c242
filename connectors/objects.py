"""Files in object storage: S3 and all that speaks its protocol, Google Cloud Storage, Azure Blob Storage.

Light to import: obstore is imported when something is asked for.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from connectors.choice import Choice
from connectors.media_types import UNKNOWN, media_type
from connectors.object_clients import client
from connectors.range_file import RangeFile
from connectors.storage import Address, StorageOptions
from pipeline.errors import ItemUnreadable, SourceError, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

if TYPE_CHECKING:
    from obstore import ObjectMeta

    from connectors.object_clients import Client

_PAGE = 1000
"""Objects that come at once: as many as one request gives."""
_GUNZIP = 31
"""zlib's number for gzip."""
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})\b")

_REFUSALS: Mapping[str, str] = {
    r"InvalidAccessKeyId|SignatureDoesNotMatch|Authentication(?:Failed|Required)|ExpiredToken|InvalidToken": (
        "the storage does not accept the key: correct it in options, or in the environment"
    ),
    r"CredentialsNotLoaded|/latest/api/token|latest/meta-data|metadata\.google|metadata/identity": (
        "there is no key: set one in options or in the environment, or anonymous: true for a public bucket"
    ),
    r"NoSuchBucket|BucketNotFound|ContainerNotFound|bucket does not exist": (
        "there is no {bucket}: make it, or correct url"
    ),
    r"(?:is wrong; expecting|<Region>)\W*([a-z0-9-]+)": (
        "{bucket} is in the region {found}: set region: {found} in options"
    ),
    r"PermanentRedirect|AuthorizationHeaderMalformed": "{bucket} is in another region: set region in options",
    r"BadScheme|URL scheme is not allowed": (
        "the endpoint is not encrypted: set allow_http: true in options, or use https://"
    ),
    r"InvalidPathError": (
        "an object's name has an empty part, '.' or '..' in it, as a//b, and the storage's client lists no "
        "folder with such an object in it: rename it, or give the address of a folder without it"
    ),
}
"""What waiting does not mend, by what the storage's client says of it, and what there is to do."""
_NOT_OPENED: Mapping[str, str] = {
    "Account must be specified": "set azure_storage_account_name in options, or AZURE_STORAGE_ACCOUNT_NAME",
    "service account": "google_service_account, or GOOGLE_SERVICE_ACCOUNT, names no service account's file",
    "Azure": "azure_storage_account_key or azure_storage_sas_token is none",
}
"""What the client says before anything is asked, and what there is to do."""
_DENIED: Final = ("401", "403")
_OF_ONE: Mapping[str, str] = {
    r"InvalidObjectState|BlobArchived": "is archived: restore it first",
    r"status code: 403": "may not be read with this key",
    r"FileNotFoundError": "is not there, or no longer",
}
"""The same, of one object alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The objects below an address. Keys are relative to it; a version is the ETag.

    An ETag is the provider's own mark: of S3 and Google for the content, of Azure for the last write.
    """

    source: str
    at: Address
    options: StorageOptions
    setting: str = "url"
    _opened: list[Client] = field(default_factory=list)

    async def listed(self, choice: Choice) -> AsyncIterator[ItemRef]:
        """Every object that is chosen, in the storage's order; marks of folders are no files.

        Raises:
            SourceRefused: bad credentials, no such bucket, an address of one object.
            SourceUnavailable: the storage does not answer, or stopped to.
        """
        from obstore import list as pages  # noqa: PLC0415 - see the module

        start, count = self._name(""), 0
        below = self._name(choice.below()) or None
        with self._talking():
            async for page in pages(self._store(), below, chunk_size=_PAGE):
                count += len(page)
                for found in page:
                    key = found["path"][len(start) :]
                    is_file = found["size"] or "." in key.rpartition("/")[2]
                    if is_file and choice.has(key):
                        yield self._ref(key, found)
        if not count and self.at.path:
            await self._check_folder()

    async def found(self, key: str) -> ItemRef:
        """The one object with this key, without its content.

        Raises:
            ItemUnreadable: there is none.
            SourceError: as `listed`.
        """
        from obstore import head_async  # noqa: PLC0415 - see the module

        with self._talking(key):
            return self._ref(key, await head_async(self._store(), self._name(key)))

    async def load(self, ref: ItemRef, most: int) -> RawDocument:
        """The object as it is now, with the version that belongs to the content.

        Args:
            ref: As listed.
            most: The largest that is read, in bytes.

        Raises:
            ItemUnreadable: it vanished, may not be read, or is too large.
            SourceError: as `listed`.
        """
        from obstore import get_async  # noqa: PLC0415 - see the module

        self._check_size(ref.key, ref.size or 0, most)
        with self._talking(ref.key):
            reply = await get_async(self._store(), self._name(ref.key))
            found = self._ref(ref.key, reply.meta)
            self._check_size(ref.key, reply.meta["size"], most)
            content = bytes(await reply.bytes_async())
        said = {str(name).lower(): value for name, value in reply.attributes.items()}
        if said.get("content-encoding", "").lower() == "gzip":
            content = self._unpacked(ref.key, content, most)
        kind = media_type(ref.key)
        if kind == UNKNOWN:
            kind = said.get("content-type", "").partition(";")[0].strip().lower() or UNKNOWN
        return RawDocument(
            ref=replace(ref, version=found.version, size=found.size),
            content=content,
            media_type=UNKNOWN if kind == "binary/octet-stream" else kind,
            url=f"{self.at.root}/{quote(self._name(ref.key))}",
        )

    def opened(self, key: str) -> RangeFile:
        """The object as a file of which parts are read. Blocks: for a worker thread.

        What is read belongs to one version: once the object changes, reading raises SourceUnavailable.
        """
        from obstore import head  # noqa: PLC0415 - see the module

        name = self._name(key)
        with self._talking(key):
            meta = head(self._store(), name)

        def part(start: int, end: int) -> bytes:
            from obstore import get  # noqa: PLC0415 - see the module

            same = {"if_match": meta["e_tag"]} if meta["e_tag"] else {}
            with self._talking(key):
                options: Any = {"range": (start, end), **same}
                return bytes(get(self._store(), name, options=options).bytes())

        return RangeFile(part, version=_version(meta), size=meta["size"])

    def _name(self, key: str) -> str:
        return f"{self.at.path}/{key}" if self.at.path else key

    def _ref(self, key: str, found: ObjectMeta) -> ItemRef:
        return ItemRef(source=self.source, key=key, version=_version(found), size=found["size"])

    def _check_size(self, key: str, size: int, most: int) -> None:
        if size > most:
            raise ItemUnreadable(
                f"{key} has {size:,} bytes, more than sources.{self.source}.max_bytes: {most:,}"
            )

    def _unpacked(self, key: str, content: bytes, most: int) -> bytes:
        try:
            plain = zlib.decompressobj(_GUNZIP).decompress(content, most + 1)
        except zlib.error as error:
            raise ItemUnreadable(f"{key} is said to be packed with gzip, and is not") from error
        self._check_size(key, len(plain), most)
        return plain

    async def _check_folder(self) -> None:
        """Refuse the address of an object where that of a folder must be."""
        from obstore import head_async  # noqa: PLC0415 - see the module

        with self._talking():
            try:
                await head_async(self._store(), self.at.path)
            except FileNotFoundError:
                return
        folder, _, name = self.at.path.rpartition("/")
        cure = f"write {self.at.root}/{folder} and include: [{name}]"
        raise SourceRefused(f"{self._where()} is an object, and no folder: {cure}")

    def _where(self) -> str:
        return f"sources.{self.source}.{self.setting}: {self.at.root}/{self.at.path}".rstrip("/")

    def _store(self) -> Client:
        if not self._opened:
            self._opened.append(self._client())
        return self._opened[0]

    def _client(self) -> Client:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - see the module

        try:
            return client(self.at, self.options)
        except (BaseError, ValueError, OSError) as error:
            said = str(error)
        known = (words for pattern, words in _NOT_OPENED.items() if pattern in said)
        raise SourceRefused(f"{self._where()}: {next(known, 'it cannot be opened with these options')}")

    @contextmanager
    def _talking(self, key: str | None = None) -> Iterator[None]:
        """Translate what obstore raises. Its words hold the storage's answers: none of them is passed on."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 - see the module

        try:
            yield
        except (BaseError, FileNotFoundError, ValueError, NotImplementedError) as error:
            raise self._error(f"{type(error).__name__} {error}", key) from None

    def _error(self, said: str, key: str | None) -> SourceError:
        for pattern, words in _REFUSALS.items():
            if found := re.search(pattern, said, re.IGNORECASE):
                region = found[1] if found.re.groups else ""
                return SourceRefused(f"{self._where()}: {words.format(bucket=self.at.root, found=region)}")
        if key is not None:
            if "PreconditionError" in said:
                return SourceUnavailable(f"{self._where()}: {key} changed while it was read")
            for pattern, words in _OF_ONE.items():
                if re.search(pattern, said):
                    return ItemUnreadable(f"{key} {words}")
        status, code = _STATUS.search(said), _CODE.search(said)
        told = " ".join(found[1] for found in (status, code) if found)
        if status and status[1] in _DENIED:
            return SourceRefused(f"{self._where()}: the key may not list and read what is there ({told})")
        at = self.options.endpoint or "the storage"
        reason = f"{at} answered {told}" if told else f"{at} does not answer, or stopped to"
        return SourceUnavailable(f"{self._where()}: {reason}")


def _version(found: ObjectMeta) -> str:
    # Azure has quotes around it where it gives the object, and none where it lists.
    if tag := (found["e_tag"] or "").strip('"'):
        return tag
    return found["version"] or f"{found['last_modified'].isoformat()}-{found['size']}"

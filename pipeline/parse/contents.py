"""What is in a ZIP archive or attached to an e-mail, down to the innermost. For a worker process.

Nothing is written to disk: a name in an archive is a name, whatever path it pretends to be.
"""

from __future__ import annotations

import io
import lzma
import mimetypes
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pipeline.parse import mail, msg
from pipeline.parse.decode import is_text
from pipeline.parse.extract import Member, Members, Unreadable
from pipeline.parse.formats import EML, INSIDE, Format, format_by_content, format_of

_MOST_NAME = 300
_MOST_RATIO = 1_000
_RATIO_FROM_BYTES = 10_000_000
_NO_DOCUMENTS = ("image", "audio", "video", "font")
_LITTER = ("__MACOSX/", "Thumbs.db", "desktop.ini")
_MAILS: Mapping[str, Callable[[bytes], Iterator[Member]]] = {
    "mail": mail.attachments,
    "msg": msg.attachments,
}


@dataclass(slots=True, kw_only=True)
class _Unpacking:
    """One container on its way to its documents, within limits that hold for all that is in it."""

    most_documents: int
    most_bytes: int
    member_bytes: int
    deepest: int
    members: list[Member] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    """Every name that is taken, and how many are called like it."""
    size: int = 0

    def container(self, content: bytes, kind: str, path: str, depth: int) -> None:
        """Take all documents out of a container; `path` begins their names."""
        if depth > self.deepest:
            raise Unreadable(f"is the container number {depth} in one another; {self.deepest} are opened")
        found = _MAILS[kind](content) if kind in _MAILS else self._zipped(content, path)
        for member in found:
            self._take(member, path, depth)

    def _take(self, member: Member, path: str, depth: int) -> None:
        name = path + self._free(_sanitised(member.name), path)
        if len(member.content) > self.member_bytes:
            self._refuse(name, _too_large(len(member.content), self.member_bytes))
            return
        kind = _format(member)
        if kind is None:
            return
        self.size += len(member.content)
        if self.size > self.most_bytes:
            raise _Full(f"holds more than {self.most_bytes:,} bytes: the most that are taken out")
        if kind.holds != "zip":
            self._add(Member(name=name, content=member.content, media_type=_stated(member, kind)))
        if kind.holds:
            try:
                self.container(member.content, kind.holds, name + INSIDE, depth + 1)
            except _Full:
                raise
            except Unreadable as reason:
                self._refuse(name, str(reason))

    def _add(self, member: Member) -> None:
        self._count()
        self.members.append(member)

    def _refuse(self, name: str, reason: str) -> None:
        self._count()
        self.refused.append((name, reason))

    def _count(self) -> None:
        if len(self.members) + len(self.refused) >= self.most_documents:
            raise _Full(f"holds more than {self.most_documents:,} documents: the most that are taken out")

    def _zipped(self, content: bytes, path: str) -> Iterator[Member]:
        try:
            archive = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise Unreadable("is no ZIP archive, or a broken one") from error
        with archive:
            for info in archive.infolist():
                name = _sanitised(_zip_name(info))
                if info.is_dir() or _is_litter(name):
                    continue
                try:
                    yield Member(name=name, content=self._inflated(archive, info))
                except _Full:
                    raise
                except Unreadable as reason:
                    self._refuse(path + self._free(name, path), str(reason))

    def _inflated(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        """A member's bytes, never more than may be: what the archive says of its length is not believed."""
        if info.flag_bits & 1:
            raise Unreadable("is protected by a password")
        room = min(self.member_bytes, self.most_bytes - self.size)
        if info.file_size > _RATIO_FROM_BYTES and info.file_size > _MOST_RATIO * max(1, info.compress_size):
            raise Unreadable(f"is more than {_MOST_RATIO:,} times as large as in the archive: a bomb")
        try:
            with archive.open(info) as stream:
                content = stream.read(room + 1)
        except (
            *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
            *(NotImplementedError, RuntimeError, ValueError),
        ) as error:
            raise Unreadable(f"cannot be taken out of the archive: {type(error).__name__}") from error
        if len(content) <= room:
            return content
        if room == self.member_bytes:
            raise Unreadable(_too_large(info.file_size, self.member_bytes))
        raise _Full(f"holds more than {self.most_bytes:,} bytes: the most that are taken out")

    def _free(self, name: str, path: str) -> str:
        """The name, or like it and not taken: "a~2.md"."""
        free = name
        file = PurePosixPath(name)
        number = self.taken.get(path + name, 0)
        while path + free in self.taken:
            number += 1
            free = str(file.with_name(f"{file.stem}~{number}{file.suffix}"))
        self.taken[path + name] = max(number, 1)
        self.taken.setdefault(path + free, 1)
        return free


class _Full(Unreadable):
    """The container as a whole goes over a limit."""


def unpack(  # noqa: PLR0913  limits, by name
    content: bytes, *, kind: str, most_documents: int, most_bytes: int, member_bytes: int, deepest: int
) -> Members:
    """The documents in a container and in its containers; pictures and what else is no document is left out.

    Raises:
        Unreadable: it is broken, or holds more than it may.
    """
    unpacking = _Unpacking(
        most_documents=most_documents, most_bytes=most_bytes, member_bytes=member_bytes, deepest=deepest
    )
    unpacking.container(content, kind, "", 1)
    return Members(members=tuple(unpacking.members), refused=tuple(unpacking.refused))


def _format(member: Member) -> Format | None:
    """The format of what is a document."""
    if member.media_type == EML.media_type:
        return EML
    guessed = mimetypes.guess_type(member.name)[0] or ""
    kind = format_of("", member.name)
    if kind is None:
        if guessed.startswith(_NO_DOCUMENTS):
            return None
        kind = format_of(member.media_type, member.name) or format_by_content(member.content)
    if kind is not None and (kind.readers or kind.holds or is_text(member.content)):
        return kind
    return _AS_TEXT if kind is None and is_text(member.content) else None


_AS_TEXT = Format(name="text", media_type="")


def _stated(member: Member, kind: Format) -> str:
    """What a suffix does not tell."""
    return "" if format_of("", member.name) is not None else kind.media_type or member.media_type


def _too_large(size: int, most: int) -> str:
    return f"has {size:,} bytes; at most {most:,} are parsed"


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name; one that is not marked as UTF-8 and is so all the same is read as such."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return info.filename


def _is_litter(name: str) -> bool:
    """What systems leave beside documents, and what is hidden."""
    last = PurePosixPath(name).name
    return name.startswith(_LITTER) or last in _LITTER or last.startswith(".")


def _sanitised(name: str) -> str:
    """A relative path without "..", drive, control character or lone surrogate."""
    shown = name.replace("\\", "/").encode("utf-8", "replace").decode("utf-8")
    shown = "".join(sign if sign.isprintable() else "_" for sign in shown)
    parts = [part.strip() for part in shown.split("/")]
    kept = [part for part in parts if part not in {"", ".", ".."} and not (len(part) == 2 and part[1] == ":")]
    path = "/".join(kept).replace(INSIDE, "!_/") or "unnamed"
    if len(path) <= _MOST_NAME:
        return path
    suffix = PurePosixPath(path).suffix[:20]
    return path[: _MOST_NAME - len(suffix)] + suffix

"""Outlook's MSG files, as e-mails. For a worker process.

The properties and their numbers: Microsoft's [MS-OXMSG] and [MS-OXPROPS].
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from email.utils import format_datetime
from typing import TYPE_CHECKING

from pipeline.parse.decode import clean, decode
from pipeline.parse.extract import Extract, Member, Part, Unreadable
from pipeline.parse.mail import extract_of
from pipeline.parse.native import extracted

if TYPE_CHECKING:
    from olefile import OleFileIO

_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")
_SUBJECT, _BODY, _HTML, _RICH = 0x0037, 0x1000, 0x1013, 0x1009
_SENDER_NAME, _SENDER, _SENDER_SMTP = 0x0C1A, 0x0C1F, 0x5D01
_TO, _CC = 0x0E04, 0x0E03
_SENT, _DELIVERED = 0x0039, 0x0E06
_CODEPAGES = (0x3FFD, 0x3FDE)
_ATTACHED, _LONG_NAME, _SHORT_NAME, _MIME_TYPE = 0x3701, 0x3707, 0x3704, 0x370E
_UNICODE, _BYTES, _BINARY, _STORAGE = 0x001F, 0x001E, 0x0102, 0x000D
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_DEEPEST = 8
_MOST_ATTACHMENTS = 1_000
_NOT_IN_HEADERS = str.maketrans({"\r": " ", "\n": " ", "\0": " "})


def read(content: bytes) -> Extract:
    """As an e-mail: who wrote to whom and when, and the body.

    Raises:
        ValueError: the body is rich text only.
    """
    message = _Storage(_opened(content), ())
    mail = _mail(message)
    if mail.get_body() is None and message.raw(_RICH, _BINARY):
        raise ValueError("its body is rich text only")
    return extract_of(mail)


def read_rich(content: bytes) -> Extract:
    """The same where the body is rich text only, which xberg reads."""
    found = extracted(content, "application/vnd.ms-outlook")
    head = extract_of(_mail(_Storage(_opened(content), ())))
    return replace(head, parts=(Part(text=found.content),), syntax="markdown")


def attachments(content: bytes) -> Iterator[Member]:
    """What is attached, in order. An attached message is an e-mail of its own."""
    yield from _members(_Storage(_opened(content), ()))


class _Storage:
    """A folder of the compound file: a message, or an attachment."""

    def __init__(self, file: OleFileIO, path: tuple[str, ...]) -> None:
        self._file = file
        self.path = path

    def inner(self, name: str) -> _Storage:
        return _Storage(self._file, (*self.path, name))

    def names(self) -> list[str]:
        """The folders in this one, in order."""
        depth = len(self.path)
        found = self._file.listdir(streams=False, storages=True)
        return sorted(path[-1] for path in found if len(path) == depth + 1 and tuple(path[:-1]) == self.path)

    def raw(self, number: int, kind: int) -> bytes | None:
        """The bytes of a property that has a stream of its own."""
        path = [*self.path, f"__substg1.0_{number:04X}{kind:04X}"]
        if not self._file.exists(path) or self._file.get_type(path) != 2:
            return None
        content: bytes = self._file.openstream(path).read()
        return content

    def text(self, number: int) -> str:
        if (wide := self.raw(number, _UNICODE)) is not None:
            return clean(wide.decode("utf-16-le", "replace")).strip("\0\ufffd ")
        narrow = self.raw(number, _BYTES)
        return clean(decode(narrow, declared=self._codepage())) if narrow else ""

    def fixed(self, number: int) -> bytes | None:
        """The eight bytes of a property that has no stream of its own."""
        path = [*self.path, "__properties_version1.0"]
        if not self._file.exists(path):
            return None
        content = self._file.openstream(path).read()
        for at in range(32 if not self.path else 24, len(content) - 15, 16):
            if struct.unpack_from("<H", content, at + 2)[0] == number:
                value: bytes = content[at + 8 : at + 16]
                return value
        return None

    def _codepage(self) -> str:
        for number in _CODEPAGES:
            if value := self.fixed(number):
                return f"cp{struct.unpack_from('<I', value)[0]}".replace("cp65001", "utf-8")
        return "cp1252"


def _opened(content: bytes) -> OleFileIO:
    import olefile  # noqa: PLC0415  in the worker only

    if not content.startswith(_COMPOUND_FILE):
        raise Unreadable("is no MSG file: it does not begin as a compound file")
    file = olefile.OleFileIO(io.BytesIO(content))
    if not file.exists("__properties_version1.0"):
        raise Unreadable("is no MSG file: it is a compound file of another kind")
    return file


def _mail(message: _Storage, *, depth: int = 0) -> EmailMessage:
    """The message as an e-mail; with its attachments where it is one itself."""
    mail = EmailMessage(policy=default.clone(utf8=True))
    address = message.text(_SENDER_SMTP) or message.text(_SENDER)
    address = address if "@" in address else ""
    name = message.text(_SENDER_NAME)
    sender = f'"{name}" <{address}>' if name and address and name != address else name or address
    headers = {
        "Subject": message.text(_SUBJECT),
        "From": sender,
        "To": message.text(_TO).replace(";", ","),
        "Cc": message.text(_CC).replace(";", ","),
        "Date": _date(message),
    }
    for header, value in headers.items():
        if said := value.translate(_NOT_IN_HEADERS).strip():
            mail.add_header(header, said)
    if body := message.text(_BODY):
        mail.set_content(body)
    elif page := message.raw(_HTML, _BINARY) or message.text(_HTML).encode():
        mail.set_content(clean(decode(page)), subtype="html")
    if depth:
        for member in _members(message, depth=depth):
            main, _, sub = (member.media_type or "application/octet-stream").partition("/")
            mail.add_attachment(
                member.content, maintype=main, subtype=sub or "octet-stream", filename=member.name
            )
    return mail


def _members(message: _Storage, *, depth: int = 0) -> Iterator[Member]:
    if depth > _DEEPEST:
        raise Unreadable(f"has messages attached to messages, more than {_DEEPEST} deep")
    names = [name for name in message.names() if name.startswith("__attach_version1.0_")]
    if len(names) > _MOST_ATTACHMENTS:
        raise Unreadable(f"has more than {_MOST_ATTACHMENTS:,} attachments")
    for name in names:
        attachment = message.inner(name)
        called = attachment.text(_LONG_NAME) or attachment.text(_SHORT_NAME)
        if (content := attachment.raw(_ATTACHED, _BINARY)) is not None:
            media_type = attachment.text(_MIME_TYPE)
            yield Member(
                name=called or "attachment",
                content=content,
                media_type=media_type if media_type.count("/") == 1 else "",
            )
        elif (inner := f"__substg1.0_{_ATTACHED:04X}{_STORAGE:04X}") in attachment.names():
            mail = _mail(attachment.inner(inner), depth=depth + 1)
            title = str(mail["Subject"] or called or "message").replace("/", "-")[:80]
            yield Member(name=f"{title}.eml", content=mail.as_bytes(), media_type="message/rfc822")


def _date(message: _Storage) -> str:
    for number in (_SENT, _DELIVERED):
        if value := message.fixed(number):
            ticks = struct.unpack("<Q", value)[0]
            try:
                return format_datetime(_EPOCH + timedelta(microseconds=ticks // 10))
            except (OverflowError, ValueError):
                continue
    return ""

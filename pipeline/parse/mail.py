"""E-mails to text, and what is attached to them. For a worker process."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from email.utils import getaddresses, parsedate_to_datetime

from pipeline.parse.decode import clean, decode
from pipeline.parse.extract import Extract, Member, Part, Unreadable
from pipeline.parse.properties import about

_MOST_PARTS = 1_000
_LEAST_HEADERS = {"from", "to", "subject", "date", "received", "message-id", "return-path"}
_HEADERS = (("From", "from"), ("To", "to"), ("Cc", "cc"))
_LONGEST_HEADER = 500
_LONGEST_PARSED = 10_000  # parsing takes time by the square of the length
_SIGNATURES = {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}


def read(content: bytes) -> Extract:
    """Who wrote to whom and when, and the body: the plain one, or the other converted."""
    return extract_of(_message(content))


def attachments(content: bytes) -> Iterator[Member]:
    """What is attached, in order; pictures and all. An attached e-mail is one file."""
    for part in _attached(_message(content)):
        if (kind := part.get_content_type()) not in _SIGNATURES:
            yield Member(name=_name(part), content=_bytes(part), media_type=kind)


def extract_of(message: EmailMessage) -> Extract:
    """The text of an e-mail that is parsed already."""
    who = {name: _addresses(message, header) for header, name in _HEADERS}
    sent = _date(message)
    head = [f"{header}: {who[name]}" for header, name in _HEADERS if who[name]]
    if sent:
        head.append(f"Date: {sent.replace('T', ' ')}")
    body, syntax = _body(message)
    subject = clean(_header(message, "Subject"))
    text = "\n\n".join(filter(None, ["\n".join(head), body.strip()]))
    return Extract(
        parts=(Part(text=text),),
        title=subject or None,
        syntax=syntax,
        metadata=about(date=sent, **{**who, "from_": who["from"], "from": None}),
    )


def _message(content: bytes) -> EmailMessage:
    message = BytesParser(policy=policy.default).parsebytes(content)
    assert isinstance(message, EmailMessage)  # noqa: S101  the default policy makes these
    if not _LEAST_HEADERS & {name.lower() for name in message.keys()}:  # noqa: SIM118  a message is no dict
        raise Unreadable("is no e-mail: it has no header that e-mails have")
    return message


def _body(message: EmailMessage) -> tuple[str, str]:
    """Text and syntax of the body."""
    body = _readable(message, "plain")
    text = _text(body).strip() if body else ""
    if text:
        return text, "plain"
    page = _readable(message, "html")
    if page is None:
        return "", "plain"
    from pipeline.parse.html import to_markdown  # noqa: PLC0415  most e-mails have a plain body too

    return to_markdown(_text(page)), "markdown"


def _readable(message: EmailMessage, kind: str) -> Message | None:
    try:
        return message.get_body((kind,))
    except (KeyError, ValueError, AttributeError):  # of broken structures
        return None


def _attached(message: EmailMessage) -> Iterator[Message]:
    shown = [body for kind in ("plain", "html") if (body := _readable(message, kind)) is not None]
    for number, part in enumerate(_leaves(message)):
        if number >= _MOST_PARTS:
            raise Unreadable(f"has more than {_MOST_PARTS:,} parts")
        if any(part is body for body in shown):
            continue
        if part.get_filename() or part.get_content_disposition() == "attachment" or not _is_text(part):
            yield part


def _leaves(part: Message) -> Iterator[Message]:
    """The parts that hold no others. An attached e-mail is one: its parts are its own."""
    stack = [part]
    while stack:
        part = stack.pop()
        inner = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            stack += [piece for piece in reversed(inner) if isinstance(piece, Message)]
        else:
            yield part


def _is_text(part: Message) -> bool:
    return part.get_content_type() in {"text/plain", "text/html"}


def _name(part: Message) -> str:
    if name := part.get_filename():
        return str(name)
    if part.get_content_maintype() == "message":
        inner = part.get_payload()
        mail = inner[0] if isinstance(inner, list) and inner else None
        subject = mail["Subject"] if isinstance(mail, Message) else None
        return f"{str(subject or 'message')[:80].replace('/', '-')}.eml"
    return "attachment" + (mimetypes.guess_extension(part.get_content_type()) or "")


def _bytes(part: Message) -> bytes:
    if part.get_content_maintype() == "message":
        inner = part.get_payload()
        if isinstance(inner, list) and inner and isinstance(inner[0], Message):
            return inner[0].as_bytes()
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _text(part: Message) -> str:
    return clean(decode(_bytes(part), declared=str(part.get_content_charset() or "")))


def _addresses(message: EmailMessage, header: str) -> str:
    """The names with their addresses, as many as there is room for."""
    found = getaddresses([_header(message, header)])
    shown = ""
    for name, address in found:
        one = f"{name} <{address}>" if name and address else name or address
        if len(shown) + len(one) > _LONGEST_HEADER:
            return f"{shown}, …"
        shown = f"{shown}, {one}" if shown else one
    return clean(" ".join(shown.split()))


def _header(message: EmailMessage, name: str) -> str:
    try:
        said = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
        parsed = message.policy.header_fetch_parse(name, str(said)[:_LONGEST_PARSED])
        return " ".join(str(parsed).split())
    except Exception:  # noqa: BLE001  the standard library raises anything over broken headers
        return ""


def _date(message: EmailMessage) -> str | None:
    try:
        return parsedate_to_datetime(_header(message, "Date")).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

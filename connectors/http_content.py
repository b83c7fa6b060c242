"""What an answer's content is: its media type, and its text's encoding."""

from __future__ import annotations

import codecs
import re
from urllib.parse import unquote, urlsplit

from connectors._http import Answer
from connectors.media_types import UNKNOWN, media_type

HTML = frozenset({"text/html", "application/xhtml+xml"})
_SAYS_LITTLE = frozenset({"", UNKNOWN, "binary/octet-stream", "text/plain"})
_IS_UTF8 = frozenset({"utf-8", "ascii"})
_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def kind_of(answer: Answer) -> str:
    """The media type: as the server says, or by the name where it says little."""
    stated = answer.media_type
    by_name = media_type(unquote(urlsplit(answer.url).path))
    return by_name if stated in _SAYS_LITTLE and by_name != UNKNOWN else stated or UNKNOWN


def content_of(answer: Answer, kind: str) -> bytes:
    """The content; text in an encoding that the header alone may tell is made UTF-8, with its mark."""
    is_text = kind.startswith("text/") or kind in HTML
    if not is_text or not answer.charset or _marked(answer.content):
        return answer.content
    try:
        if codecs.lookup(answer.charset).name in _IS_UTF8:
            return answer.content
        return codecs.BOM_UTF8 + answer.content.decode(answer.charset, "replace").encode()
    except (LookupError, ValueError):
        return answer.content


def decoded(content: bytes, charset: str = "") -> str:
    """HTML as text: its encoding by byte order mark, the answer's header, or its own word, in turn."""
    declared = _DECLARED.search(content[:4096])
    own = declared[1].decode("ascii") if declared else ""
    for encoding in (_marked(content), charset, own):
        try:
            if encoding:
                return content.decode(encoding, "replace")
        except (LookupError, ValueError):
            continue
    return content.decode("utf-8", "replace")


def _marked(content: bytes) -> str:
    """The encoding that a byte order mark tells; empty without one."""
    return next((encoding for mark, encoding in _MARKS if content.startswith(mark)), "")

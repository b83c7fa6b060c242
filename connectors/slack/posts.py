"""What a message of Slack says, as Markdown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

_SILENT = frozenset(
    f"{kind}_{what}"
    for kind in ("channel", "group")
    for what in ("join", "leave", "topic", "purpose", "name", "archive", "unarchive", "posting_permissions")
) | {"tombstone", "bot_add", "bot_remove", "pinned_item", "unpinned_item", "reminder_add", "huddle_thread"}
"""Messages about the channel, and in place of deleted ones."""

_CODE = re.compile(r"```(.+?)```|`([^`\n]+)`", re.DOTALL)
_TOKEN = re.compile(r"<([^<>\n]+)>")
_BOLD = re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])")
_STRUCK = re.compile(r"(?<![\w~])~(?=\S)([^~\n]+?)(?<=\S)~(?![\w~])")
_BULLET = re.compile(r"^(\s*)[•◦▪]\s*", re.MULTILINE)
_HEADING = re.compile(r"^(#{1,6}\s)", re.MULTILINE)
_LINK = re.compile(r"\[([^\[\]\n]+)\]\([^()\s]+\)")
_MARK = re.compile(r"\*\*|~~|`+")
_KEPT = re.compile("\ue000([0-9]+)\ue001")
"""The place of what is done already; no message has these two characters."""
_NO_PLACES = dict.fromkeys(map(ord, "\ue000\ue001"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What one message says, in Slack's own markup."""

    ts: str
    user: str
    """An id; empty where a bot goes by a name of its own."""
    name: str
    text: str
    files: tuple[str, ...]

    @classmethod
    def of(cls, message: Mapping[str, Any], *, bots: bool) -> Self | None:
        """The message, if it says anything that is wanted."""
        by_bot = bool(message.get("bot_id")) or message.get("subtype") == "bot_message"
        if message.get("subtype") in _SILENT or (by_bot and not bots):
            return None
        text = "\n\n".join(filter(None, _texts(message)))
        files = tuple(
            str(file.get("title") or file.get("name"))
            for file in message.get("files") or ()
            if file.get("title") or file.get("name")
        )
        if not text and not files:
            return None
        own = message.get("username") or (message.get("bot_profile") or {}).get("name") if by_bot else ""
        user = "" if own else str(message.get("user") or message.get("bot_id") or "")
        return cls(ts=str(message["ts"]), user=user, name=str(own or ""), text=text, files=files)

    @classmethod
    def again(cls, kept: Mapping[str, Any]) -> Self:
        """From what `as_json` gave."""
        return cls(**{**kept, "files": tuple(kept["files"])})

    def as_json(self) -> dict[str, Any]:
        """All of it, to be kept."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What ids are called."""

    users: Mapping[str, str]
    channels: Mapping[str, str]

    def author(self, post: Post) -> str:
        """Who said it."""
        return post.name or self.users.get(post.user) or post.user or "somebody"


def moment(ts: str) -> datetime:
    """When a message was sent."""
    return datetime.fromtimestamp(float(ts), UTC)


def document(posts: Iterable[Post], names: Names, *, dated: bool) -> str:
    """The messages, one after another; `dated`: with the day."""
    form = "%Y-%m-%d %H:%M" if dated else "%H:%M"
    return "\n\n".join(_entry(post, names, moment(post.ts).strftime(form)) for post in posts)


def _entry(post: Post, names: Names, when: str) -> str:
    text = markdown(post.text, names)
    gap = "\n\n" if text.startswith(("```", "- ", "> ")) else " "
    lines = [f"**{names.author(post)}** ({when}):{gap}{text}".rstrip()]
    return "\n\n".join([*lines, *(f"File: {name}" for name in post.files)])


def markdown(text: str, names: Names) -> str:
    """Slack's markup as Markdown: mentions by name, links, emphasis, lists; code stays as it is."""
    kept: list[str] = []

    def keep(made: str) -> str:
        kept.append(made)
        return f"\ue000{len(kept) - 1}\ue001"

    def code(found: re.Match[str]) -> str:
        inside = _TOKEN.sub(lambda token: token[1].partition("|")[0], found[1] or found[2])
        inside = _unescaped(inside)
        return keep("```\n" + inside.strip("\n") + "\n```" if found[1] else f"`{inside}`")

    text = _fenced_apart(_CODE.sub(code, text.translate(_NO_PLACES)), kept)
    text = _TOKEN.sub(lambda found: keep(_token(found[1], names)), text)
    text = _HEADING.sub(r"\\\1", _BULLET.sub(r"\1- ", text))
    text = _unescaped(_STRUCK.sub(r"~~\1~~", _BOLD.sub(r"**\1**", text)))
    return _restored(text, kept)


def _restored(text: str, kept: Sequence[str]) -> str:
    """With what was kept in its place; a link may hold code."""
    return _KEPT.sub(lambda found: _restored(kept[int(found[1])], kept), text)


def plain(text: str, names: Names) -> str:
    """The text on one line, without emphasis and with the labels of links only: for a title."""
    return " ".join(_MARK.sub("", _LINK.sub(r"\1", markdown(text, names))).split())


def _fenced_apart(text: str, kept: list[str]) -> str:
    """Code blocks on lines of their own."""

    def apart(found: re.Match[str]) -> str:
        return f"\n{found[0]}\n" if kept[int(found[1])].startswith("```") else found[0]

    return _KEPT.sub(apart, text).strip("\n")


def _token(inside: str, names: Names) -> str:
    """What stands between angle brackets: a mention, or a link."""
    target, _, label = inside.partition("|")
    label = _unescaped(label)
    kind, rest = target[:1], target[1:]
    if kind == "@":
        return f"@{names.users.get(rest, '').translate(_NO_PLACES) or label or rest}"
    if kind == "#":
        return f"#{names.channels.get(rest, '').translate(_NO_PLACES) or label or rest}"
    if kind == "!":
        return label or f"@{rest.partition('^')[0]}"
    target = _unescaped(target)
    bare = target.removeprefix("mailto:").removeprefix("tel:")
    if not label or label in (target, bare):
        return f"<{target}>" if bare == target else bare
    return f"[{label}]({target})"


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    """The text; of an app that sent none, its blocks; and its attachments, but no previews of links."""
    text = str(message.get("text") or "")
    yield text or "\n\n".join(filter(None, map(_block, message.get("blocks") or ())))
    for attachment in message.get("attachments") or ():
        if attachment.get("from_url") or attachment.get("is_msg_unfurl"):
            continue
        own = [str(attachment.get(part) or "") for part in ("pretext", "title", "text")]
        fields = [f"{one.get('title', '')}: {one.get('value', '')}" for one in attachment.get("fields") or ()]
        said = [*filter(None, [*own, *map(_block, attachment.get("blocks") or ())]), *fields]
        yield "\n".join(said) or str(attachment.get("fallback") or "")


def _block(block: Mapping[str, Any]) -> str:
    parts = [block.get("text"), *(block.get("fields") or ()), *(block.get("elements") or ())]
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))

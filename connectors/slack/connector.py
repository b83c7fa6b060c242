"""Threads and days of Slack's channels as documents."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import Any

import anyio

from connectors.slack.api import Api, word_of
from connectors.slack.posts import Names, Post, document, moment, plain
from connectors.slack.settings import SlackSettings
from connectors.spool import Spool
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

_ID = re.compile(r"[CG][A-Z0-9]{7,}")
_TS = re.compile(r"\d+\.\d+")
_SETTLED = timedelta(days=1)
"""A thread does not show that a reply was edited: so long after the last one, it is read once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel that is read."""

    id: str
    name: str
    private: bool
    source: str

    @property
    def access(self) -> tuple[str, ...] | None:
        """Who may see what was said there; a public channel does not say."""
        return (f"{self.source}:#{self.name}",) if self.private else None


@dataclass(slots=True)
class _Workspace:
    """What the last listing learnt of it."""

    url: str = ""
    channels: dict[str, Channel] = field(default_factory=dict)
    users: dict[str, str] | None = None
    """Asked for when the first document is loaded."""
    asking: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackConnector:
    """Lists threads, and the days (UTC) of what was said outside of threads.

    A key is `CHANNEL/TS` of the message that a thread began with, or `CHANNEL/2026-11-21`. A listing reads
    the history of the channels, which days are made of; the replies of a thread are read when it has changed.
    """

    source: str
    settings: SlackSettings
    _spool: Spool = field(default_factory=Spool)
    _workspace: list[_Workspace] = field(default_factory=list)
    _apis: list[Api] = field(default_factory=list)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every thread and day of the channels within the window, the latest of a channel first.

        Raises:
            SourceRefused: the token is not accepted, lacks a scope, or may not see a channel.
            SourceUnavailable: Slack does not answer, or stopped to.
        """
        self._spool.clear()
        here = _Workspace()
        self._workspace[:] = [here]
        async with self._api().http.opened():
            here.url = str((await self._api().call("auth.test", "token")).get("url") or "")
            here.channels = {channel.id: channel for channel in await self._channels()}
            for channel in here.channels.values():
                async for ref in self._listed(channel):
                    yield ref

    async def load(self, ref: ItemRef) -> RawDocument:
        """The thread as it is now, or the day as it was listed, as Markdown.

        Raises:
            ItemUnreadable: the thread vanished.
            SourceError: as `list_items`.
        """
        channel_id, _, part = ref.key.partition("/")
        channel = self._workspace[0].channels.get(channel_id) if self._workspace else None
        if channel is None:
            raise ItemUnreadable(f"{ref.key} was not listed by this run")
        if ref.key in self._spool:
            posts = [Post.again(one) for one in json.loads(self._spool.get(ref.key))]
            return await self._document(ref, channel, posts)
        if not _TS.fullmatch(part):
            raise ItemUnreadable(f"{ref.key} was not listed by this run")
        parent, messages = await self._thread(channel, part)
        posts = [post for one in messages if (post := Post.of(one, bots=self.settings.bots))]
        if not ref.version.startswith(_mark(parent)):
            ref = replace(ref, version=self._version(channel, parent))
        return await self._document(ref, channel, posts)

    async def _channels(self) -> list[Channel]:
        """Those that the settings name, or every public one that the token's owner is in.

        Raises:
            SourceRefused: one of them is not there.
        """
        if not self.settings.channels:
            return [
                self._channel(one)
                async for one in self._all("public", archived=False)
                if one.get("is_member")
            ]
        names = dict.fromkeys(self.settings.channels)
        found: dict[str, Channel] = {}
        for name in filter(_ID.fullmatch, names):
            one = await self._api().call("conversations.info", f"channel {name}", channel=name)
            found[name] = self._channel(one["channel"])
        for kind in ("public", "private"):
            if wanted := names.keys() - found.keys():
                try:
                    async for one in self._all(kind, archived=True):
                        if one["name"] in wanted:
                            found[one["name"]] = self._channel(one)
                except SourceRefused as error:
                    if word_of(error) != "missing_scope" or kind == "public":
                        raise
                    raise self._unknown(wanted, "; the token may not list private ones") from error
        if missing := names.keys() - found.keys():
            raise self._unknown(missing, ", or it is private and the app is not in it")
        return [found[name] for name in names]

    def _all(self, kind: str, *, archived: bool) -> AsyncIterator[Mapping[str, Any]]:
        without = "false" if archived else "true"
        types = f"{kind}_channel"
        return self._api().pages(
            "conversations.list", "channels", "channels", types=types, exclude_archived=without
        )

    def _channel(self, found: Mapping[str, Any]) -> Channel:
        private = bool(found.get("is_private"))
        return Channel(id=str(found["id"]), name=str(found["name"]), private=private, source=self.source)

    def _unknown(self, names: Iterable[str], why: str) -> SourceRefused:
        return SourceRefused(f"sources.{self.source}.channels: no channel {', '.join(sorted(names))}{why}")

    async def _listed(self, channel: Channel) -> AsyncIterator[ItemRef]:
        """Threads as they are met; a day when the messages of an earlier one begin."""
        day, posts, threads = "", dict[str, Post](), set[str]()
        async for message in self._history(channel):
            ts = str(message["ts"])
            if message.get("thread_ts") not in (None, ts) or ts in threads:
                continue  # a reply that was shown in the channel, too
            if message.get("reply_count"):
                threads.add(ts)
                version = self._version(channel, message)
                yield ItemRef(source=self.source, key=f"{channel.id}/{ts}", version=version)
            elif post := Post.of(message, bots=self.settings.bots):
                if (its_day := moment(ts).date().isoformat()) != day:
                    if posts:
                        yield self._day(channel, day, posts.values())
                    if day and its_day > day:
                        raise SourceUnavailable(
                            f"sources.{self.source}: #{channel.name} came in no order of time"
                        )
                    day, posts = its_day, {}
                posts[ts] = post
        if posts:
            yield self._day(channel, day, posts.values())

    def _history(self, channel: Channel) -> AsyncIterator[Mapping[str, Any]]:
        """The messages of the window, latest first; what is said meanwhile is for the next run."""
        asked = {"channel": channel.id, "latest": f"{time.time():.6f}", "inclusive": "true"}
        today = datetime.now(UTC).date()
        days = self.settings.keep_days
        first = today - timedelta(days=days) if days else self.settings.since
        if first:
            asked["oldest"] = f"{datetime.combine(first, clock_time.min, UTC).timestamp():.6f}"
        return self._api().pages("conversations.history", "messages", f"#{channel.name}", **asked)

    def _day(self, channel: Channel, day: str, posts: Iterable[Post]) -> ItemRef:
        """The item, its messages put aside until it is loaded."""
        key = f"{channel.id}/{day}"
        ordered = [post.as_json() for post in sorted(posts, key=lambda post: post.ts)]
        self._spool.put(key, json.dumps(ordered).encode())
        return ItemRef(source=self.source, key=key, version=_digest(channel, ordered))

    def _version(self, channel: Channel, parent: Mapping[str, Any]) -> str:
        """Moves with the first message, and with the number and the time of the replies."""
        post = Post.of(parent, bots=True)
        version = f"{_mark(parent)}{_digest(channel, [post and post.as_json()])}"
        last = moment(str(parent.get("latest_reply") or parent["ts"]))
        return version if datetime.now(UTC) - last > _SETTLED else f"{version} or later"

    async def _thread(
        self, channel: Channel, ts: str
    ) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
        """The message that it began with, and all of them in their order."""
        replies = self._api().pages(
            "conversations.replies", "messages", f"a thread of #{channel.name}", channel=channel.id, ts=ts
        )
        found = {str(one["ts"]): one async for one in replies}  # every page begins with the first message
        if ts not in found:
            raise ItemUnreadable(f"{channel.id}/{ts} is gone")
        return found[ts], [found[one] for one in sorted(found)]

    async def _document(self, ref: ItemRef, channel: Channel, posts: Sequence[Post]) -> RawDocument:
        here = self._workspace[0]
        names = Names(
            users=await self._users(here), channels={one.id: one.name for one in here.channels.values()}
        )
        part = ref.key.partition("/")[2]
        is_thread = bool(_TS.fullmatch(part))
        first = part if is_thread else posts[0].ts
        about = part
        if is_thread:
            opening = plain(posts[0].text, names) if posts else ""
            about = textwrap.shorten(opening, 80, placeholder=" …") or "thread"
        return RawDocument(
            ref=ref,
            content=document(posts, names, dated=is_thread).encode("utf-8", "replace"),
            media_type="text/markdown",
            title=f"#{channel.name}: {about}",
            url=f"{here.url}archives/{channel.id}/p{first.replace('.', '')}" if here.url else None,
            access=channel.access,
            metadata={
                "channel": channel.name,
                "private": channel.private,
                "date": moment(first).date().isoformat(),
                "participants": [*dict.fromkeys(map(names.author, posts))],
            },
        )

    async def _users(self, here: _Workspace) -> Mapping[str, str]:
        """What everybody is called, by id."""
        async with here.asking:
            if here.users is None:
                found = self._api().pages("users.list", "members", "the users' names")
                here.users = {str(one["id"]): _called(one) async for one in found}
            return here.users

    def _api(self) -> Api:
        if not self._apis:
            self._apis.append(Api(source=self.source, settings=self.settings))
        return self._apis[0]


def _called(user: Mapping[str, Any]) -> str:
    profile = user.get("profile") or {}
    names = (profile.get("display_name"), profile.get("real_name"), user.get("real_name"), user.get("name"))
    return str(next(filter(None, names), user["id"]))


def _mark(parent: Mapping[str, Any]) -> str:
    """What Slack tells of a thread with its first message, in its history and with its replies alike."""
    edited = (parent.get("edited") or {}).get("ts") or "-"
    return f"{parent.get('latest_reply') or '-'} {parent.get('reply_count') or 0} {edited} "


def _digest(channel: Channel, said: object) -> str:
    """Of what a document is made of, but for the names of people."""
    seen_by = channel.access or False
    whole = json.dumps([channel.name, seen_by, said], ensure_ascii=True)
    return hashlib.blake2b(whole.encode(), digest_size=12).hexdigest()

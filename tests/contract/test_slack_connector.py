"""Channels of Slack: the contract against a server that answers as its documented API does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from connectors.slack import SlackConnector, SlackSettings
from connectors.slack.posts import Names, Post, markdown, plain
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.records import RawDocument
from pipeline.stores.memory import MemoryStore
from tests.contract.connector_contract import ConnectorContract, SourceOfTests, listed
from tests.fakes import OracleEmbedder
from tests.loopback import Asked, Said, failing, hasten, serving
from tests.world import World

PAGE = 30
"""Items a page here, whatever is asked for."""
START = datetime(2026, 1, 1, 9, 0, tzinfo=UTC)
GENERAL, SECRET, OTHER = "C0GENERAL1", "C0SECRET01", "C0OTHER001"


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def stamp(when: datetime, number: int = 0) -> str:
    return f"{int(when.timestamp())}.{number:06}"


@dataclass
class Slack:
    """As much of a workspace as is asked: cursors, threads, scopes, membership, rate limits."""

    url: str = ""
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    replies: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """By the thread's ts."""
    users: list[dict[str, Any]] = field(default_factory=list)
    scopes: set[str] = field(default_factory=lambda: {"channels", "groups", "users"})
    asked: list[str] = field(default_factory=list)
    fails: dict[str, list[Said | None]] = field(default_factory=dict)
    """Answers in place of the usual ones, by method; None for the usual one."""
    names: dict[str, str] = field(default_factory=dict)
    as_threads: bool = False
    shift: int = 0
    """Messages that came meanwhile: so many of what a page told are told again by the next."""
    clock: int = 0

    def __post_init__(self) -> None:
        self.channel(GENERAL, "general")
        self.channel(OTHER, "other", is_member=False)
        self.channel(SECRET, "secret", is_private=True)
        for number, name in enumerate(["Ada", "Bo", "Cy"]):
            profile = {"display_name": name if name != "Cy" else "", "real_name": f"{name} Real"}
            self.users.append({"id": f"U{number}", "name": name.lower(), "profile": profile})

    def channel(self, key: str, name: str, **about: Any) -> None:
        usual = {"is_private": False, "is_member": True, "is_archived": False}
        self.channels[key] = {"id": key, "name": name, **usual, **about}
        self.messages[key] = {}

    def say(self, text: str, when: datetime = START, *, to: str = GENERAL, **about: Any) -> str:
        self.clock += 1
        ts = stamp(when, self.clock)
        self.messages[to][ts] = {"type": "message", "user": "U0", "text": text, "ts": ts, **about}
        return ts

    def reply(self, ts: str, text: str, when: datetime = START, *, to: str = GENERAL, **about: Any) -> str:
        self.clock += 1
        own = stamp(when, self.clock)
        message = {"type": "message", "user": "U1", "text": text, "ts": own, "thread_ts": ts, **about}
        self.replies.setdefault(ts, {})[own] = message
        if about.get("subtype") == "thread_broadcast":
            self.messages[to][own] = message
        self.count(ts, to)
        return own

    def count(self, ts: str, to: str = GENERAL) -> None:
        replies = self.replies[ts]
        parent = self.messages[to][ts]
        parent.update(thread_ts=ts, reply_count=len(replies), latest_reply=max(replies, default=ts))

    def put(self, key: str, content: bytes) -> None:
        text = "Said: " + escaped(content.decode("utf-8", "replace"))
        if key not in self.names:
            self.names[key] = self.say(text, START + timedelta(days=len(self.names)))
            if self.as_threads:
                self.reply(self.names[key], "Indeed.")
            return
        message = self.messages[GENERAL][self.names[key]]
        self.clock += 1
        message.update(text=text, edited={"user": "U0", "ts": stamp(START, self.clock)})

    def drop(self, key: str) -> None:
        del self.messages[GENERAL][self.names[key]]

    def connector(self, **settings: object) -> SlackConnector:
        chosen = {
            "type": "slack",
            "base_url": f"{self.url}/api",
            "token": SecretStr("xoxb-s3cret"),
            **settings,
        }
        return SlackConnector(source="chat", settings=SlackSettings.model_validate(chosen))

    def answer(self, asked: Asked) -> Said:
        method = asked.path.removeprefix("/api/")
        self.asked.append(method)
        if self.fails.get(method) and (failure := self.fails[method].pop(0)):
            return failure
        if asked.headers.get("authorization") != "Bearer xoxb-s3cret":
            return Said(content={"ok": False, "error": "invalid_auth"})
        assert int(asked.query.get("limit", "1")) <= 200
        found = getattr(self, method.replace(".", "_"))(asked.query)
        return Said(content={"ok": "error" not in found, **found})

    def auth_test(self, query: Any) -> dict[str, Any]:
        return {"url": "https://fern.slack.com/", "team": "Fern"}

    def users_list(self, query: Any) -> dict[str, Any]:
        if "users" not in self.scopes:
            return {"error": "missing_scope", "needed": "users:read", "provided": "channels:read"}
        return self.page("members", self.users, query)

    def conversations_list(self, query: Any) -> dict[str, Any]:
        private = query["types"] == "private_channel"
        if private and "groups" not in self.scopes:
            return {"error": "missing_scope", "needed": "groups:read", "provided": "channels:read"}
        found = [
            one
            for one in self.channels.values()
            if one["is_private"] == private
            and (one["is_member"] or not private)
            and not (one["is_archived"] and query["exclude_archived"] == "true")
        ]
        return self.page("channels", found, query)

    def conversations_info(self, query: Any) -> dict[str, Any]:
        found = self.channels.get(query["channel"])
        return {"channel": found} if found else {"error": "channel_not_found"}

    def conversations_history(self, query: Any) -> dict[str, Any]:
        if not self.channels[query["channel"]]["is_member"]:
            return {"error": "not_in_channel"}
        within = [
            message
            for ts, message in sorted(self.messages[query["channel"]].items(), reverse=True)
            if float(query.get("oldest", "0")) <= float(ts) <= float(query["latest"])
        ]
        return self.page("messages", within, query)

    def conversations_replies(self, query: Any) -> dict[str, Any]:
        parent = self.messages[query["channel"]].get(query["ts"])
        if parent is None:
            return {"error": "thread_not_found"}
        found = [one for _, one in sorted(self.replies.get(query["ts"], {}).items())]
        page = self.page("messages", found, query)
        return {**page, "messages": [parent, *page["messages"]]}

    def page(self, part: str, found: list[dict[str, Any]], query: Any) -> dict[str, Any]:
        start = int(query.get("cursor", "0"))
        more = start + PAGE < len(found)
        return {
            part: found[max(0, start - self.shift) : start + PAGE],
            "has_more": more,
            "response_metadata": {"next_cursor": str(start + PAGE) if more else ""},
        }


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    async def sleep(_seconds: float) -> None: ...

    monkeypatch.setattr("connectors.slack.api.anyio.sleep", sleep)
    hasten(monkeypatch)
    slack = Slack()
    with serving(slack.answer) as url:
        slack.url = url
        yield slack


async def read(place: Slack, **settings: object) -> dict[str, RawDocument]:
    connector = place.connector(**settings)
    return {ref.key: await connector.load(ref) for ref in await listed(connector)}


class TestSlackDays(ConnectorContract):
    """The contract, on messages outside of threads, each on a day of its own."""

    rereads = False
    many = 100

    @contextmanager
    def outage(self, place: Slack) -> Iterator[None]:
        methods = ("auth.test", "users.list", "conversations.list", "conversations.info")
        for method in (*methods, "conversations.history", "conversations.replies"):
            place.fails[method] = [Said(status=502)] * 20
        yield
        place.fails.clear()

    def refusal(self, place: Slack) -> AbstractContextManager[None]:
        return failing(place.fails, "auth.test", [Said(content={"ok": False, "error": "invalid_auth"})] * 20)

    def half(self, place: Slack) -> AbstractContextManager[None]:
        return failing(place.fails, "conversations.history", [None, *[Said(status=502)] * 10])

    @contextmanager
    def repeating(self, place: Slack) -> Iterator[None]:
        place.shift = 1  # pages go by time: what comes again is where one ends
        yield

    def key(self, place: SourceOfTests, name: str) -> str:
        assert isinstance(place, Slack)
        moment = datetime.fromtimestamp(float(place.names[name]), UTC)
        return f"{GENERAL}/{moment.date().isoformat()}"

    def holds(self, content: bytes, given: bytes) -> bool:
        def plain(text: str) -> str:
            return "".join(text.replace("\\", "").split())

        return plain(given.decode("utf-8", "replace")) in plain(content.decode())

    async def test_the_media_type_follows_the_name(self, place: Any) -> None:
        place.put("a", b"A")
        assert [raw.media_type for raw in (await read(place)).values()] == ["text/markdown"]


class TestSlackThreads(TestSlackDays):
    """The contract, on threads."""

    rereads = True

    @pytest.fixture
    def place(self, place: Slack) -> Slack:
        place.as_threads = True
        return place

    def key(self, place: SourceOfTests, name: str) -> str:
        assert isinstance(place, Slack)
        return f"{GENERAL}/{place.names[name]}"


async def test_a_thread_is_a_document_and_so_is_what_else_was_said_that_day(place: Slack) -> None:
    first = place.say("Does the *fern* need water?\nIt looks dry.")
    place.say("Lunch?", START + timedelta(hours=3), user="U1")
    place.say("The day after.", START + timedelta(days=1), user="U2")
    place.reply(first, "Yes, <@U0>: a litre.", START + timedelta(minutes=5))
    place.reply(first, "To all!", START + timedelta(days=1), subtype="thread_broadcast", user="U9")
    found = await read(place)
    assert list(found) == [f"{GENERAL}/2026-01-02", f"{GENERAL}/{first}", f"{GENERAL}/2026-01-01"]
    thread, day = found[f"{GENERAL}/{first}"], found[f"{GENERAL}/2026-01-01"]
    assert thread.content.decode().split("\n\n") == [
        "**Ada** (2026-01-01 09:00): Does the **fern** need water?\nIt looks dry.",
        "**Bo** (2026-01-01 09:05): Yes, @Ada: a litre.",
        "**U9** (2026-01-02 09:00): To all!",
    ]
    assert thread.title == "#general: Does the fern need water? It looks dry."
    assert thread.url == f"https://fern.slack.com/archives/{GENERAL}/p{first.replace('.', '')}"
    assert thread.metadata == {
        "channel": "general",
        "private": False,
        "date": "2026-01-01",
        "participants": ["Ada", "Bo", "U9"],
    }
    assert day.content == b"**Bo** (12:00): Lunch?"
    assert day.title == "#general: 2026-01-01"
    assert found[f"{GENERAL}/2026-01-02"].metadata["participants"] == ["Cy Real"]


async def test_a_second_run_over_an_unchanged_channel_loads_nothing(place: Slack) -> None:
    first = place.say("Does the fern need water?")
    place.reply(first, "A litre.")
    place.say("Lunch is ready.")
    world = World(MemoryStore(OracleEmbedder().space))
    report = await ingest_source(place.connector(), world.pipeline)
    assert (report.listed, report.added, report.failures) == (2, 2, [])
    place.asked.clear()
    report = await ingest_source(place.connector(), world.pipeline)
    assert (report.unchanged, report.requests) == (2, 0)
    assert place.asked == ["auth.test", "conversations.list", "conversations.history"]


async def test_only_threads_that_changed_are_asked_for_their_replies(place: Slack) -> None:
    old, busy = place.say("Old?"), place.say("Busy?")
    place.reply(old, "Yes.")
    place.reply(busy, "Yes.")
    connector = place.connector()
    before = {ref.key: (await connector.load(ref)).ref.version for ref in await listed(connector)}
    place.asked.clear()
    assert {ref.key: ref.version for ref in await listed(place.connector())} == before
    assert place.asked == ["auth.test", "conversations.list", "conversations.history"], "nothing is loaded"
    last = place.reply(busy, "And again.")
    after = {ref.key: ref.version for ref in await listed(place.connector())}
    assert [key for key in after if after[key] != before[key]] == [f"{GENERAL}/{busy}"]
    del place.replies[busy][last]
    place.count(busy)
    assert {ref.key: ref.version for ref in await listed(place.connector())} == before


async def test_a_long_thread_is_read_to_its_end(place: Slack) -> None:
    first = place.say("Count.")
    for number in range(2 * PAGE + 1):
        place.reply(first, f"Number {number}.")
    [raw] = (await read(place)).values()
    text = raw.content.decode()
    assert (text.count("Count."), text.count("Number")) == (1, 2 * PAGE + 1)


async def test_a_thread_of_today_is_read_once_more_for_edits_do_not_show(place: Slack) -> None:
    first = place.say("New?", datetime.now(UTC) - timedelta(hours=2))
    place.reply(first, "Yes.", datetime.now(UTC) - timedelta(hours=1))
    connector = place.connector()
    [ref] = await listed(connector)
    assert ref.version.endswith(" or later")
    assert (await connector.load(ref)).ref == ref


async def test_a_message_that_gets_a_reply_moves_from_its_day_to_a_thread(place: Slack) -> None:
    first = place.say("Anybody?")
    place.say("Hello.")
    [before] = await listed(place.connector())
    place.reply(first, "Me.")
    found = await read(place)
    assert set(found) == {f"{GENERAL}/{first}", before.key}
    assert found[before.key].ref.version != before.version
    assert b"Anybody" not in found[before.key].content


async def test_of_a_deleted_message_its_replies_stay(place: Slack) -> None:
    first = place.say("Oops.")
    place.reply(first, "What?")
    place.messages[GENERAL][first].update(subtype="tombstone", text="This message was deleted.")
    [raw] = (await read(place)).values()
    assert raw.content == b"**Bo** (2026-01-01 09:00): What?"


async def test_what_is_about_the_channel_is_left_out_and_bots_by_setting(place: Slack) -> None:
    place.say("<@U0> has joined the channel", subtype="channel_join")
    place.say("", START + timedelta(days=1), bot_id="B1", username="Deploy", attachments=[{"text": "Done."}])
    [raw] = (await read(place)).values()
    assert raw.content == b"**Deploy** (09:00): Done."
    assert await read(place, bots=False) == {}


async def test_files_are_named(place: Slack) -> None:
    place.say("", files=[{"title": "Plan of the garden", "name": "plan.pdf"}, {"mode": "tombstone"}])
    [raw] = (await read(place)).values()
    assert raw.content == b"**Ada** (09:00):\n\nFile: Plan of the garden"


async def test_public_channels_are_those_that_the_app_is_in_and_private_ones_are_named(place: Slack) -> None:
    place.say("open")
    place.say("hidden", to=SECRET)
    assert {key.split("/")[0] for key in await read(place)} == {GENERAL}
    for names in (["#general", "secret"], [GENERAL, SECRET], ["secret", SECRET, "general"]):
        found = await read(place, channels=names)
        assert {key.split("/")[0]: raw.metadata["private"] for key, raw in found.items()} == {
            GENERAL: False,
            SECRET: True,
        }
        assert {raw.metadata["channel"]: raw.access for raw in found.values()} == {
            "general": None,
            "secret": ("chat:#secret",),
        }
    place.asked.clear()
    await read(place, channels=["general"])
    assert place.asked.count("conversations.list") == 1, "private ones are not asked for without need"


async def test_a_renamed_channel_keeps_its_keys_and_shows_its_name(place: Slack) -> None:
    place.say("open")
    [before] = await listed(place.connector())
    place.channels[GENERAL]["name"] = "everybody"
    [(key, raw)] = (await read(place)).items()
    assert (key, raw.metadata["channel"]) == (before.key, "everybody")
    assert raw.ref.version != before.version


async def test_the_window_begins_with_a_day_and_is_fixed_or_moves(place: Slack) -> None:
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for days in range(5):
        place.say(f"{days} days ago", midnight - timedelta(days=days))
    dates = [(midnight - timedelta(days=days)).date().isoformat() for days in range(5)]
    for settings, number in (({"keep_days": 2}, 3), ({"since": date.fromisoformat(dates[3])}, 4), ({}, 5)):
        keys = [ref.key for ref in await listed(place.connector(**settings))]
        assert keys == [f"{GENERAL}/{day}" for day in dates[:number]]
    with pytest.raises(ValidationError, match="`since` or `keep_days`, not both"):
        place.connector(since=dates[0], keep_days=3)


async def test_a_channel_that_is_not_there_or_not_open_is_refused_with_what_to_do(place: Slack) -> None:
    for names, told in (
        (["general", "nowhere"], "channels: no channel nowhere, or it is private and the app is not in it"),
        (["C0NOWHERE1"], "channel C0NOWHERE1: Slack says channel_not_found: .* invite it there"),
        (["other"], "#other: Slack says not_in_channel: .* invite it there, or leave"),
    ):
        with pytest.raises(SourceRefused, match=told):
            await listed(place.connector(channels=names))
    place.scopes.remove("groups")
    with pytest.raises(SourceRefused, match="no channel secret; the token may not list private ones"):
        await listed(place.connector(channels=["secret"]))
    with pytest.raises(ValidationError, match="direct messages are not read"):
        place.connector(channels=["D0ADA00001"])


async def test_a_wrong_token_is_refused_and_not_shown(place: Slack) -> None:
    with pytest.raises(SourceRefused, match="invalid_auth: the token is not accepted") as refused:
        await listed(place.connector(token=SecretStr("xoxb-wr0ng")))
    assert "wr0ng" not in str(refused.value)


async def test_a_scope_that_lacks_is_named(place: Slack) -> None:
    place.say("x")
    place.scopes.remove("users")
    connector = place.connector()
    [ref] = await listed(connector)
    with pytest.raises(SourceRefused, match="missing_scope: the token lacks users:read"):
        await connector.load(ref)


async def test_a_page_that_fails_ends_the_listing_with_an_error(place: Slack) -> None:
    for number in range(3 * PAGE):
        place.say("x", START + timedelta(days=number))
    assert len(await listed(place.connector())) == 3 * PAGE
    more = {"ok": True, "messages": [], "has_more": True}
    for answers, told in (
        ([None, *[Said(status=502)] * 10], "502"),
        ([None, Said(content={"ok": False, "error": "internal_error"})], "internal_error"),
        ([None, Said(content={"ok": True})], "gave no messages"),
        ([None, Said(content=more)], "has more, and does not say where"),
        ([None, Said(content=b"<html>")], "no JSON"),
    ):
        place.fails["conversations.history"] = answers
        with pytest.raises(SourceUnavailable, match=told):
            await listed(place.connector())
    place.fails["conversations.history"] = [None, Said(status=502)]
    assert len(await listed(place.connector())) == 3 * PAGE, "one failure is asked again"


async def test_half_a_thread_is_none(place: Slack) -> None:
    first = place.say("Count.")
    for number in range(2 * PAGE):
        place.reply(first, f"{number}")
    connector = place.connector()
    [ref] = await listed(connector)
    place.fails["conversations.replies"] = [None, *[Said(status=500)] * 10]
    with pytest.raises(SourceUnavailable):
        await connector.load(ref)


async def test_a_rate_limit_is_waited_for_and_one_that_lasts_is_an_outage(place: Slack) -> None:
    place.say("x")
    limited = {"ok": False, "error": "ratelimited"}
    wait = Said(status=429, headers={"Retry-After": "30"}, content=limited)
    place.fails["conversations.history"] = [wait, Said(content=limited)]
    assert len(await listed(place.connector())) == 1
    place.fails["conversations.history"] = [Said(status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(SourceUnavailable, match="rate limit ends in 3600 s, more than is left of rate_limit"):
        await listed(place.connector())


async def test_history_that_a_free_workspace_hides_is_no_error(place: Slack) -> None:
    place.say("x")
    ends = {"ok": True, "messages": list(place.messages[GENERAL].values()), "has_more": True}
    place.fails["conversations.history"] = [Said(content={**ends, "is_limited": True})]
    assert len(await listed(place.connector())) == 1


async def test_a_thread_that_vanished_and_what_was_never_listed_are_unreadable(place: Slack) -> None:
    first = place.say("Gone.")
    place.reply(first, "So.")
    connector = place.connector()
    [ref] = await listed(connector)
    del place.messages[GENERAL][first]
    with pytest.raises(ItemUnreadable, match="thread_not_found"):
        await connector.load(ref)
    with pytest.raises(ItemUnreadable, match="not listed by this run"):
        await place.connector().load(ref)


async def test_an_error_shows_nothing_but_words(place: Slack) -> None:
    place.fails["auth.test"] = [Said(content={"ok": False, "error": "xoxb-S3CRET {json}"})]
    with pytest.raises(SourceRefused, match="Slack says something unknown"):
        await listed(place.connector())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*bold* _slanted_ ~struck~ 2*3*4", "**bold** _slanted_ ~~struck~~ 2*3*4"),
        ("<https://fern.org/a_b*c|the *fern*>", "[the *fern*](https://fern.org/a_b*c)"),
        ("<https://fern.org/?a=1&amp;b=2>", "<https://fern.org/?a=1&b=2>"),
        ("<mailto:a@fern.org|a@fern.org>", "a@fern.org"),
        ("<@U1> <@U7|zed> <#C1> <#C2|old> <!here> <!subteam^S1|@crew>", "@Bo @zed #garden #old @here @crew"),
        ("<!date^1392734382^{date}|18 Feb>", "18 Feb"),
        ("a &lt;b&gt; &amp;amp;", "a <b> &amp;"),
        ("&gt; quoted\nnot", "> quoted\nnot"),
        ("• one\n    ◦ two", "- one\n    - two"),
        ("# no heading\n#garden", "\\# no heading\n#garden"),
        ("run `*a* &amp; <https://b.c|b.c>` now", "run `*a* & https://b.c` now"),
        ("so:```x = *1*\ny = 2```and", "so:\n```\nx = *1*\ny = 2\n```\nand"),
        ("see <https://a.b|the `plan`>", "see [the `plan`](https://a.b)"),
        ("`a\ue0000\ue001` \ue0007\ue001", "`a0` 7"),
    ],
)
def test_the_markup_of_slack_becomes_markdown(text: str, expected: str) -> None:
    names = Names(users={"U1": "Bo"}, channels={"C1": "garden"})
    assert markdown(text, names) == expected


def test_a_name_cannot_stand_for_another_part_of_the_text() -> None:
    names = Names(users={"U1": "\ue0000\ue001"}, channels={"C1": "\ue0001\ue001"})
    assert markdown("<@U1> <#C1>", names) == "@0 #1"


def test_a_title_is_plain() -> None:
    names = Names(users={"U1": "Bo"}, channels={})
    text = "*Who*, <@U1>,\nhas ~read~ <https://a.b|the `plan`>? ```x```"
    assert plain(text, names) == "Who, @Bo, has read the plan? x"


def test_a_post_of_an_app_says_what_its_blocks_say_and_previews_of_links_are_left_out() -> None:
    message = {
        "ts": "1.0",
        "bot_id": "B1",
        "bot_profile": {"name": "Watch"},
        "text": "",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "Disk full"}},
            {"type": "section", "fields": [{"type": "mrkdwn", "text": "*host* a"}]},
        ],
        "attachments": [
            {"from_url": "https://x", "text": "a preview"},
            {"title": "Log", "fields": [{"title": "free", "value": "0"}]},
        ],
    }
    post = Post.of(message, bots=True)
    assert post
    assert (post.name, post.user) == ("Watch", "")
    assert post.text == "Disk full\n\n*host* a\n\nLog\nfree: 0"
    assert Post.again(json.loads(json.dumps(post.as_json()))) == post

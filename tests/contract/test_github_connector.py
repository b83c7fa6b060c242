"""Conversations on GitHub: the contract against a server that answers as its documented API does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from connectors.github import GithubConnector, GithubSettings
from pipeline.errors import SourceRefused, SourceUnavailable
from pipeline.records import RawDocument
from tests.contract.connector_contract import ConnectorContract, SourceOfTests, listed
from tests.loopback import Asked, Said, failing, hasten, serving

PAGE = 30
"""Items a page here, whatever is asked for."""


@dataclass
class Github:
    """As much of GitHub's API as is asked: Link headers, GraphQL connections, rate limits, tokens."""

    url: str = ""
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    discussions: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    review: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    token: str | None = None
    fails: dict[str, list[Said]] = field(default_factory=dict)
    """Answers in place of the usual ones, for paths that match."""
    numbers: dict[str, int] = field(default_factory=dict)
    private: bool = False
    shift: int = 0
    """Issues that came meanwhile: so many of what a page told are told again by the next."""
    clock: int = 0

    def tick(self) -> str:
        self.clock += 1
        return f"2026-01-01T00:{self.clock // 60:02}:{self.clock % 60:02}Z"

    def put(self, key: str, content: bytes) -> None:
        number = self.numbers.setdefault(key, len(self.numbers) + 1)
        self.issue(number, title=key, body=content.decode("utf-8", "replace"))

    def issue(self, number: int, **about: Any) -> None:
        usual = {"title": "A title", "body": "", "state": "open", "labels": [], "user": {"login": "ada"}}
        old = self.issues.get(number, {"created_at": self.tick()})
        self.issues[number] = {
            **usual,
            **old,
            "number": number,
            "html_url": f"https://github.com/o/r/issues/{number}",
            "comments": len(self.comments.get(number, [])),
            "updated_at": self.tick(),
            **about,
        }

    def comment(self, number: int, body: str) -> None:
        self.comments.setdefault(number, []).append(
            {"body": body, "user": {"login": "bo"}, "created_at": self.tick()}
        )
        self.issue(number)

    def drop(self, key: str) -> None:
        del self.issues[self.numbers[key]]

    def connector(self, **settings: object) -> GithubConnector:
        chosen = {"type": "github", "repository": "o/r", "base_url": self.url, **settings}
        return GithubConnector(source="docs", settings=GithubSettings.model_validate(chosen))

    def answer(self, asked: Asked) -> Said:  # noqa: PLR0911 - an answer for each path
        self.asked.append(f"{asked.path}?{asked.query}" if asked.query.get("page") else asked.path)
        for pattern, answers in self.fails.items():
            if answers and re.search(pattern, self.asked[-1]):
                return answers.pop(0)
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            return Said(status=401, content={"message": "Bad credentials"})
        assert asked.headers["x-github-api-version"] == "2022-11-28"
        if asked.path == "/graphql":
            return self.graph(asked.json())
        if asked.path == "/repos/o/r":
            return Said(content={"full_name": "o/r", "private": self.private})
        if asked.path == "/repos/o/r/issues":
            wanted = set(filter(None, asked.query.get("labels", "").split(",")))
            found = [
                issue
                for issue in sorted(self.issues.values(), key=lambda issue: str(issue["created_at"]))
                if asked.query["state"] in ("all", issue["state"])
                and wanted <= {label["name"] for label in issue["labels"]}
            ]
            return self.page(asked, found)
        if of := re.fullmatch(r"/repos/o/r/(issues|pulls)/(\d+)/comments", asked.path):
            held = self.comments if of[1] == "issues" else self.review
            return self.page(asked, held.get(int(of[2]), []))
        return Said(status=404, content={"message": "Not Found"})

    def page(self, asked: Asked, found: list[dict[str, Any]]) -> Said:
        number = int(asked.query.get("page", "1"))
        query = "&".join(f"{name}={value}" for name, value in asked.query.items() if name != "page")
        link = f'<{self.url}{asked.path}?{query}&page={number + 1}>; rel="next", <x>; rel="last"'
        return Said(
            content=found[max(0, (number - 1) * PAGE - self.shift) : number * PAGE],
            headers={"Link": link} if number * PAGE < len(found) else {},
        )

    def graph(self, body: dict[str, Any]) -> Said:
        start = int(body["variables"]["after"] or 0)
        if "number" in body["variables"]:
            found = self.comments.get(body["variables"]["number"], [])
        else:
            found = list(self.discussions.values())
        ends = {"hasNextPage": start + PAGE < len(found), "endCursor": str(start + PAGE)}
        page = {"pageInfo": ends, "nodes": found[start : start + PAGE]}
        inside = (
            {"discussion": {"comments": page}} if "number" in body["variables"] else {"discussions": page}
        )
        return Said(content={"data": {"repository": inside}})


@pytest.fixture
def place() -> Iterator[Github]:
    github = Github()
    with serving(github.answer) as url:
        github.url = url
        yield github


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting, where there are seconds."""

    async def sleep(_seconds: float) -> None: ...

    monkeypatch.setattr("connectors.github.anyio.sleep", sleep)
    hasten(monkeypatch)


class TestGithubConnector(ConnectorContract):
    """The contract, on issues."""

    rereads = False
    many = 200

    def outage(self, place: Github) -> AbstractContextManager[None]:
        return failing(place.fails, "", [Said(status=502)] * 20)

    def refusal(self, place: Github) -> AbstractContextManager[None]:
        return failing(place.fails, "", [Said(status=401)] * 20)

    def half(self, place: Github) -> AbstractContextManager[None]:
        return failing(place.fails, "'page': '2'", [Said(status=502)] * 10)

    @contextmanager
    def repeating(self, place: Github) -> Iterator[None]:
        place.shift = 2
        yield

    def key(self, place: SourceOfTests, name: str) -> str:
        assert isinstance(place, Github)
        return f"issues/{place.numbers[name]}"

    def holds(self, content: bytes, given: bytes) -> bool:
        return given.decode("utf-8", "replace") in content.decode()

    async def test_the_media_type_follows_the_name(self, place: Any) -> None:
        place.put("a.md", b"# A")
        connector = place.connector()
        [ref] = await listed(connector)
        assert (await connector.load(ref)).media_type == "text/markdown"


async def test_a_conversation_is_one_document_with_all_who_wrote(place: Github) -> None:
    place.issue(7, title="Fern loses its clock", body="After a night.", labels=[{"name": "bug"}])
    for number in range(PAGE + 1):
        place.comment(7, f"Comment {number}.")
    connector = place.connector()
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    text = raw.content.decode()
    assert text.startswith("# Fern loses its clock\n\nAfter a night.\n\n## bo, 2026-01-01\n\nComment 0.")
    assert f"Comment {PAGE}." in text
    assert (raw.title, raw.url) == ("Fern loses its clock", "https://github.com/o/r/issues/7")
    assert raw.metadata == {
        "state": "open",
        "author": "ada",
        "labels": ["bug"],
        "created": place.issues[7]["created_at"],
    }


async def test_pull_requests_have_their_review_and_are_told_apart(place: Github) -> None:
    place.issue(1)
    place.issue(2, pull_request={"url": "…"}, title="Mend the clock")
    place.review[2] = [{"body": "Why?", "user": {"login": "cy"}, "created_at": "2026-02-03T", "path": "a.py"}]
    refs = await listed(place.connector())
    assert [ref.key for ref in refs] == ["issues/1", "pulls/2"]
    assert [ref.key for ref in await listed(place.connector(parts=["issues"]))] == ["issues/1"]
    connector = place.connector(parts=["pulls"])
    [ref] = await listed(connector)
    assert "## cy, 2026-02-03 on a.py\n\nWhy?" in (await connector.load(ref)).content.decode()


async def test_discussions_come_with_comments_and_replies(place: Github) -> None:
    for number in range(1, PAGE + 2):
        place.discussions[number] = {
            "number": number,
            "title": f"Question {number}",
            "body": "How?",
            "url": f"https://github.com/o/r/discussions/{number}",
            "updatedAt": "2026-01-01T00:00:00Z",
            "closed": number == 1,
            "author": {"login": "ada"},
            "category": {"name": "Q&A"},
        }
    replies = {"nodes": [{"author": None, "body": "A reply.", "createdAt": "2026-01-03T"}]}
    place.comments[1] = [
        {"author": {"login": "bo"}, "body": "So.", "createdAt": "2026-01-02T", "replies": replies}
    ]
    connector = place.connector(parts=["discussions"])
    refs = await listed(connector)
    assert len(refs) == PAGE + 1
    raw = await connector.load(refs[0])
    assert raw.content.decode().endswith("## bo, 2026-01-02\n\nSo.\n\n## ghost, 2026-01-03\n\nA reply.")
    assert raw.metadata == {"state": "closed", "author": "ada", "category": "Q&A"}
    assert len(await listed(place.connector(parts=["discussions"], state="closed"))) == 1


async def test_only_changed_conversations_are_asked_for_their_comments(place: Github) -> None:
    place.issue(1)
    place.comment(1, "One.")
    place.issue(2)
    connector = place.connector()
    refs = await listed(connector)
    assert place.asked == ["/repos/o/r", "/repos/o/r/issues"]
    for ref in refs:
        await connector.load(ref)
    assert place.asked[2:] == ["/repos/o/r/issues/1/comments"]


async def test_labels_and_state_choose(place: Github) -> None:
    place.issue(1, labels=[{"name": "bug"}, {"name": "fern"}])
    place.issue(2, labels=[{"name": "bug"}], state="closed")
    for settings, keys in (
        ({"labels": ["bug"]}, ["issues/1", "issues/2"]),
        ({"labels": ["bug", "fern"]}, ["issues/1"]),
        ({"state": "closed"}, ["issues/2"]),
    ):
        assert [ref.key for ref in await listed(place.connector(**settings))] == keys


async def test_a_page_that_fails_ends_the_listing_with_an_error(place: Github) -> None:
    for number in range(1, 3 * PAGE):
        place.issue(number)
    place.fails["'page': '2'"] = [Said(status=502)] * 10
    with pytest.raises(SourceUnavailable, match="502"):
        await listed(place.connector())
    place.fails["'page': '2'"] = [Said(status=502)]
    assert len(await listed(place.connector())) == 3 * PAGE - 1, "one failure is asked again"


async def test_a_rate_limit_is_waited_for_and_one_that_lasts_is_an_outage(place: Github) -> None:
    place.issue(1)
    short = Said(status=403, headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"})
    secondary = Said(status=429, headers={"retry-after": "60"})
    place.fails["issues"] = [short, secondary]
    assert len(await listed(place.connector())) == 1
    place.fails["issues"] = [Said(status=403, headers={"retry-after": "3600"})]
    with pytest.raises(SourceUnavailable, match="rate limit ends in 3600 s, more than sources"):
        await listed(place.connector())


async def test_a_wrong_token_and_a_repository_that_is_not_there_are_refused(place: Github) -> None:
    place.issue(1)
    place.token = "g0od"
    with pytest.raises(SourceRefused):
        await listed(place.connector())
    chosen = place.connector().settings.model_copy(update={"token": SecretStr("b4d")})
    with pytest.raises(SourceRefused) as refused:
        await listed(GithubConnector(source="docs", settings=chosen))
    assert "b4d" not in str(refused.value)
    good = chosen.model_copy(update={"token": SecretStr("g0od")})
    assert len(await listed(GithubConnector(source="docs", settings=good))) == 1
    elsewhere = good.model_copy(update={"repository": "o/elsewhere"})
    with pytest.raises(SourceRefused, match="o/elsewhere is not there, or the token may not see it"):
        await listed(GithubConnector(source="docs", settings=elsewhere))


async def test_what_was_said_in_a_private_repository_has_its_label(place: Github) -> None:
    place.issue(1)
    [public] = await listed(place.connector())
    assert (await read_one(place.connector())).access is None, "the settings' own hold"
    place.private = True
    connector = place.connector()
    [ref] = await listed(connector)
    assert ref.version != public.version, "so that it is read anew"
    assert (await connector.load(ref)).access == ("github:o/r",)


async def read_one(connector: GithubConnector) -> RawDocument:
    [ref] = await listed(connector)
    return await connector.load(ref)

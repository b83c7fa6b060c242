"""Issues, pull requests and discussions of a GitHub repository. Its files and wiki are for `type: git`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import anyio
from pydantic import Field, field_validator

from connectors._http import Answer, Credentials, Http, Manners
from connectors._reach import Reach
from connectors.settings import Secret, SharedSettings
from connectors.spool import Spool
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, JsonValue, RawDocument

_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_PAGE = 100
_PRIVATE = "of a private repository"
"""Beside the first post, where it is put aside."""
_VERSION = "2022-11-28"
"""Of GitHub's REST API: what is asked for by X-GitHub-Api-Version."""
_DISCUSSIONS = """
query($owner: String!, $name: String!, $after: String) {
  repository(owner: $owner, name: $name) {
    discussions(first: 100, after: $after, orderBy: {field: CREATED_AT, direction: ASC}) {
      pageInfo { hasNextPage endCursor }
      nodes { number title body url updatedAt closed author { login } category { name } }
    }
  }
}
"""
_COMMENTS = """
query($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    discussion(number: $number) {
      comments(first: 50, after: $after) {
        pageInfo { hasNextPage endCursor }
        nodes {
          author { login } body createdAt
          replies(first: 100) { nodes { author { login } body createdAt } }
        }
      }
    }
  }
}
"""

Part = Literal["issues", "pulls", "discussions"]


class GithubSettings(SharedSettings):
    """Conversations about a GitHub repository."""

    shaping: ClassVar[tuple[str, ...]] = ("repository", "base_url", "comments")

    type: Literal["github"] = Field(
        description="Issues, pull requests and discussions of a GitHub repository, with their comments."
    )
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="As owner/name.")
    token: Secret | None = Field(
        default=None,
        description="A token that may read it. Discussions and private repositories need one; without one, "
        "GitHub answers 60 requests an hour.",
    )
    parts: list[Part] = Field(
        default=["issues", "pulls"], min_length=1, description="Any of issues, pulls, discussions."
    )
    state: Literal["all", "open", "closed"] = Field(default="all", description="Which of them.")
    labels: list[str] = Field(default=[], description="Only issues and pull requests with all of these.")
    comments: bool = Field(default=True, description="Whether their comments are read too.")
    base_url: str = Field(
        default="https://api.github.com",
        description="Of the API. For GitHub Enterprise: https://HOST/api/v3.",
    )
    rate_limit_minutes: float = Field(
        default=15,
        ge=0,
        le=70,
        description="How long to wait for GitHub's rate limit to end, before the source fails.",
    )

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        if not url.startswith(("https://", "http://")):
            raise ValueError("must begin with https://")
        return url.rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class GithubConnector:
    """Lists conversations by the time of their last change, which comments move too.

    A key is `issues/12`, `pulls/13` or `discussions/14`. A listing brings the first posts along; comments are
    asked for when a conversation has changed. The document is Markdown: a heading for each who wrote.
    """

    source: str
    settings: GithubSettings
    _spool: Spool = field(default_factory=Spool)
    _http: list[Http] = field(default_factory=list)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every issue, pull request and discussion that the settings include, the oldest first.

        Raises:
            SourceRefused: no such repository, or the token may not read it.
            SourceUnavailable: GitHub does not answer, or its rate limit lasts.
        """
        self._spool.clear()
        async with self._client().opened():
            private = bool((await self._repository()).get("private"))
            async for key, version, item in self._listed():
                if key not in self._spool:  # a list that grows while it is read gives an item twice
                    self._spool.put(key, json.dumps({**item, _PRIVATE: private}).encode())
                    seen_by = " private" if private else ""
                    yield ItemRef(source=self.source, key=key, version=f"{version}{seen_by}")

    async def _repository(self) -> Mapping[str, Any]:
        """What is known of it."""
        url = f"{self.settings.base_url}/repos/{self.settings.repository}"
        found: Any = (await self._asked("GET", url)).json()
        if not isinstance(found, dict):
            raise SourceUnavailable(f"{self._where()}: GitHub said nothing of it")
        return found

    async def _listed(self) -> AsyncIterator[tuple[str, str, Mapping[str, Any]]]:
        """Key, version and first post of each conversation."""
        wanted = set(self.settings.parts)
        if wanted & {"issues", "pulls"}:
            async for item in self._pages(self._issues_url()):
                part = "pulls" if "pull_request" in item else "issues"
                if part in wanted:
                    yield f"{part}/{item['number']}", str(item["updated_at"]), item
        if "discussions" in wanted:
            async for item in self._connection(_DISCUSSIONS, ("discussions",), {}):
                state = "closed" if item.get("closed") else "open"
                if self.settings.state in ("all", state):
                    yield f"discussions/{item['number']}", str(item["updatedAt"]), item

    async def load(self, ref: ItemRef) -> RawDocument:
        """The conversation, first post and comments, as Markdown.

        Raises:
            ItemUnreadable: it vanished.
            SourceError: as `list_items`.
        """
        if ref.key not in self._spool:
            raise ItemUnreadable(f"{ref.key} was not listed by this run")
        item: dict[str, Any] = json.loads(self._spool.get(ref.key))
        comments = (
            [comment async for comment in self._comments(ref.key, item)] if self.settings.comments else []
        )
        text = "\n\n".join(_posts(item, comments))
        return RawDocument(
            ref=ref,
            content=text.encode("utf-8", "replace"),
            media_type="text/markdown",
            title=item["title"],
            url=item.get("html_url") or item.get("url"),
            metadata=_about(item),
            access=(f"github:{self.settings.repository.lower()}",) if item[_PRIVATE] else None,
        )

    def _issues_url(self) -> str:
        labels = f"&labels={','.join(self.settings.labels)}" if self.settings.labels else ""
        return (
            f"{self.settings.base_url}/repos/{self.settings.repository}/issues"
            f"?state={self.settings.state}&sort=created&direction=asc&per_page={_PAGE}{labels}"
        )

    async def _comments(self, key: str, item: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
        part, _, number = key.partition("/")
        repository = f"{self.settings.base_url}/repos/{self.settings.repository}"
        if part == "discussions":
            path = ("discussion", "comments")
            async for comment in self._connection(_COMMENTS, path, {"number": int(number)}):
                yield comment
                for reply in comment["replies"]["nodes"]:
                    yield reply
            return
        if item.get("comments"):
            async for comment in self._pages(f"{repository}/issues/{number}/comments?per_page={_PAGE}"):
                yield comment
        if part == "pulls":
            async for comment in self._pages(f"{repository}/pulls/{number}/comments?per_page={_PAGE}"):
                yield comment

    async def _pages(self, url: str) -> AsyncIterator[Mapping[str, Any]]:
        """The items of all pages of a list."""
        following: str | None = url
        while following:
            answer = await self._asked("GET", following)
            found = answer.json()
            if not isinstance(found, list):
                raise SourceUnavailable(f"{self._where()}: GitHub gave no list")
            for item in found:
                if isinstance(item, dict):
                    yield item
            link = _NEXT.search(answer.headers.get("link", ""))
            following = link[1] if link else None

    async def _connection(
        self, query: str, path: Iterable[str], variables: Mapping[str, JsonValue]
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The nodes of all pages of what GraphQL calls a connection."""
        owner, _, name = self.settings.repository.partition("/")
        root = self.settings.base_url.removesuffix("/v3")
        after: str | None = None
        while True:
            asked: dict[str, JsonValue] = {"owner": owner, "name": name, "after": after, **variables}
            answer = await self._asked("POST", f"{root}/graphql", {"query": query, "variables": asked})
            here: Any = answer.json()
            if here.get("errors"):
                said = "; ".join(str(error.get("message")) for error in here["errors"])
                raise SourceRefused(f"{self._where()}: GitHub refused: {said[:300]}")
            here = here["data"]["repository"]
            for part in path:
                here = here[part]
            for node in here["nodes"]:
                yield node
            if not here["pageInfo"]["hasNextPage"]:
                return
            after = here["pageInfo"]["endCursor"]

    async def _asked(self, method: str, url: str, body: JsonValue = None) -> Answer:
        """The answer, waited for where a rate limit asks for it."""
        until = time.monotonic() + self.settings.rate_limit_minutes * 60
        while True:
            answer = await self._client().request(method, url, body=body, returned={403, 404, 429})
            wait = _limit_ends_in(answer)
            if wait is None:
                break
            if time.monotonic() + wait > until:
                raise SourceUnavailable(
                    f"{self._where()}: GitHub's rate limit ends in {wait:.0f} s, more than "
                    f"sources.{self.source}.rate_limit_minutes: {self.settings.rate_limit_minutes:g}"
                )
            await anyio.sleep(wait)
        if answer.status == 403:
            raise SourceRefused(f"{self._where()}: the token may not read it")
        if answer.status == 404:
            raise SourceRefused(f"{self._where()} is not there, or the token may not see it")
        return answer

    def _client(self) -> Http:
        if not self._http:
            token, base = self.settings.token, self.settings.base_url
            headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _VERSION}
            self._http.append(
                Http(
                    Reach.of(self.source, base),
                    manners=Manners(headers=headers),
                    credentials=Credentials(secret=token, url=base) if token else None,
                )
            )
        return self._http[0]

    def _where(self) -> str:
        return f"sources.{self.source}.repository: {self.settings.repository}"


def _limit_ends_in(answer: Answer) -> float | None:
    """Seconds until a rate limit ends; None where there is none."""
    if answer.status not in (403, 429):
        return None
    if asked := answer.headers.get("retry-after"):
        return max(1.0, float(asked)) if asked.isdecimal() else 60.0
    if answer.headers.get("x-ratelimit-remaining") == "0":
        reset = answer.headers.get("x-ratelimit-reset", "")
        return max(1.0, float(reset) - time.time()) if reset.isdecimal() else 60.0
    return 60.0 if answer.status == 429 else None


def _posts(item: Mapping[str, Any], comments: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield f"# {item['title']}"
    if item.get("body"):
        yield str(item["body"])
    for comment in comments:
        if comment.get("body"):
            when = str(comment.get("created_at") or comment.get("createdAt") or "")[:10]
            where = f" on {comment['path']}" if comment.get("path") else ""
            yield f"## {_login(comment)}, {when}{where}\n\n{comment['body']}"


def _login(post: Mapping[str, Any]) -> str:
    author = post.get("user") or post.get("author") or {}
    return str(author.get("login") or "ghost")


def _about(item: Mapping[str, Any]) -> dict[str, JsonValue]:
    """What is known of it beside its text."""
    state = item.get("state") or ("closed" if item.get("closed") else "open")
    about: dict[str, JsonValue] = {"state": str(state), "author": _login(item)}
    if labels := [str(label["name"]) for label in item.get("labels") or () if isinstance(label, dict)]:
        about["labels"] = [*labels]
    if created := item.get("created_at"):
        about["created"] = str(created)
    if category := item.get("category"):
        about["category"] = str(category["name"])
    return about

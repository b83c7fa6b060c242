"""Pages of Confluence, in the cloud or on a server of your own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote, urljoin, urlsplit

from pydantic import ByteSize, Field, field_validator, model_validator

from connectors._http import Credentials, Http, Manners
from connectors._reach import Reach
from connectors.settings import Secret, SharedSettings
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, JsonValue, RawDocument

_PAGE = 100


class ConfluenceSettings(SharedSettings):
    """Pages of Confluence."""

    shaping: ClassVar[tuple[str, ...]] = ("base_url", "deployment")

    type: Literal["confluence"] = Field(description="Pages of Confluence, in the cloud or on a server.")
    base_url: str = Field(
        description="In the cloud https://NAME.atlassian.net/wiki; of a server, its address with the context "
        "path."
    )
    spaces: list[str] = Field(min_length=1, description="The keys of the spaces to read.")
    user: str | None = Field(
        default=None, description="In the cloud: the e-mail address that the token belongs to."
    )
    token: Secret | None = Field(
        default=None, description="In the cloud an API token, on a server a personal access token."
    )
    deployment: Literal["cloud", "server"] | None = Field(
        default=None,
        validate_default=True,
        description="Which API it has. Left out: cloud where the address ends in atlassian.net, else server.",
    )
    requests_per_second: float = Field(default=10.0, gt=0, le=100, description="No more are begun.")
    max_bytes: ByteSize = Field(
        default=ByteSize(20_000_000), description="Pages larger than this are reported and left out."
    )

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("must begin with https:// and hold no user name")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if self.user and not self.token:
            raise ValueError("`user` needs a `token`")
        return self

    @property
    def is_cloud(self) -> bool:
        """Whether it has the cloud's API."""
        if self.deployment:
            return self.deployment == "cloud"
        return str(urlsplit(self.base_url).hostname).endswith(".atlassian.net")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfluenceConnector:
    """Lists current pages by id and version number; a page's rendered body is read when it is loaded.

    Archived and deleted pages are not listed. By the cloud's REST API v2, or a server's REST API.
    """

    source: str
    settings: ConfluenceSettings
    _http: list[Http] = field(default_factory=list)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every current page of the spaces.

        Raises:
            SourceRefused: no such space, or no access to it.
            SourceUnavailable: Confluence does not answer, or stopped to.
        """
        seen: set[str] = set()
        async with self._client().opened():
            for space in dict.fromkeys(self.settings.spaces):
                async for page in self._pages(await self._first_url(space)):
                    if str(page["id"]) not in seen:  # a list that changes while it is read may repeat itself
                        seen.add(str(page["id"]))
                        yield self._ref(page)

    async def load(self, ref: ItemRef) -> RawDocument:
        """The page as it is now, as HTML.

        Raises:
            ItemUnreadable: it vanished, or is too large.
            SourceError: as `list_items`.
        """
        page: Any = await self._json(self._page_url(ref.key))
        if page.get("status") != "current":
            raise ItemUnreadable(f"{ref.key} is {page.get('status')} now")
        body = ((page.get("body") or {}).get("view") or {}).get("value") or ""
        about: dict[str, JsonValue] = {"version": int(page["version"]["number"])}
        if changed := page["version"].get("createdAt") or page["version"].get("when"):
            about["changed"] = str(changed)
        return RawDocument(
            ref=self._ref(page),
            content=str(body).encode("utf-8", "replace"),
            media_type="text/html",
            title=page["title"],
            url=self._web(page),
            metadata=about,
        )

    def _ref(self, page: Mapping[str, Any]) -> ItemRef:
        # A page that is moved or renamed gets a new version, too.
        return ItemRef(source=self.source, key=str(page["id"]), version=str(page["version"]["number"]))

    def _web(self, page: Mapping[str, Any]) -> str | None:
        path = (page.get("_links") or {}).get("webui")
        return f"{self.settings.base_url}{path}" if path else None

    async def _first_url(self, space: str) -> str:
        base = self.settings.base_url
        if not self.settings.is_cloud:
            return f"{base}/rest/api/content?spaceKey={quote(space)}&type=page&expand=version&limit={_PAGE}"
        found: Any = await self._json(f"{base}/api/v2/spaces?keys={quote(space)}")
        for one in found.get("results", ()):
            if one["key"] == space:
                return f"{base}/api/v2/spaces/{one['id']}/pages?status=current&limit={_PAGE}"
        raise SourceRefused(f"{self._where()} has no space {space!r}, or the token may not see it")

    def _page_url(self, key: str) -> str:
        if self.settings.is_cloud:
            return f"{self.settings.base_url}/api/v2/pages/{quote(key, safe='')}?body-format=view"
        return f"{self.settings.base_url}/rest/api/content/{quote(key, safe='')}?expand=version,body.view"

    async def _pages(self, url: str) -> AsyncIterator[Mapping[str, Any]]:
        """The pages of all pages of a list."""
        following: str | None = url
        while following:
            found: Any = await self._json(following)
            if not isinstance(found.get("results"), list):
                raise SourceUnavailable(f"{self._where()}: Confluence gave no list of pages")
            for page in found["results"]:
                yield page
            following = self._next(following, found)

    def _next(self, url: str, found: Mapping[str, Any]) -> str | None:
        """Where a list goes on: the cloud's links begin at the host, a server's at its context path."""
        link = (found.get("_links") or {}).get("next")
        if not link:
            return None
        return urljoin(url, link) if self.settings.is_cloud else f"{self.settings.base_url}{link}"

    async def _json(self, url: str) -> JsonValue:
        return (await self._client().get(url, headers={"Accept": "application/json"})).json()

    def _client(self) -> Http:
        if not self._http:
            token, base = self.settings.token, self.settings.base_url
            manners = Manners(
                per_second=self.settings.requests_per_second, max_bytes=2 * self.settings.max_bytes
            )
            credentials = Credentials(secret=token, url=base, user=self.settings.user) if token else None
            self._http.append(Http(Reach.of(self.source, base), manners=manners, credentials=credentials))
        return self._http[0]

    def _where(self) -> str:
        return f"sources.{self.source}.base_url: {self.settings.base_url}"

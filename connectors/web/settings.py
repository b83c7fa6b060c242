"""The settings of a web source."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from connectors.http_settings import HttpSettings, WebUrl
from connectors.media_types import DOCUMENT_TYPES
from connectors.settings import Glob, LocalPath, StrictModel
from connectors.web.urls import TRACKING


def _lower(text: str) -> str:
    if text != text.lower():
        raise ValueError("must be in lower case")
    return text


Lower: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_lower)]


class CrawlSettings(StrictModel):
    """Pages found by following links."""

    start: list[WebUrl] = Field(min_length=1, description="Where to begin. Only these pages' hosts are read.")
    max_depth: int = Field(
        default=10, ge=0, le=1000, description="How many links away from the start, at most."
    )
    cache: LocalPath | None = Field(
        default=None,
        description="The folder that remembers each page's links, so that an unchanged page is not "
        "downloaded to read them again. Left out: docweave in the user's cache folder.",
    )


class WebSettings(HttpSettings):
    """Pages of a web site: those of a sitemap, a list, or a crawl."""

    needs: ClassVar = {"protego": "protego"}
    extra: ClassVar[str] = "web"

    type: Literal["web"] = Field(description="Pages of a web site.")
    sitemap: WebUrl | None = Field(
        default=None, description="The pages that a sitemap lists, or an index of sitemaps."
    )
    pages: list[WebUrl] | None = Field(default=None, min_length=1, description="These pages.")
    crawl: CrawlSettings | None = Field(default=None, description="The pages that links lead to.")
    include: list[Glob] = Field(
        default=["**"],
        min_length=1,
        description="Pages to read, as globs over the path of the URL without its first slash; a path that "
        "ends with a slash counts as its index.html.",
    )
    exclude: list[Glob] = Field(default=[], description="Pages to leave out; a crawl does not ask for them.")
    media_types: list[Lower] = Field(
        default=list(DOCUMENT_TYPES),
        min_length=1,
        description="What is read, as the server says what it is; application/* is all that begins so. Left "
        "out: every format of documents.",
    )
    drop_parameters: list[Lower] = Field(
        default=list(TRACKING),
        description="Parameters that do not change what a URL shows, with * for any letters: the same page "
        "under several such URLs is one document.",
    )
    robots: bool = Field(default=True, description="Obey robots.txt.")
    noindex: bool = Field(
        default=True, description="Leave out pages that ask not to be indexed (robots meta, X-Robots-Tag)."
    )
    trust_lastmod: bool = Field(
        default=True,
        description="Take a sitemap's lastmod as the version of a page. False: ask for each page's headers.",
    )
    max_pages: int = Field(
        default=10_000, ge=1, description="With more, the listing fails, and says where they are."
    )
    max_seconds: float = Field(
        default=14_400, gt=0, description="A listing that takes longer fails: for sites without an end."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = {"sitemap": self.sitemap, "pages": self.pages, "crawl": self.crawl}
        if sum(way is not None for way in ways.values()) != 1:
            raise ValueError("needs one of sitemap, pages and crawl")
        return self

    @property
    def urls(self) -> list[str]:
        """Those that the settings name."""
        if self.crawl is not None:
            return self.crawl.start
        return self.pages if self.pages is not None else [self.sitemap or ""]

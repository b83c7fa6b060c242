"""The settings of a Confluence source."""

from __future__ import annotations

from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import ByteSize, Field, field_validator, model_validator

from connectors.settings import Secret, SharedSettings


class ConfluenceSettings(SharedSettings):
    """Pages of Confluence."""

    shaping: ClassVar[tuple[str, ...]] = ("base_url", "deployment", "permissions")

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
    permissions: bool = Field(
        default=False,
        description="Whether those whom a page is restricted to, by itself or by what is above it, become "
        "its access labels: e-mail addresses, user:ID and group:NAME. Needs `access`: the labels of those "
        "who may read the spaces, for pages that nothing restricts.",
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
        if self.permissions and "access" not in self.model_fields_set:
            raise ValueError(
                "`permissions: true` needs `access`: the labels of those who may read the spaces, which hold "
                "for pages that nothing restricts (`access: []` shows these to everybody)"
            )
        return self

    @property
    def form(self) -> Literal["storage", "view"]:
        """How pages are read: rendered, they may show what only the token's owner may see."""
        return "storage" if self.permissions else "view"

    @property
    def is_cloud(self) -> bool:
        """Whether it has the cloud's API."""
        if self.deployment:
            return self.deployment == "cloud"
        return str(urlsplit(self.base_url).hostname).endswith(".atlassian.net")

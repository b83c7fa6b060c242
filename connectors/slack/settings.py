"""The settings of a Slack source."""

from __future__ import annotations

from datetime import date
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from connectors.http_settings import WebUrl
from connectors.settings import Secret, SharedSettings


def _channel(name: str) -> str:
    name = name.removeprefix("#")
    if not name or any(letter.isspace() for letter in name):
        raise ValueError("must be a channel's name or id")
    if name.startswith("@") or (name.startswith("D") and name.isupper()):
        raise ValueError("is no channel: direct messages are not read")
    return name


ChannelName: TypeAlias = Annotated[str, AfterValidator(_channel)]


class SlackSettings(SharedSettings):
    """What was said in the channels of Slack."""

    shaping: ClassVar[tuple[str, ...]] = ("bots",)

    type: Literal["slack"] = Field(description="What was said in the channels of a Slack workspace.")
    token: Secret = Field(
        description="A bot's or a user's token with the scopes channels:read, channels:history and "
        "users:read; for private channels also groups:read and groups:history."
    )
    channels: list[ChannelName] = Field(
        default=[],
        description="By name or id; archived ones too. Private channels are read only where they are named. "
        "Left out: every public channel that the token's owner is in, and that is not archived.",
    )
    since: date | None = Field(
        default=None,
        description="The first day (UTC) that is read. A later day than before removes what was said until "
        "then from the tables. Left out: all that Slack has.",
    )
    keep_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="In place of since: so many days before today are read. What was begun before is removed "
        "from the tables, day by day.",
    )
    bots: bool = Field(default=True, description="Whether what bots and apps post is read too.")
    base_url: WebUrl = Field(
        default="https://slack.com/api", description="Of the Web API. GovSlack: https://slack-gov.com/api."
    )
    requests_per_second: float = Field(
        default=0.8, gt=0, le=100, description="No more are begun. Slack allows 50 a minute of most kinds."
    )
    rate_limit_minutes: float = Field(
        default=15,
        ge=0,
        le=600,
        description="How long to wait for Slack's rate limit to end, before the source fails.",
    )

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if self.since and self.keep_days:
            raise ValueError("must have `since` or `keep_days`, not both")
        return self

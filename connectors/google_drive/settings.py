"""The settings of a Google Drive source."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, ByteSize, Field

from connectors.http_settings import WebUrl
from connectors.media_types import DOCUMENTS
from connectors.settings import Glob, Secret, SharedSettings

_ADDRESS = re.compile(r"https://drive\.google\.com/drive/(?:u/\d+/)?folders/([\w-]+)(?:[?#].*)?")


def _folder(text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    name = found[1] if found else text
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise ValueError("must be a folder's id, or its address in the browser")
    return name


FolderId: TypeAlias = Annotated[str, AfterValidator(_folder)]


class GoogleDriveSettings(SharedSettings):
    """Files in folders and shared drives of Google Drive."""

    needs: ClassVar = {"cryptography": "cryptography"}
    extra: ClassVar[str] = "google_drive"
    shaping: ClassVar[tuple[str, ...]] = ("permissions",)

    type: Literal["google_drive"] = Field(description="Files in folders and shared drives of Google Drive.")
    folders: list[FolderId] = Field(
        min_length=1,
        description="Folders or shared drives, with all that is below: their ids, or their addresses in the "
        "browser.",
    )
    credentials: Secret = Field(
        description="The JSON key of a service account that the folders are shared with, as file:key.json; "
        "or the JSON that holds a user's refresh token (type authorized_user)."
    )
    subject: str | None = Field(
        default=None,
        description="The user that a service account acts for, where the domain lets it act for everybody.",
    )
    include: list[Glob] = Field(
        default=[f"**/*.{{gdoc,gsheet,gslides,{','.join(DOCUMENTS)}}}"],
        min_length=1,
        description="Files to read, as globs over paths below the folder. Google's own documents count as "
        "NAME.gdoc, NAME.gsheet and NAME.gslides. Left out: these, and every format of documents that is "
        "parsed.",
    )
    exclude: list[Glob] = Field(
        default=[], description="Files to leave out. A glob that matches a folder leaves out all of it."
    )
    permissions: bool = Field(
        default=False,
        description="Whether those who may read a file become its access labels: e-mail addresses of users "
        "and groups, domains, and anyone. One more request for each file of a shared drive that is read.",
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(50_000_000),
        description="Files larger than this are reported and left out: bytes, or as 20MB.",
    )
    base_url: WebUrl = Field(default="https://www.googleapis.com/drive/v3", description="Of the API.")
    requests_per_second: float = Field(default=10.0, gt=0, le=1000, description="No more are begun.")
    rate_limit_minutes: float = Field(
        default=15,
        ge=0,
        le=600,
        description="How long to wait for Google's rate limit to end, before the source fails.",
    )

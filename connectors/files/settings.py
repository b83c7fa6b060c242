"""The settings of files."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import ByteSize, Field, model_validator

from connectors.media_types import DOCUMENTS
from connectors.settings import Glob, LocalPath, SharedSettings
from connectors.storage import StorageOptions, StorageUrl, check_place


class FilesSettings(SharedSettings):
    """A folder of files."""

    shaping: ClassVar[tuple[str, ...]] = ("path", "url")

    type: Literal["files"] = Field(
        description="Files in a folder, in object storage, on a web server, over SFTP, or in a ZIP archive."
    )
    path: LocalPath | None = Field(
        default=None, description="The folder on this machine; relative to the YAML file."
    )
    url: StorageUrl | None = Field(
        default=None,
        description="A folder elsewhere, in place of path: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, "
        "az://CONTAINER/FOLDER; on a web server that lists it: https://HOST/FOLDER/; over SFTP: "
        "sftp://HOST/FOLDER; in an archive: "
        "zip://FILE.zip!/FOLDER, zip+s3://BUCKET/FILE.zip!/FOLDER.",
    )
    options: StorageOptions = Field(
        default=StorageOptions(), description="What opens the place that url names."
    )
    include: list[Glob] = Field(
        default=[f"**/*.{{{','.join(DOCUMENTS)}}}"],
        min_length=1,
        description="Files to read, as globs over paths relative to the folder: * stays within one name, "
        "** is any number of folders, {a,b} is either. Left out: every format of documents that is parsed.",
    )
    exclude: list[Glob] = Field(
        default=[], description="Files to leave out. A glob that matches a folder leaves out all of it."
    )
    hidden: bool = Field(
        default=False, description="Also read files and folders whose names begin with a dot."
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(50_000_000),
        description="Files larger than this are reported and left out: bytes, or as 20MB.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        check_place(self.path, self.url, self.options)
        return self

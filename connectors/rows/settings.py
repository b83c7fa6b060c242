"""The settings of rows."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, ByteSize, Field, model_validator

from connectors.rows.field_paths import FieldPath, steps
from connectors.settings import LocalPath, SharedSettings
from connectors.storage import BUCKETS, StorageOptions, StorageUrl, address, check_place


def _in_a_bucket(url: str) -> str:
    at = address(url)
    if at.archive or at.scheme not in BUCKETS:
        raise ValueError("must name files in object storage: s3://BUCKET/FILE, gs://BUCKET/FILE, az://…")
    return url


class RowsSettings(SharedSettings):
    """Where rows are, and which of their fields are what."""

    shaping: ClassVar[tuple[str, ...]] = (
        "text_field",
        "title_field",
        "url_field",
        "metadata_fields",
        "media_type",
    )

    path: LocalPath | None = Field(
        default=None,
        description="The file on this machine, relative to the YAML file, or several: exports/**/*.jsonl.",
    )
    url: Annotated[StorageUrl, AfterValidator(_in_a_bucket)] | None = Field(
        default=None,
        description="The file in object storage, in place of path, or several: s3://BUCKET/exports/*.jsonl, "
        "gs://BUCKET/FILE, az://CONTAINER/FILE.",
    )
    options: StorageOptions = Field(
        default=StorageOptions(), description="What opens the storage that url names."
    )
    key_field: FieldPath | list[FieldPath] = Field(
        min_length=1,
        description="What identifies a row; of several fields, the values are joined by /. Fields are "
        'named by their way: author.name, tags[0], ["name. with a dot"].',
    )
    text_field: FieldPath = Field(description="The document's text, or its content as bytes.")
    title_field: FieldPath | None = Field(default=None, description="The document's title.")
    url_field: FieldPath | None = Field(default=None, description="Where a person can open the document.")
    version_field: FieldPath | None = Field(
        default=None,
        description="What changes whenever a row does, such as updated_at. Left out: a digest of the fields.",
    )
    metadata_fields: list[FieldPath] | dict[str, FieldPath] = Field(
        default=[],
        description="Stored with the document: fields, or names of your own with the field of each.",
    )
    media_type: str = Field(default="text/plain", description="Of the texts: text/markdown, text/html …")
    max_bytes: ByteSize = Field(
        default=ByteSize(50_000_000), description="Rows larger than this are reported and left out."
    )

    cache: LocalPath | None = Field(
        default=None,
        description="The folder that keeps what the rows' keys and versions are, so that a file that has not "
        "changed is not read again. Left out: docweave in the user's cache folder.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        check_place(self.path, self.url, self.options)
        return self

    @property
    def keys(self) -> list[str]:
        """The fields that identify a row."""
        return [self.key_field] if isinstance(self.key_field, str) else self.key_field

    @property
    def metadata_by_name(self) -> dict[str, str]:
        """The way to each value of the metadata."""
        named = self.metadata_fields
        return named if isinstance(named, dict) else {path: path for path in named}

    def columns(self, *, listing: bool) -> list[str]:
        """The outermost fields that are read, each once: for a listing, or for a document."""
        paths = [*self.keys, self.version_field]
        if not listing or self.version_field is None:
            paths += [self.text_field, self.title_field, self.url_field, *self.metadata_by_name.values()]
        return list(dict.fromkeys(str(steps(path)[0]) for path in paths if path))


class JsonlSettings(RowsSettings):
    """Rows of JSON Lines."""

    type: Literal["jsonl"] = Field(description="A document for each line of JSON Lines files (.gz, too).")


class ParquetSettings(RowsSettings):
    """Rows of Parquet."""

    type: Literal["parquet"] = Field(description="A document for each row of Parquet files.")

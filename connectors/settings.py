"""What the settings of every source share, and the types that their fields are made of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from connectors import globs
from connectors.schedule import Scheduled
from pipeline.records import LABEL_RULE, is_label

FOLDER = "folder"
"""The key of the validation context under which the loader gives the YAML file's folder."""

SECRETS = "secrets"
"""The key under which the loader gives what makes a secret of a text that says where it is kept."""

SecretKept: TypeAlias = Callable[[str, str], SecretStr]
"""Takes such a text and the YAML file's folder. Raises `PydanticCustomError`, without showing the text."""


class Substituted(str):
    """Text that environment variables were put into."""

    __slots__ = ("written",)
    written: str
    """How it stands in the file."""

    def __new__(cls, text: str, written: str = "") -> Self:
        """Text, and how it was written."""
        made = super().__new__(cls, text)
        made.written = written
        return made


class FromEnvironment(Substituted):
    """Text that is the value of an environment variable and nothing else: as such, it may be a secret."""

    __slots__ = ()


class StrictModel(BaseModel):
    """Settings that do not overlook anything: unknown keys are errors, values are never shown by pydantic."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what pydantic would take for 0 or 1."""
        kind = cls.model_fields[info.field_name or ""].annotation
        kinds = {kind, *get_args(kind)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise PydanticCustomError("number_type", "must be a number")
        return value


def _label(text: str) -> str:
    if not is_label(text):
        raise ValueError(LABEL_RULE)
    return text


AccessLabel: TypeAlias = Annotated[str, AfterValidator(_label)]


class BudgetSettings(StrictModel):
    """What may be spent. Nothing said: no limit."""

    usd: float | None = Field(default=None, ge=0, description="US dollars.")
    tokens: int | None = Field(default=None, ge=0, description="Tokens, as the service counts them.")


class RemovalSettings(StrictModel):
    """How many documents may be removed without being asked: more than both are withheld."""

    max_documents: int = Field(default=10, ge=0, description="So many may go in any case.")
    max_percent: float = Field(
        default=10.0, ge=0, le=100, description="So many of a hundred stored documents may go in any case."
    )
    when_withheld: Literal["report", "ask"] = Field(
        default="report",
        description="What a run does that withholds removals: report them; or ask, which suspends a "
        "deployment's run until somebody answers the form that it shows in the Prefect UI.",
    )
    ask_hours: float = Field(
        default=24,
        gt=0,
        le=8760,
        description="How long a suspended run waits for the answer. Then it ends, and nothing was removed.",
    )


class SharedSettings(StrictModel):
    """What may be said of every source."""

    needs: ClassVar[Mapping[str, str]] = {}
    """What must be installed beside Docweave: each package, by the name under which it is imported."""
    extra: ClassVar[str] = ""
    """Of Docweave's own extras, the one that brings all of `needs`."""
    shaping: ClassVar[tuple[str, ...]] = ()
    """Settings that decide what a document is made of, so that its version alone does not tell: after a
    change of one, every document is read anew. None that only decides which there are, and no secret."""

    metadata: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Stored with every document of the source; searches can filter by it.",
    )
    access: list[AccessLabel] = Field(
        default=[],
        description="Labels of those who may see the documents, where the source does not say itself. A "
        "search that is asked for somebody finds what has one of their labels, and what has none.",
    )
    access_from: str | None = Field(
        default=None,
        pattern=r"^[^.]+(\.[^.]+)*$",
        description="Where the labels stand in the metadata that the source gives with a document (a column, "
        "a field): acl, or permissions.readers. Where nothing stands there, `access` holds.",
    )
    budget: BudgetSettings = Field(
        default=BudgetSettings(),
        description="What one run may spend on this source. The request that would pass it is not sent; "
        "the next run goes on.",
    )
    timeout_minutes: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="How long one run may take for the source, once it is its turn. Then it fails; what was "
        "committed stays, and the next run goes on. Left out: no limit.",
    )
    removals: RemovalSettings = Field(
        default=RemovalSettings(),
        description="How many documents a run may remove. More are withheld until "
        "`docweave ingest --approve-removals N`.",
    )

    schedule: Scheduled = Field(
        default=None,
        description="When `docweave deploy` and `docweave up` have the source ingested: a schedule of its "
        "own, the name of one of `schedules`, which all that name it share, or never. Left out: as the "
        "top-level `schedule` says.",
    )

    @property
    def recipe(self) -> str:
        """Names the settings that decide what is stored of a document, with their values."""
        chosen = self.model_dump(mode="json", include={*self.shaping, "access", "access_from"})
        return json.dumps(chosen, sort_keys=True)


def absolute(path: str, folder: str) -> str:
    """The path from the root on; a relative one begins at the folder, `~` at home.

    Raises:
        ValueError: it is empty, or holds what no path does.
    """
    if not path or "\0" in path:
        raise ValueError("must be a path; a single dot is the folder of the YAML file")
    # What Path offers in place of these raises for an unknown user, and follows links.
    whole = os.path.join(folder, os.path.expanduser(path))  # noqa: PTH111, PTH118
    return os.path.abspath(whole)  # noqa: PTH100


def folder_of(info: ValidationInfo) -> str:
    """The YAML file's folder; empty where the settings do not come from one."""
    return str((info.context or {}).get(FOLDER, ""))


def _local(path: object, info: ValidationInfo) -> object:
    return Path(absolute(str(path), folder_of(info))) if isinstance(path, str | Path) else path


def as_secret(value: object, info: ValidationInfo) -> SecretStr:
    """The secret that a setting names: from the environment, from code, or kept elsewhere and read when used.

    Raises:
        PydanticCustomError: it is written down in the file, or does not say where it is kept. Never shows it.
    """
    if isinstance(value, SecretStr):
        return value
    if isinstance(value, FromEnvironment):
        return SecretStr(value)
    kept: SecretKept | None = (info.context or {}).get(SECRETS)
    if isinstance(value, str) and kept:
        return kept(value, folder_of(info))
    raise literal_secret()


def literal_secret(*forms: str) -> PydanticCustomError:
    """What is said of a secret that a file holds, with the other ways to name one. Never shows it."""
    return secret_error(
        "is a secret, which no file should hold: write ${NAME} and set NAME in the environment"
        + "".join(f", or {form}" for form in forms)
    )


def secret_error(message: str) -> PydanticCustomError:
    """An error that is told without what the file has in its place."""
    return PydanticCustomError("secret", "{message}", {"message": message})


def _hidden(_secret: SecretStr) -> str:
    return "**********"


LocalPath: TypeAlias = Annotated[Path, BeforeValidator(_local, json_schema_input_type=str)]
"""An absolute path; a relative one in the YAML file is relative to that file's folder."""

Glob: TypeAlias = Annotated[str, AfterValidator(globs.check)]
"""A pattern over POSIX paths, as `connectors.globs` reads it."""

_PATTERN = r"^(\$\{[A-Za-z_]\w*(:-)?\}|file:.+|prefect://[a-z0-9-]+/[a-z0-9-]+(/[A-Za-z_][\w.-]*)?)$"

Hidden: TypeAlias = Annotated[
    SecretStr, PlainSerializer(_hidden, return_type=str, when_used="json-unless-none")
]
"""A secret that is written as asterisks. Pydantic's own way would read it, to see whether there is one."""

Secret: TypeAlias = Annotated[
    Hidden,
    BeforeValidator(as_secret),
    WithJsonSchema({"type": "string", "format": "password", "pattern": _PATTERN}),
]
"""A value that comes from the environment or another place that is no settings file, or from code."""

"""What the settings of every source share, and the types that their fields are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from connectors import globs

FOLDER = "folder"
"""The key of the validation context under which the loader gives the YAML file's folder."""


class FromEnvironment(str):
    """Text that is the value of an environment variable and nothing else: what a secret must be."""

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


class SharedSettings(StrictModel):
    """What may be said of every source."""

    metadata: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Stored with every document of the source; searches can filter by its top-level values.",
    )


@dataclass(frozen=True, slots=True)
class OneOf:
    """Marks a union of settings (of one member or more) that a key tells apart, as `type` does sources.

    Pydantic's own discriminator wants two members, and knows no default.
    """

    key: str
    default: str | None = None

    def members(self, union: object) -> dict[str, type[BaseModel]]:
        """The settings of the union by the value of `key` that chooses them."""
        models: tuple[type[BaseModel], ...] = get_args(union) or (union,)
        return {get_args(model.model_fields[self.key].annotation)[0]: model for model in models}

    def __get_pydantic_core_schema__(self, union: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The tagged union that the mark stands for."""
        choices = {tag: handler.generate_schema(model) for tag, model in self.members(union).items()}
        return core_schema.tagged_union_schema(choices=choices, discriminator=self._tag)

    def _tag(self, value: object) -> object:
        if isinstance(value, Mapping):
            return value.get(self.key, self.default)
        return getattr(value, self.key, self.default)


def absolute(path: str, info: ValidationInfo) -> str:
    """The path from the root on; a relative one begins at the YAML file's folder, `~` at home.

    Raises:
        ValueError: it is empty, or holds what no path does.
    """
    if not path or "\0" in path:
        raise ValueError("must be a path; a single dot is the folder of the YAML file")
    # What Path offers in place of these raises for an unknown user, and follows links.
    whole = os.path.join((info.context or {}).get(FOLDER, ""), os.path.expanduser(path))  # noqa: PTH111, PTH118
    return os.path.abspath(whole)  # noqa: PTH100


def _local(path: object, info: ValidationInfo) -> object:
    return Path(absolute(str(path), info)) if isinstance(path, str | Path) else path


def _no_literal(value: object) -> object:
    if isinstance(value, FromEnvironment | SecretStr):
        return value
    raise literal_secret()


def literal_secret() -> PydanticCustomError:
    """What is said of a secret that a file holds. Never shows it."""
    return PydanticCustomError(
        "secret_literal",
        "is a secret, which no file should hold: write ${NAME} and set NAME in the environment",
    )


LocalPath: TypeAlias = Annotated[Path, BeforeValidator(_local, json_schema_input_type=str)]
"""An absolute path; a relative one in the YAML file is relative to that file's folder."""

Glob: TypeAlias = Annotated[str, AfterValidator(globs.check)]
"""A pattern over POSIX paths, as `connectors.globs` reads it."""

Secret: TypeAlias = Annotated[
    SecretStr,
    BeforeValidator(_no_literal),
    WithJsonSchema({"type": "string", "format": "password", "pattern": r"^\$\{[A-Za-z_]\w*(:-)?\}$"}),
]
"""A value that comes from the environment, or from code as a `SecretStr`."""

"""Settings of several kinds in one place, told apart by a key; other packages may add kinds of theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import get_args

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema

_LOADED: dict[tuple[str, str], type[BaseModel]] = {}
"""Settings of other packages, by group and name, once the settings have named them."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Marks a union of settings (of one member or more) that a key tells apart, as `type` does sources.

    Pydantic's own discriminator wants two members, and knows no default.
    """

    key: str
    default: str | None = None
    group: str = ""
    """The group of entry points by which other packages add members; each is imported when it is named."""

    def members(self, union: object) -> dict[str, type[BaseModel]]:
        """The settings of the union by the value of `key` that chooses them; others' once they were named."""
        models: tuple[type[BaseModel], ...] = get_args(union) or (union,)
        ours = {get_args(model.model_fields[self.key].annotation)[0]: model for model in models}
        return {name: model for (group, name), model in _LOADED.items() if group == self.group} | ours

    def names(self, members: Iterable[str]) -> list[str]:
        """All values of `key` that choose something: these, and those that other packages add."""
        return list(dict.fromkeys([*members, *offered(self.group)]))

    def __get_pydantic_core_schema__(self, union: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The tagged union that the mark stands for."""
        ours = {tag: handler.generate_schema(model) for tag, model in self.members(union).items()}
        tagged = core_schema.tagged_union_schema(choices=ours, discriminator=self._tag)
        if not self.group:
            return tagged

        def validate(
            value: object, ours_next: ValidatorFunctionWrapHandler, info: core_schema.ValidationInfo
        ) -> object:
            tag = str(self._tag(value))
            if tag in ours or tag not in offered(self.group) or not isinstance(value, Mapping):
                return value if type(value) in _LOADED.values() else ours_next(value)
            return _validated(load(self.group, tag), tag, value, info)

        return core_schema.with_info_wrap_validator_function(validate, tagged)

    def _tag(self, value: object) -> object:
        if isinstance(value, Mapping):
            return value.get(self.key, self.default)
        return getattr(value, self.key, self.default)


@cache
def offered(group: str) -> Mapping[str, EntryPoint]:
    """What other packages add under this group, by name. Nothing is imported."""
    return {point.name: point for point in entry_points(group=group)} if group else {}


def load(group: str, name: str) -> type[BaseModel]:
    """The settings that another package adds.

    Raises:
        PydanticCustomError: its package cannot be imported, or offers something else.
    """
    point = offered(group)[name]
    try:
        model = point.load()
    except Exception as error:
        reason = f"{point.value} cannot be imported: {type(error).__name__}: {error}"
        raise PydanticCustomError("plugin", "{reason}", {"reason": reason}) from error
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        reason = f"{point.value} is no settings class: see docs/connectors.md"
        raise PydanticCustomError("plugin", "{reason}", {"reason": reason})
    return _LOADED.setdefault((group, name), model)


def _validated(
    model: type[BaseModel], tag: str, value: Mapping[str, object], info: core_schema.ValidationInfo
) -> BaseModel:
    """The settings, their errors placed as the tagged union places those of its own members."""
    try:
        return model.model_validate(value, context=info.context)
    except ValidationError as error:
        placed = [
            InitErrorDetails(type=_again(one), loc=(tag, *one["loc"]), input=one["input"])
            for one in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(error.title, placed, hide_input=True) from error


def _again(details: ErrorDetails) -> PydanticCustomError:
    """The same error, to be raised once more."""
    context = {**details.get("ctx", {}), "said": details["msg"]}
    return PydanticCustomError(details["type"], "{said}", context)

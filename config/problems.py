"""What pydantic found wrong, in the words of the YAML file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.settings import Settings
from config.yaml_file import KeyPath, Problem, YamlFile
from connectors.one_of import OneOf

_KEY = "[key]"
"""How pydantic marks a problem of a mapping's key."""

_WORDING = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "byte_size": "must be a number of bytes, or as 20MB",
    "byte_size_unit": "must be a number of bytes, or as 20MB",
    "dict_type": "must be a mapping: lines of `key: value` below it, indented",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list: [one, two]",
    "model_type": "must be a mapping: lines of `key: value` below it, indented",
    "path_type": "must be a path; put it in quotes if it looks like a number",
    "string_type": "must be text; put it in quotes if it looks like a number, true, false or null",
    "too_short": "must have at least one entry",
    "string_too_short": "must not be empty",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """Where in the settings an error is: pydantic's location without the choices of unions."""

    path: KeyPath
    model: type[BaseModel] | None = None
    """The settings that the last key of `path` belongs to."""
    field: FieldInfo | None = None
    union: OneOf | None = None
    """The choice that led to `model`, where there was one."""
    siblings: Sequence[type[BaseModel]] = ()
    """All that could have been chosen in place of `model`, itself among them."""
    choices: Sequence[str] = ()
    """What the value itself has to choose from, where it is a union."""


def explain(error: ValidationError, file: YamlFile, model: type[BaseModel] = Settings) -> Iterator[Problem]:
    """Each thing that pydantic found in what the file says of the model, where it stands there.

    Nothing that reading the file had reported.
    """
    reported = {problem.path for problem in file.problems}
    for details in error.errors(include_url=False):
        at_key = details["type"] in ("extra_forbidden", "missing") or _KEY in details["loc"]
        for path, message in _messages(details, _locate(details["loc"], model)):
            if path not in reported:
                written = "" if at_key else _written(file, path, details)
                yield file.problem_at(path, message + written, at_key=at_key)


def nearest(given: object, known: Iterable[str]) -> str:
    """A question that names the nearest of the known names, or nothing where none is near."""
    near = difflib.get_close_matches(str(given).lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _messages(details: ErrorDetails, setting: _Setting) -> Iterator[tuple[KeyPath, str]]:
    kind, context, path = details["type"], details.get("ctx", {}), setting.path
    if kind == "extra_forbidden":
        yield path, _unknown_key(setting)
    elif kind == "missing":
        about = setting.field.description if setting.field else None
        yield path, "is missing" + (f". {about}" if about else "")
    elif kind in ("union_tag_invalid", "union_tag_not_found") and setting.union:
        yield from _no_choice(details, setting)
    elif kind == "unknown_name":
        known = context["known"]
        yield path, f"{details['msg']}; valid: {_listed(known)}{nearest(context['given'], known)}"
    elif kind in ("literal_error", "enum"):
        known = re.findall(r"'([^']*)'", context["expected"])
        yield path, f"is unknown; valid: {_listed(known)}{nearest(details['input'], known)}"
    elif kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        yield path, _bounds(setting, details)
    else:
        yield path, _WORDING.get(kind) or _plainly(details["msg"])


def _no_choice(details: ErrorDetails, setting: _Setting) -> Iterator[tuple[KeyPath, str]]:
    key = setting.union.key if setting.union else ""
    valid = _listed(setting.choices)
    if details["type"] == "union_tag_invalid":
        given = details["ctx"]["tag"]
        yield (*setting.path, key), f"is unknown; valid: {valid}{nearest(given, setting.choices)}"
    elif isinstance(details["input"], dict):
        yield (*setting.path, key), f"is missing; valid: {valid}"
    else:
        yield setting.path, _WORDING["dict_type"]


def _unknown_key(setting: _Setting) -> str:
    key = str(setting.path[-1])
    if setting.union:
        choice = setting.union.key
        others = [model for model in setting.siblings if key in model.model_fields]
        if others:
            theirs = " or ".join(f"`{choice}: {_tag(model, choice)}`" for model in others)
            return (
                f"belongs to {theirs}, and this is {_tag(setting.model, choice)}: change that, or delete this"
            )
    fields = setting.model.model_fields if setting.model else {}
    known = [field.alias or name for name, field in fields.items()]
    return f"is an unknown key; valid: {_listed(known)}{nearest(key, known)}"


def _written(file: YamlFile, path: KeyPath, details: ErrorDetails) -> str:
    """What the file has there, as it is written: never what the environment holds, never a secret."""
    place = file.places.get(path)
    if details["type"] == "secret" or place is None or place.written is None:
        return ""
    if not place.written:
        return "; nothing is written there: give it a value, or delete the line"
    written = place.written if len(place.written) <= 60 else place.written[:57] + "…"
    return "" if {"@", "?"} & set(written) else f" (found: {written})"


def _bounds(setting: _Setting, details: ErrorDetails) -> str:
    limits = {
        name: getattr(limit, name)
        for limit in (setting.field.metadata if setting.field else ())
        for name in ("ge", "gt", "le", "lt")
        if getattr(limit, name, None) is not None
    }
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    said = " and ".join(f"{words[name]} {limit:,}" for name, limit in limits.items())
    return f"must be {said}" if said else _plainly(details["msg"])


def _plainly(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "must")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _locate(location: tuple[int | str, ...], model: type[BaseModel]) -> _Setting:
    """Walk the model along pydantic's location, which also names each choice of a union."""
    here: object = model
    found = _Setting(path=())
    union: OneOf | None = None
    siblings: Sequence[type[BaseModel]] = ()
    for part in (part for part in location if part != _KEY):
        mark, members = _choices(here)
        if mark and part in members:
            here, union, siblings = members[str(part)], mark, list(members.values())
            continue
        path = (*found.path, part)
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part))
            found = _Setting(path=path, model=here, field=field, union=union, siblings=siblings)
            here = _annotation(field)
        else:
            found = _Setting(path=path)
            here = next(reversed(get_args(here)), None)
        union, siblings = None, ()
    mark, members = _choices(here)
    return _Setting(path=found.path, union=mark, choices=mark.names(members)) if mark else found


def _annotation(field: FieldInfo | None) -> object:
    """What the field is, with the mark of a choice and no other."""
    if field is None:
        return None
    marks = [mark for mark in field.metadata if isinstance(mark, OneOf)]
    if marks:
        return Annotated[field.annotation, marks[0]]
    # A name may stand for some settings: `schedule: nightly`.
    kinds = get_args(field.annotation)
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return models[0] if len(models) == 1 and str in kinds else field.annotation


def _choices(here: object) -> tuple[OneOf | None, dict[str, type[BaseModel]]]:
    """The mark of a union, and its members."""
    if get_origin(here) is Annotated:
        union, *marks = get_args(here)
        for mark in marks:
            if isinstance(mark, OneOf):
                return mark, mark.members(union)
    return None, {}


def _tag(model: type[BaseModel] | None, key: str) -> str:
    return str(get_args(model.model_fields[key].annotation)[0]) if model else ""

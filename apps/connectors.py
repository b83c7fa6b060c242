"""`docweave connectors`: where documents can come from, and what may be said of each place."""

# ruff: noqa: PLC0415 - other commands read this module too, and must not wait for what it needs

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from apps.exits import ending, print_json
from apps.options import AsJson
from apps.plain import one_line, table
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from connectors.settings import SharedSettings
    from pipeline.records import JsonValue


INDENT = " " * 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceType:
    """What `type` may name."""

    name: str
    about: str
    keys: Mapping[str, Mapping[str, JsonValue]]
    """Of the settings: each with its description, whether it must be given, and its default. Those inside
    another have its name before theirs: `options.region`."""
    missing: tuple[str, ...]
    """Packages that it needs and that are not installed."""
    extra: str
    offered_by: str
    """The package that adds it; empty for our own."""

    @property
    def cure(self) -> str:
        """What installs what is missing; empty where nothing is."""
        wanted = f"'docweave[{self.extra}]'" if self.extra else " ".join(self.missing)
        return f"pip install {wanted}" if self.missing else ""


def connectors(
    name: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="One of them: shows its settings.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the types of sources, and with a name the settings of one.

    Other packages may add types of theirs. Needs no settings.

    \b
    docweave connectors
    docweave connectors files
    docweave connectors --json | jq -r '.connectors[].name'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json):
        known = {one.name: one for one in source_types()}
        if name is not None and name not in known:
            from config.problems import nearest

            raise SettingsError(
                f"no type is called {name!r}; valid: {', '.join(known)}{nearest(name, known)}"
            )
        chosen = [known[name]] if name else list(known.values())
        if as_json:
            print_json({"connectors": [_as_json(one) for one in chosen]})
            return
        for line in described(known[name]) if name else listed(chosen):
            typer.echo(line)


def source_types() -> Iterator[SourceType]:
    """All that `type` may name, ours first.

    Raises:
        SettingsError: another package offers what cannot be imported.
    """
    from pydantic_core import PydanticCustomError

    from connectors.one_of import load, offered
    from connectors.registry import GROUP, SOURCE_TYPES

    for name, settings in SOURCE_TYPES.items():
        yield _described(name, settings, "")
    for name, point in offered(GROUP).items():
        try:
            theirs: type[SharedSettings] = load(GROUP, name)  # type: ignore[assignment]
        except PydanticCustomError as error:
            raise SettingsError(f"type {name}: {error.message()}") from error
        yield _described(name, theirs, point.dist.name if point.dist else point.value)


def listed(types: list[SourceType]) -> Iterator[str]:
    """A line each, and what would install those that lack something."""
    rows = [["type", "", ""]]
    rows += [[one.name, one.about, one.cure and f"not installed: {one.cure}"] for one in types]
    yield from table(rows)


def described(one: SourceType) -> Iterator[str]:
    """Its settings, a paragraph a key."""
    yield f"{one.name}: {one.about}" + (f" (from {one.offered_by})" if one.offered_by else "")
    if one.cure:
        yield f"Not installed: {one.cure}"
    for key, about in one.keys.items():
        set_below = isinstance(about["default"], Mapping) and bool(about["default"])
        default = "" if about["required"] or set_below else f" = {json.dumps(about['default'])}"
        yield ""
        yield f"  {key}{' (must be given)' if about['required'] else default}"
        said = one_line(str(about["description"]))
        yield from textwrap.wrap(
            said, 94, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
        )


def _described(name: str, settings: type[SharedSettings], offered_by: str) -> SourceType:
    from connectors.registry import not_installed
    from connectors.settings import SharedSettings

    fields = settings.model_fields
    own = [key for key in fields if key not in {"type", *SharedSettings.model_fields}]
    keys: dict[str, Mapping[str, JsonValue]] = {}
    for key in (*own, *SharedSettings.model_fields):
        keys |= _keys(key, fields[key])
    return SourceType(
        name=name,
        about=settings.model_fields["type"].description or (settings.__doc__ or "").partition("\n")[0],
        keys=keys,
        missing=tuple(not_installed(settings)),
        extra=settings.extra,
        offered_by=offered_by,
    )


def _keys(key: str, field: FieldInfo) -> Iterator[tuple[str, Mapping[str, JsonValue]]]:
    """A setting, and those inside it."""
    from pydantic import BaseModel

    yield key, _about(field)
    kinds = (field.annotation, *get_args(field.annotation))
    inside = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if len(inside) == 1:
        for name, one in inside[0].model_fields.items():
            yield from _keys(f"{key}.{name}", one)


def _about(field: FieldInfo) -> dict[str, JsonValue]:
    from pydantic_core import to_jsonable_python

    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return {
        "description": field.description or "",
        "required": field.is_required(),
        "default": to_jsonable_python(default),
    }


def _as_json(one: SourceType) -> dict[str, JsonValue]:
    return {
        "name": one.name,
        "about": one.about,
        "installed": not one.missing,
        "install": one.cure,
        "offered_by": one.offered_by,
        "settings": {key: dict(about) for key, about in one.keys.items()},
    }

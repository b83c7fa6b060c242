"""Secrets that are kept elsewhere: what the settings say of where, and how they are read from there.

A setting that is a secret names a place, `file:PATH` or another scheme that has been registered. The text is
checked with the settings; the value is read when it is first used, and what never uses it never waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from pydantic import SecretStr

from config.problems import nearest
from connectors.settings import Substituted, absolute, literal_secret, secret_error
from pipeline.errors import SettingsError

MOST_BYTES = 65_536
"""That a file with a secret may have."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(//)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a setting says of where its value is kept."""

    place: str
    """What follows the scheme and its colon."""
    written: str
    """The whole of it as the file has it, environment variables by name: what may be shown."""
    folder: str
    """That of the YAML file."""


Read: TypeAlias = Callable[[], str]
"""Reads the value. Raises `DocweaveError`."""

Resolver: TypeAlias = Callable[[Reference], Read]
"""Gives what reads the value, and reads nothing yet. Raises `ValueError`, where the text cannot be meant."""


class KeptSecret(SecretStr):
    """A secret that is read when it is first used.

    Nothing but `get_secret_value` and `len` reads it: it is printed, compared, and asked whether it is there
    without its value.
    """

    def __init__(self, reference: Reference, read: Read) -> None:
        super().__init__("")
        self._reference = reference
        self._read = read
        self._value: str | None = None

    def get_secret_value(self) -> str:
        """The value.

        Raises:
            DocweaveError: it cannot be had.
        """
        if self._value is None:
            self._value = self._read()
        return self._value

    def __len__(self) -> int:
        return len(self.get_secret_value())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeptSecret) and self._reference == other._reference

    def __hash__(self) -> int:
        return hash(self._reference)

    def _display(self) -> str:
        return "**********"


def register(scheme: str, form: str, resolver: Resolver) -> None:
    """Let settings that are read from now on name a kind of place.

    Args:
        scheme: In lowercase, without its colon.
        form: How it is written, for messages: `vault://PATH`.
        resolver: Checks and reads what is written so.
    """
    _SCHEMES[scheme] = (form, resolver)


def kept(text: str, folder: str) -> KeptSecret:
    """The secret that is kept where the text says.

    Raises:
        PydanticCustomError: the text says nothing of a place, or cannot be meant. Never shows the text, which
            may be the secret itself.
    """
    forms = [form for form, _ in _SCHEMES.values()]
    found = _SCHEME.match(text)
    if not found or (found[1].lower() not in _SCHEMES and not found[2]):
        raise literal_secret(*forms)
    if found[1].lower() not in _SCHEMES:
        near = nearest(found[1], _SCHEMES)
        raise secret_error(f"begins with an unknown scheme; valid: ${{NAME}}, {', '.join(forms)}{near}")
    form, resolver = _SCHEMES[found[1].lower()]
    written = text.written if isinstance(text, Substituted) else text
    reference = Reference(place=text[found.end(1) + 1 :], written=written, folder=folder)
    try:
        return KeptSecret(reference, resolver(reference))
    except ValueError as error:
        raise secret_error(f"{error}; write {form}") from error


def _file(reference: Reference) -> Read:
    path = reference.place
    if path.startswith("//"):
        path = path.removeprefix("//")
        if not path.startswith("/"):
            raise ValueError("names a file of another machine: the path from the root on takes three slashes")
    try:
        path = absolute(path, reference.folder)
    except ValueError as error:
        raise ValueError("names no file") from error
    # What the environment holds is not shown.
    shown = path if reference.written.endswith(reference.place) else reference.written
    return partial(_content, path, shown)


def _content(path: str, shown: str) -> str:
    """What the file holds, but for the newline that editors and `echo` put at its end."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise SettingsError(f"{shown}, where a secret should be, does not exist") from error
    except OSError as error:
        raise SettingsError(f"{shown}, where a secret should be, cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise SettingsError(f"{shown} has more than {MOST_BYTES:,} bytes, which no secret has")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # The error would carry the content along.
        raise SettingsError(f"{shown} is not UTF-8, as a file with a secret must be") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise SettingsError(f"{shown}, where a secret should be, is empty")
    return text


_SCHEMES: dict[str, tuple[str, Resolver]] = {"file": ("file:PATH", _file)}

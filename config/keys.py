"""The keys of the search API: kept as digests, each with what its bearer may see.

A key is 256 random bits, so a plain SHA-256 of it tells nobody what it was.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from connectors.settings import AccessLabel
from pipeline.errors import SettingsError

log = logging.getLogger(__name__)

PREFIX = "dw_"
"""So that a key is known for one where it should not be."""
LONGEST = 200
"""Characters of what is looked up as a key."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}$"


class Key(BaseModel):
    """One key, without the key."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=NAME)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    access: tuple[AccessLabel, ...] | None
    """Its bearer sees what has one of these labels, and what has none at all. None: everything."""
    created: AwareDatetime
    expires: AwareDatetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.expires is not None and now >= self.expires


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: list[Key] = []


def read(path: Path) -> list[Key]:
    """The keys of the file; none where there is no file.

    Raises:
        SettingsError: it cannot be read, or holds something else.
    """
    try:
        return _File.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"the keys in {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise SettingsError(
            f"{path} does not hold keys as `docweave keys` writes them: {where}: {first['msg']}"
        ) from None


def create(
    path: Path, name: str, access: Sequence[str] | None, *, expires: datetime | None = None
) -> tuple[str, Key]:
    """A new key, which is told this once, and what is kept of it.

    Raises:
        SettingsError: there is one of this name, a name or a label cannot be, or the file cannot be written.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    try:
        key = Key(
            name=name,
            sha256=digest(secret),
            access=None if access is None else tuple(dict.fromkeys(access)),
            created=datetime.now(UTC).replace(microsecond=0),
            expires=expires,
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        what = "the name" if first["loc"][0] == "name" else ".".join(str(step) for step in first["loc"])
        allowed = "begins with a letter or digit, and is made of these, blanks, . _ @ and -"
        raise SettingsError(f"{what}: {allowed if what == 'the name' else first['msg']}") from None
    with _alone(path):
        keys = read(path)
        if any(there.name == name for there in keys):
            raise SettingsError(f"there is a key called {name!r} already: revoke it, or choose another name")
        _write(path, [*keys, key])
    return secret, key


def revoke(path: Path, name: str) -> None:
    """Let the key of this name open nothing any more.

    Raises:
        SettingsError: there is none, or the file cannot be written.
    """
    with _alone(path):
        keys = read(path)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            known = ", ".join(key.name for key in keys) or "none"
            raise SettingsError(f"there is no key called {name!r}; keys: {known}")
        _write(path, left)


def digest(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Be the only one who changes the file until the block ends: what two write at once is all kept.

    The folder is what is locked: the file is another one after every change.

    Raises:
        SettingsError: the folder cannot be made or read.
    """
    import fcntl  # noqa: PLC0415 - not on every platform

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(f"the keys in {path} cannot be written: {error.strerror}") from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, keys: Sequence[Key]) -> None:
    """All keys at once: whoever reads meanwhile sees the old file or the new. Only its owner can read it."""
    content = {"keys": [key.model_dump(mode="json") for key in keys]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")
        Path(temporary).replace(path)
    except OSError as error:
        raise SettingsError(f"the keys in {path} cannot be written: {error.strerror}") from error


@dataclass(slots=True)
class KeyRing:
    """The keys of a file as they are now: one that is revoked opens nothing from the next request on."""

    path: Path
    _keys: list[Key] = field(default_factory=list)
    _seen: tuple[int, int, int] | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is a file: then everybody needs a key, though the last was revoked."""
        return os.path.lexists(self.path)

    def keys(self) -> list[Key]:
        """All of them. Of a file that cannot be read, none: then nobody is let in who needs a key."""
        try:
            there = self.path.stat()
            seen = (there.st_mtime_ns, there.st_size, there.st_ino)
        except OSError:
            seen = None
        if seen is None or seen != self._seen:
            self._seen = seen
            try:
                self._keys = read(self.path)
            except SettingsError as error:
                log.warning("%s", error)
                self._keys = []
        return self._keys

    def find(self, secret: str) -> Key | None:
        """The key that this is, if it is one that holds. Takes as long whatever stands in it."""
        wanted = digest(secret[:LONGEST])
        found = None
        for key in self.keys():
            if hmac.compare_digest(key.sha256, wanted):
                found = key
        return None if found is None or found.is_over(datetime.now(UTC)) else found

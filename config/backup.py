"""Where backups are, and the tables that the settings name put there and brought back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from config.build import store_options
from config.settings import OBJECT_STORES, Settings
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.stores._place import Place
    from pipeline.stores.lance_backup import Copied

Counts = Mapping[str, tuple[int, int]]
"""Documents and chunks of each source."""


async def back_up(settings: Settings, target: str, *, tell: Callable[[str], None]) -> tuple[Copied, Counts]:
    """Copy the tables to a folder or object storage, and look whether what is there then can be read.

    Raises:
        SettingsError: the target is no place.
        StoreError: as `pipeline.stores.lance_backup.back_up`.
    """
    from pipeline.stores import lance_backup  # noqa: PLC0415 - other commands need none of it

    to = _place(settings, target)
    copied = await lance_backup.back_up(_place(settings), to, tell=tell)
    return copied, await _counts(to)


async def restore(settings: Settings, source: str, *, tell: Callable[[str], None]) -> tuple[Copied, Counts]:
    """Put the tables of a backup where the settings say that tables are.

    Raises:
        SettingsError: the source is no place.
        StoreError: as `pipeline.stores.lance_backup.restore`.
    """
    from pipeline.stores import lance_backup  # noqa: PLC0415 - as above

    to = _place(settings)
    copied = await lance_backup.restore(_place(settings, source), to, tell=tell)
    return copied, await _counts(to)


async def _counts(place: Place) -> Counts:
    from pipeline.stores.lance_reader import LanceReader  # noqa: PLC0415 - as above

    return await (await LanceReader.open(place.uri, place.options)).counts()


def _place(settings: Settings, where: str | None = None) -> Place:
    """The store's own place; or another, which the store's options open where it is of the same kind."""
    from pipeline.stores._place import Place  # noqa: PLC0415 - as above

    store = settings.store
    if where is None:
        return Place.at(store.uri, store_options(settings))
    scheme = urlsplit(where).scheme if "://" in where else ""
    if scheme and (scheme not in OBJECT_STORES or not urlsplit(where).netloc):
        places = ", ".join(f"{known}://bucket/…" for known in OBJECT_STORES)
        raise SettingsError(f"{where} is no place for a backup; valid: a folder, or one of {places}")
    if not scheme:
        return Place.at(str(Path(where).expanduser()), {})
    return Place.at(where, store_options(settings) if store.uri.startswith(f"{scheme}://") else {})

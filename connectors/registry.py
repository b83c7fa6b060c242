"""The sources that the settings may name, and how each is connected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Annotated, Protocol, TypeAlias, cast, get_args

from connectors.configured import Configured
from connectors.confluence import ConfluenceConnector, ConfluenceSettings
from connectors.feed import FeedConnector, FeedSettings
from connectors.files import FilesSettings, files_connector
from connectors.git import GitConnector, GitSettings
from connectors.github import GithubConnector, GithubSettings
from connectors.google_drive import GoogleDriveConnector, GoogleDriveSettings
from connectors.notion import NotionConnector, NotionSettings
from connectors.one_of import OneOf
from connectors.python import PythonConnector, PythonSettings
from connectors.rows import JsonlConnector, JsonlSettings, ParquetConnector, ParquetSettings
from connectors.settings import SharedSettings
from connectors.slack import SlackConnector, SlackSettings
from connectors.sql import SqlConnector, SqlSettings
from connectors.web import WebConnector, WebSettings
from pipeline.errors import SettingsError
from pipeline.protocols import Connector

GROUP = "docweave.connectors"
"""Other packages' sources, as entry points: the name is the `type`, the value a subclass of `SharedSettings`
with a method `connect(source)`."""

_CONNECTORS: Mapping[type[SharedSettings], Callable[..., Connector]] = {
    FilesSettings: files_connector,
    WebSettings: WebConnector,
    FeedSettings: FeedConnector,
    GitSettings: GitConnector,
    GithubSettings: GithubConnector,
    NotionSettings: NotionConnector,
    ConfluenceSettings: ConfluenceConnector,
    GoogleDriveSettings: GoogleDriveConnector,
    SlackSettings: SlackConnector,
    SqlSettings: SqlConnector,
    JsonlSettings: JsonlConnector,
    ParquetSettings: ParquetConnector,
    PythonSettings: PythonConnector,
}
"""In the order in which they are listed."""

SourceSettings: TypeAlias = Annotated[
    FilesSettings
    | WebSettings
    | FeedSettings
    | GitSettings
    | GithubSettings
    | NotionSettings
    | ConfluenceSettings
    | GoogleDriveSettings
    | SlackSettings
    | SqlSettings
    | JsonlSettings
    | ParquetSettings
    | PythonSettings,
    OneOf("type", group=GROUP),
]
"""The settings of any source, told apart by `type`."""

SOURCE_TYPES: Mapping[str, type[SharedSettings]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in _CONNECTORS
}
"""Our own, by the value of `type`."""


class Connects(Protocol):
    """The settings of a source that another package adds."""

    def connect(self, source: str) -> Connector:
        """The connector of the source with this name. Nothing is opened yet."""


def connect(name: str, settings: SourceSettings) -> Connector:
    """The connector of a source, by the name that the settings give it. Nothing is opened yet.

    Raises:
        SettingsError: something that this type needs is not installed.
    """
    check_installed(name, settings)
    ours = _CONNECTORS.get(type(settings))
    connector = ours(source=name, settings=settings) if ours else cast("Connects", settings).connect(name)
    return Configured(connector=connector, settings=settings)


def check_installed(name: str, settings: SharedSettings) -> None:
    """Refuse a source whose libraries are not installed.

    Raises:
        SettingsError: names them, and what installs them.
    """
    if missing := not_installed(type(settings)):
        packages = " and ".join(missing)
        cure = f"docweave[{settings.extra}]" if settings.extra else " ".join(missing)
        kind = getattr(settings, "type", "?")
        raise SettingsError(f"sources.{name}: type {kind} needs {packages}: pip install '{cure}'")


def not_installed(settings: type[SharedSettings]) -> list[str]:
    """The packages that this type needs, and that are not there."""
    return [package for module, package in settings.needs.items() if find_spec(module) is None]

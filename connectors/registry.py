"""The sources that the settings may name, and how each is connected."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from connectors.files import FilesConnector, FilesSettings
from connectors.settings import OneOf
from pipeline.protocols import Connector

SourceSettings: TypeAlias = Annotated[FilesSettings, OneOf("type")]
"""The settings of any source, told apart by `type`."""


def connect(name: str, settings: SourceSettings) -> Connector:
    """The connector of a source, by the name that the settings give it. Nothing is opened yet."""
    match settings:
        case FilesSettings():
            return FilesConnector(source=name, settings=settings)

"""Files: in a folder of this machine, in object storage, or in an archive."""

from connectors.files.local import FilesConnector
from connectors.files.remote import RemoteFiles, files_connector
from connectors.files.settings import FilesSettings
from connectors.media_types import DOCUMENTS

__all__ = ["DOCUMENTS", "FilesConnector", "FilesSettings", "RemoteFiles", "files_connector"]

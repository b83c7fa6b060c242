"""Files in folders and shared drives of Google Drive."""

from connectors.google_drive.connector import GoogleDriveConnector
from connectors.google_drive.settings import GoogleDriveSettings

__all__ = ["GoogleDriveConnector", "GoogleDriveSettings"]

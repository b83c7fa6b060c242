"""Pages of Confluence, in the cloud or on a server of your own."""

from connectors.confluence.connector import ConfluenceConnector
from connectors.confluence.settings import ConfluenceSettings

__all__ = ["ConfluenceConnector", "ConfluenceSettings"]

"""Pages of a web site: those of a sitemap, a list, or a crawl."""

from connectors.web.connector import WebConnector
from connectors.web.settings import WebSettings

__all__ = ["WebConnector", "WebSettings"]

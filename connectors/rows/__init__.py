"""Rows of files as documents: JSON Lines and Parquet."""

from connectors.rows.jsonl import JsonlConnector
from connectors.rows.parquet import ParquetConnector
from connectors.rows.settings import JsonlSettings, ParquetSettings

__all__ = ["JsonlConnector", "JsonlSettings", "ParquetConnector", "ParquetSettings"]

"""Files in object storage and in archives: the contract on a real S3 server, and what is particular to each."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

import anyio
import httpx
import pytest
from pydantic import SecretStr, ValidationError

from config.errors import SettingsError as _  # noqa: F401
from connectors.files import FilesSettings, RemoteFiles, files_connector
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.records import ItemRef
from pipeline.stores.memory import MemoryStore
from tests.contract.connector_contract import ConnectorContract, listed
from tests.loopback import Asked, Said, serving
from tests.s3 import FAR, KEY, SECRET, Bucket, new_bucket
from tests.world import World

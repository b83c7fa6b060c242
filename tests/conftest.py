"""Fixtures for every test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.s3 import Bucket, new_bucket, serving


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its address."""
    with serving() as address:
        yield address


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty one; nothing of the machine's own settings opens it."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return new_bucket(s3_server, f"bucket-{uuid.uuid4().hex[:12]}")

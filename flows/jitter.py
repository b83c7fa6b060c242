"""What keeps scheduled runs from beginning all at once."""

from __future__ import annotations

import random

import anyio
from prefect import get_run_logger

LEAST_SECONDS = 1.0
"""Shorter waits are not worth telling."""


async def begin_within(seconds: float) -> None:
    """Wait a random part of so many seconds, and say so in the run's logs."""
    waited = random.uniform(0, max(0.0, seconds))  # noqa: S311 - nothing has to be kept from guessing
    if waited >= LEAST_SECONDS:
        get_run_logger().info("beginning in %.0f s: up to %.0f s of jitter", waited, seconds)
    await anyio.sleep(waited)

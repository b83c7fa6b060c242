"""Prefect's settings for runs that a command line starts. To be applied before prefect is imported."""

from __future__ import annotations

import os

PREFERRED = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A run's logs belong into the scheduler's UI; the console is the command line's.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # Without PREFECT_API_URL a server is started for the time of the run. A busy machine takes its time.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
"""Environment variables, in Prefect's own spelling."""


def prefer_quiet() -> None:
    """Turn off analytics and the console's share of the logs, unless the environment says otherwise."""
    for name, value in PREFERRED.items():
        os.environ.setdefault(name, value)

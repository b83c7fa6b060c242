"""Log lines: for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from config.logging_settings import LoggingSettings

OURS = ("pipeline", "connectors", "config", "flows", "apps")
"""Loggers whose level the settings set."""
SPEAK_APART = ("uvicorn", "uvicorn.error", "uvicorn.access", "fastapi")
"""Loggers that bring handlers of their own."""
TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

_about: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039 - never written to
_EXTRAS = {
    "source": "source",
    "key": "key",
    "flow_run_id": "run",
    "flow_run_name": "run_name",
    "task_run_id": "task",
    "request_id": "request",
}
"""What a record may carry, and what it is called in the line."""


class _Ours(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error, whichever that is when a line is written."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.stream = sys.stderr
        super().emit(record)


class JsonLine(logging.Formatter):
    """A record as one JSON object: time, level, logger, message; and source, key, run and error, if any."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`. ASCII, and without line breaks, whatever the message holds."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
        }
        for name, called in _EXTRAS.items():
            if value := getattr(record, name, None):
                line[called] = str(value)
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


@contextmanager
def lines_about(**what: str) -> Iterator[None]:
    """Have each JSON line of this context tell what it is about: `source`, `run`."""
    token = _about.set({**_about.get(), **what})
    try:
        yield
    finally:
        _about.reset(token)


def set_up(settings: LoggingSettings) -> LoggingSettings:
    """Write log lines as the settings and the environment say; give what that is.

    To be called again after Prefect has been imported, which sets handlers of its own. Text at the usual
    level is left as it is: the command line tells of a run by itself.

    Raises:
        SettingsError: the environment says what cannot be meant.
    """
    chosen = settings.or_environment()
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if isinstance(handler, _Ours)]
    if chosen == LoggingSettings():
        for handler in ours:
            root.removeHandler(handler)
        return chosen
    handler = ours[0] if ours else _Ours()
    handler.setLevel(chosen.level.upper())
    handler.setFormatter(JsonLine() if chosen.format == "json" else logging.Formatter(TEXT))
    for other in [other for other in root.handlers if _writes_to_a_terminal(other)]:
        root.removeHandler(other)
    if not ours:
        root.addHandler(handler)
    for name in OURS:
        logging.getLogger(name).setLevel(chosen.level.upper())
    for name in SPEAK_APART:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        if logger.level == logging.NOTSET:
            logger.setLevel(chosen.level.upper())
    return chosen


def is_json() -> bool:
    """Whether log lines are JSON: then nothing else may be written between them."""
    handlers = logging.getLogger().handlers
    return any(isinstance(one, _Ours) and isinstance(one.formatter, JsonLine) for one in handlers)


def _writes_to_a_terminal(handler: logging.Handler) -> bool:
    """Whether it writes lines that ours take the place of."""
    if isinstance(handler, _Ours) or not isinstance(handler, logging.StreamHandler):
        return False
    return handler.stream in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)

"""Every error that the project raises, and what its caller does next.

The class says where it went wrong, `recovery` what to do about it:

    DocweaveError
      SettingsError        ABORT   what the user wrote cannot be meant
      SourceError
        SourceUnavailable  RETRY   an outage, a time-out, a half listing
        SourceRefused      ABORT   bad credentials, a root that does not exist
        ItemUnreadable     SKIP    one item vanished, is locked or too large
      OutOfTime            ABORT   it took longer than the settings allow
      ParseError           SKIP    one document is broken, hostile or of an unknown format
      EmbedError
        ServiceUnavailable RETRY   an outage, a rate limit, a reply that does not add up
        RequestTooLarge    SPLIT   the service counts more than we did
        InputRefused       SKIP    the service will not embed this text
        ServiceRefused     ABORT   bad key, no money, no such model
      StoreError
        StoreUnavailable   RETRY   the storage did not answer, or a write conflicted too often
        StoreRefused       ABORT   no permission, no space left, tables of another version
          NothingStored    ABORT   nothing has been ingested yet
        StoreBusy          ABORT   another run writes the tables, for longer than is waited
        SpaceMismatch      ABORT   the table holds vectors of another embedding space
        RemovalsWithheld   ABORT   a rebuild lacks documents, and nobody said that they may go

A message says where, which limit or value, and what would have been valid; never a body, a header or a key.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Recovery(Enum):
    """What the caller does about an error."""

    RETRY = "retry"
    """It may pass: try the same again later."""
    SPLIT = "split"
    """Too large: send it in smaller parts."""
    SKIP = "skip"
    """This item alone: report it and go on."""
    ABORT = "abort"
    """Nothing will work until somebody changes something: stop."""


class DocweaveError(Exception):
    """The root of every error that the project raises.

    `tables` says of whose tables it is, where a question was put to several; the message begins with it.
    """

    recovery: ClassVar[Recovery] = Recovery.ABORT
    tables: str = ""


class SettingsError(DocweaveError):
    """What the user wrote cannot be meant."""


class SourceError(DocweaveError):
    """A source did not give what it should."""


class SourceUnavailable(SourceError):
    """An outage, a time-out, or a listing that ended early."""

    recovery = Recovery.RETRY


class SourceRefused(SourceError):
    """The source turned us away, or is not there."""


class ItemUnreadable(SourceError):
    """One item vanished, is locked, or is too large."""

    recovery = Recovery.SKIP


class OutOfTime(DocweaveError):
    """A source, or a run, took longer than the settings allow. What it had committed stays."""


class ParseError(DocweaveError):
    """One document is broken, hostile, or of a format that no parser reads."""

    recovery = Recovery.SKIP


class EmbedError(DocweaveError):
    """An embedding service did not give what it should.

    `wasted_tokens` and `wasted_usd` are what it charged for replies that could not be used, where it told.
    """

    wasted_tokens: int = 0
    wasted_usd: float = 0.0


class ServiceUnavailable(EmbedError):
    """An outage, a rate limit, or a reply that does not add up.

    `retry_after` is what the service asked for, in seconds, where it did.
    """

    recovery = Recovery.RETRY

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestTooLarge(EmbedError):
    """The service counts more than its limit allows."""

    recovery = Recovery.SPLIT


class InputRefused(EmbedError):
    """The service will not embed what was sent."""

    recovery = Recovery.SKIP


class ServiceRefused(EmbedError):
    """A bad key, no money, or no such model: waiting does not help."""


class StoreError(DocweaveError):
    """The store did not do what it should."""


class StoreUnavailable(StoreError):
    """The storage did not answer, or a write conflicted too often."""

    recovery = Recovery.RETRY


class StoreRefused(StoreError):
    """No permission, no space left, or tables that this version cannot read."""


class NothingStored(StoreRefused):
    """There is nothing to search yet: nothing has been ingested."""


class StoreBusy(StoreError):
    """Another run writes the tables, for longer than the settings have this one wait."""


class SpaceMismatch(StoreError):
    """The table holds vectors of another embedding space."""


class RemovalsWithheld(StoreError):
    """The tables of a rebuild lack more of the live documents than may be lost unasked."""

"""Documents in the rows of a database."""

from __future__ import annotations

import hashlib
import json
import logging
import weakref
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from pydantic import BeforeValidator, ByteSize, Field, SecretStr, ValidationInfo, model_validator

from connectors.plain import plain
from connectors.settings import (
    FromEnvironment,
    Hidden,
    SharedSettings,
    absolute,
    as_secret,
    folder_of,
    literal_secret,
)
from pipeline.errors import ItemUnreadable, SettingsError, SourceError, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, FromClause, Row, Select

_BATCH = 1000
"""Rows fetched per visit to the worker thread."""
_DRIVERS = {"postgresql": "postgresql+pg8000", "postgres": "postgresql+pg8000"}
"""What is taken where an address names no driver: the one that the extra brings."""
_SQLITE = "sqlite:///"
_REFUSED = ("28", "3D", "42")
"""SQLSTATE classes that waiting does not mend: credentials, no such database, no such table or column."""
_REFUSED_WORDS = ("no such", "unable to open", "authentication", "denied", "does not exist", "syntax error")


def _address(url: object, info: ValidationInfo) -> object:
    """A literal address without a password, or a secret that is kept elsewhere."""
    if not isinstance(url, str) or isinstance(url, FromEnvironment):
        return as_secret(url, info)
    if url.startswith(("file:", "prefect://")):
        return as_secret(url, info)
    if urlsplit(url).password:
        raise literal_secret("leave the password out where the database asks for none")
    if "://" not in url:
        raise ValueError(
            "must be an address as SQLAlchemy has it: postgresql://user@host/database, sqlite:///file.db"
        )
    if url.startswith(_SQLITE):
        url = _SQLITE + absolute(url.removeprefix(_SQLITE), folder_of(info))
    return SecretStr(url)


DatabaseUrl = Annotated[Hidden, BeforeValidator(_address, json_schema_input_type=str)]


class SqlSettings(SharedSettings):
    """Rows of a database."""

    shaping: ClassVar[tuple[str, ...]] = (
        "table",
        "query",
        "text_column",
        "title_column",
        "url_column",
        "metadata_columns",
        "media_type",
    )

    needs: ClassVar[Mapping[str, str]] = {"sqlalchemy": "sqlalchemy"}
    extra: ClassVar[str] = "sql"

    type: Literal["sql"] = Field(description="Rows of a database, by any SQLAlchemy address.")
    url: DatabaseUrl = Field(
        description="The database, as SQLAlchemy has it: postgresql://user@host/name, sqlite:///file.db. "
        "With a password it is a secret: ${NAME}, file:PATH or prefect://secret/NAME."
    )
    table: str | None = Field(
        default=None, min_length=1, description="The table or view to read, as name or schema.name."
    )
    query: str | None = Field(default=None, min_length=1, description="A SELECT to read in place of a table.")
    key_column: str | list[str] = Field(
        min_length=1, description="What identifies a row; of several columns, the values are joined by /."
    )
    text_column: str = Field(description="The document's text, or its content as bytes.")
    title_column: str | None = Field(default=None, description="The document's title.")
    url_column: str | None = Field(default=None, description="Where a person can open the document.")
    version_column: str | None = Field(
        default=None,
        description="What changes whenever a row does, such as updated_at: then only keys and versions are "
        "read of rows that are as they were. Left out: every row is read, and its digest compared.",
    )
    metadata_columns: list[str] = Field(default=[], description="Stored with the document, by these names.")
    media_type: str = Field(default="text/plain", description="Of the texts: text/markdown, text/html …")
    max_bytes: ByteSize = Field(
        default=ByteSize(50_000_000), description="Documents larger than this are reported and left out."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("must have either `table` or `query`")
        return self

    @property
    def keys(self) -> list[str]:
        """The columns that identify a row."""
        return [self.key_column] if isinstance(self.key_column, str) else self.key_column

    @property
    def columns(self) -> list[str]:
        """All that is read, each once."""
        named = [self.text_column, self.title_column, self.url_column, self.version_column]
        return list(dict.fromkeys([*self.keys, *filter(None, named), *self.metadata_columns]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlConnector:
    """Lists rows by key and version with a streaming cursor; a row's text is read when it is loaded.

    Works with any database that SQLAlchemy has a dialect for. Tested with PostgreSQL and SQLite.
    """

    source: str
    settings: SqlSettings
    _opened: list[Engine] = field(default_factory=list)
    _values: dict[str, tuple[object, ...]] = field(default_factory=dict)
    """What identifies a row, as the database has it, where that is no text."""
    _turn: anyio.Lock = field(default_factory=anyio.Lock)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every row, in the database's own order, all of one moment.

        Raises:
            SettingsError: the driver is not installed.
            SourceRefused: bad credentials, no such table or column, a row without key, or two with one.
            SourceUnavailable: the database does not answer, or stopped to.
        """
        seen: set[str] = set()
        rows = self._listed(await self._engine())
        try:
            while batch := await anyio.to_thread.run_sync(lambda: list(islice(rows, _BATCH))):
                for ref in batch:
                    if ref.key in seen:
                        raise SourceRefused(f"{self._where()}: two rows have the key {ref.key!r}")
                    seen.add(ref.key)
                    yield ref
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(rows.close)

    async def load(self, ref: ItemRef) -> RawDocument:
        """The row as it is now.

        Raises:
            ItemUnreadable: it is gone, or too large.
            SourceError: as `list_items`.
        """
        return await anyio.to_thread.run_sync(self._load, await self._engine(), ref)

    def _listed(self, engine: Engine) -> Generator[ItemRef]:
        versioned = self.settings.version_column
        names = [*self.settings.keys, versioned] if versioned else self.settings.columns
        with self._talking(), engine.connect() as connection:
            streaming = connection.execution_options(stream_results=True, yield_per=_BATCH)
            for row in streaming.execute(self._select(names)):
                values = tuple(row)[: len(self.settings.keys)]
                key = self._key(values)
                if not all(isinstance(value, str) for value in values) or len(values) > 1:
                    self._values[key] = values
                yield ItemRef(source=self.source, key=key, version=self._version(row))

    def _load(self, engine: Engine, ref: ItemRef) -> RawDocument:
        with self._talking(), engine.connect() as connection:
            row = self._row(connection, ref.key)
        given = dict(zip(self.settings.columns, row, strict=True))
        content, most = _bytes(given[self.settings.text_column]), self.settings.max_bytes
        if len(content) > most:
            raise ItemUnreadable(
                f"{ref.key} has {len(content):,} bytes, more than sources.{self.source}.max_bytes: {most:,}"
            )
        title, url = self.settings.title_column, self.settings.url_column
        return RawDocument(
            ref=ItemRef(source=self.source, key=ref.key, version=self._version(row), size=ref.size),
            content=content,
            media_type=self.settings.media_type,
            title=_text(given[title]) if title else None,
            url=_text(given[url]) if url else None,
            metadata={name: plain(given[name]) for name in self.settings.metadata_columns},
        )

    def _row(self, connection: Connection, key: str) -> Row[tuple[object, ...]]:
        from sqlalchemy import column  # noqa: PLC0415 - not for whoever only reads settings

        values = self._values.get(key, (key,))
        wanted = [column(name) == value for name, value in zip(self.settings.keys, values, strict=True)]
        found = connection.execute(self._select(self.settings.columns).where(*wanted)).fetchmany(2)
        if not found:
            raise ItemUnreadable(f"{self._where()} has no row {key!r} any more")
        if len(found) > 1:
            raise ItemUnreadable(f"{self._where()} has several rows {key!r}")
        return found[0]

    def _select(self, names: Sequence[str]) -> Select[Any]:
        from sqlalchemy import column, select, table, text  # noqa: PLC0415 - as above

        rows: FromClause
        if self.settings.query:
            rows = (
                text(self.settings.query.rstrip("; \n"))
                .columns(*map(column, self.settings.columns))
                .subquery("rows")
            )
        else:
            schema, _, name = (self.settings.table or "").rpartition(".")
            rows = table(name, schema=schema or None)
        return select(*map(column, names)).select_from(rows)

    def _version(self, row: Row[tuple[object, ...]]) -> str:
        if name := self.settings.version_column:
            names = self.settings.columns
            place = names.index(name) if len(row) == len(names) else len(row) - 1
            return str(plain(row[place]))
        values = [plain(value) for value in row]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def _key(self, values: Sequence[object]) -> str:
        if any(value is None for value in values):
            raise SourceRefused(f"{self._where()}: a row has no {' or '.join(self.settings.keys)}")
        return "/".join(_text(value) or "" for value in values)

    async def _engine(self) -> Engine:
        async with self._turn:
            if not self._opened:
                self._opened.append(await anyio.to_thread.run_sync(self._create))
        return self._opened[0]

    def _create(self) -> Engine:
        from sqlalchemy import create_engine, make_url  # noqa: PLC0415 - as above
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError  # noqa: PLC0415 - as above

        try:
            url = make_url(self.settings.url.get_secret_value())
            if url.drivername in _DRIVERS:
                url = url.set(drivername=_DRIVERS[url.drivername])
            engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, pool_logging_name=__name__)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"{self._where()}: the driver of {url.drivername} is not installed: pip install {error.name}"
            ) from error
        except (ArgumentError, NoSuchModuleError) as error:
            raise SettingsError(
                f"{self._where()}: the address is none that SQLAlchemy knows; valid: "
                "postgresql://user@host/database, sqlite:///file.db, or with a driver, mysql+pymysql://…"
            ) from error
        if isinstance(engine.pool.logger, logging.Logger):
            engine.pool.logger.addFilter(_is_no_error)
        weakref.finalize(self._turn, engine.dispose)
        return engine

    def _where(self) -> str:
        return f"sources.{self.source}" + (
            f".table {self.settings.table}" if self.settings.table else ".query"
        )

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Translate what SQLAlchemy raises; its messages hold the statement, and no values."""
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - as above

        try:
            yield
        except SQLAlchemyError as error:
            raise self._error(error) from None
        except OSError as error:
            raise SourceUnavailable(f"{self._where()}: the database does not answer: {error}") from error

    def _error(self, error: Exception) -> SourceError:
        original = getattr(error, "orig", None) or error
        said = _said(original)
        state = (
            str(said.get("C", "")) if isinstance(said, dict) else str(getattr(original, "sqlstate", "") or "")
        )
        words = str(said.get("M", "")) if isinstance(said, dict) else str(said)
        message = f"{self._where()}: {self._without_password(' '.join(words.split()))[:300]}"
        if state.startswith(_REFUSED) or any(word in words.lower() for word in _REFUSED_WORDS):
            return SourceRefused(message)
        return SourceUnavailable(message)

    def _without_password(self, said: str) -> str:
        password = urlsplit(self.settings.url.get_secret_value()).password
        return said.replace(password, "…") if password else said


def _is_no_error(line: logging.LogRecord) -> bool:
    """Whether the pool may log it: of a connection that breaks, our own error tells."""
    return line.levelno < logging.ERROR


def _said(error: BaseException) -> object:
    """What the server said. Where it hung up behind that, pg8000 raises its own trouble in place of it."""
    latest: BaseException | None = error
    while latest is not None:
        if latest.args and isinstance(latest.args[0], dict):
            return latest.args[0]
        latest = latest.__context__
    return error.args[0] if error.args else error


def _text(value: object) -> str | None:
    return None if value is None else str(plain(value))


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return (_text(value) or "").encode("utf-8", "replace")

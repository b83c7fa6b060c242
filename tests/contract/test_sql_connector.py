"""Rows as documents: the contract on SQLite and on a real PostgreSQL, and what is particular to databases."""

from __future__ import annotations

import socketserver
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import create_engine, event, text

from config.load import load_settings
from connectors.sql import SqlConnector, SqlSettings
from pipeline.errors import ItemUnreadable, SettingsError, SourceRefused, SourceUnavailable
from tests.contract.connector_contract import CannotOccur, ConnectorContract, listed


@dataclass
class Table:
    """A table `documents` with keys, bytes and versions."""

    url: str
    settings: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = create_engine(self.url)
        unsafe = "SET synchronous_commit = off" if "postgresql" in self.url else "PRAGMA synchronous = OFF"
        event.listen(self.engine, "connect", lambda connection, _: connection.cursor().execute(unsafe))
        blob = "BYTEA" if "postgresql" in self.url else "BLOB"
        self.run("DROP TABLE IF EXISTS documents")
        self.run(f"CREATE TABLE documents (name TEXT, body {blob}, version INTEGER, team TEXT)")
        self.run("CREATE INDEX by_name ON documents (name)")

    def run(self, statement: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def connector(self, **settings: object) -> SqlConnector:
        chosen = {
            "type": "sql",
            "url": self.url,
            "table": "documents",
            "key_column": "name",
            "text_column": "body",
            "version_column": "version",
            "media_type": "application/octet-stream",
            **self.settings,
            **settings,
        }
        kept = {name: value for name, value in chosen.items() if value is not None}
        return SqlConnector(source="docs", settings=SqlSettings.model_validate(kept))

    def put(self, key: str, content: bytes) -> None:
        with self.engine.begin() as connection:
            found = connection.execute(
                text("UPDATE documents SET body = :body, version = version + 1 WHERE name = :name"),
                {"name": key, "body": content},
            )
            if not found.rowcount:
                connection.execute(
                    text("INSERT INTO documents (name, body, version) VALUES (:name, :body, 1)"),
                    {"name": key, "body": content},
                )

    def drop(self, key: str) -> None:
        self.run("DELETE FROM documents WHERE name = :name", name=key)


class SqlContract(ConnectorContract):
    """The contract, on a table."""

    def outage(self, place: Table) -> AbstractContextManager[None]:
        raise CannotOccur("a database in a file of this machine is there, or is refused")

    def refusal(self, place: Table) -> AbstractContextManager[object]:
        raise CannotOccur("a database in a file of this machine asks nobody")

    @contextmanager
    def half(self, place: Table) -> Iterator[None]:
        """The table is a view meanwhile, which comes to grief in a row behind the first ones."""
        place.run("ALTER TABLE documents RENAME TO kept")
        place.run(
            "CREATE VIEW documents AS SELECT CASE WHEN name = '6/41.md' "
            "THEN CAST(abs(version - 9223372036854775807 - 2) AS TEXT) ELSE name END AS name, "
            "body, version, team FROM kept"
        )
        try:
            yield
        finally:
            place.run("DROP VIEW documents")
            place.run("ALTER TABLE kept RENAME TO documents")

    @contextmanager
    def repeating(self, place: Table) -> Iterator[None]:
        place.run("INSERT INTO documents SELECT * FROM documents WHERE name = '3/3.md'")
        yield

    async def test_the_media_type_follows_the_name(self, place: Any) -> None:
        place.put("a.md", b"# A")
        connector = place.connector(media_type="text/markdown")
        [ref] = await listed(connector)
        assert (await connector.load(ref)).media_type == "text/markdown"


class TestOnSqlite(SqlContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Table]:
        table = Table(f"sqlite:///{tmp_path / 'documents.db'}")
        yield table
        table.engine.dispose()


class TestOnSqliteByDigest(TestOnSqlite):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Table]:
        settings = {"version_column": None}
        table = Table(f"sqlite:///{tmp_path / 'documents.db'}", settings)
        yield table
        table.engine.dispose()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of our own."""
    pgserver = pytest.importorskip("pgserver")
    with pgserver.get_server(tmp_path_factory.mktemp("postgresql")) as server:
        socket = f"{server.get_uri().partition('host=')[2]}/.s.PGSQL.5432"
        yield f"postgresql+pg8000://postgres@/postgres?unix_sock={socket}"


class TestOnPostgresql(SqlContract):
    many = 300

    @contextmanager
    def outage(self, place: Table) -> Iterator[None]:
        """Its socket is somewhere else meanwhile."""
        socket = Path(place.url.partition("unix_sock=")[2])
        self.hang_up(place)
        place.engine.dispose()
        away = socket.with_suffix(".away")
        socket.rename(away)
        try:
            yield
        finally:
            away.rename(socket)

    def hang_up(self, place: Table) -> None:
        others = "FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()"
        place.run(f"SELECT pg_terminate_backend(pid) {others}")

    def refusal(self, place: Table) -> AbstractContextManager[object]:
        return patch.object(place, "url", place.url.replace("postgres@", "nobody_at_all@"))

    async def test_a_server_that_goes_away_within_a_listing_is_told_by_our_error_alone(
        self, place: Table, caplog: pytest.LogCaptureFixture
    ) -> None:
        place.run("INSERT INTO documents SELECT n::text, 'x', 1, 'a' FROM generate_series(1, 20000) n")
        items = place.connector().list_items()
        await anext(items)
        self.hang_up(place)
        with pytest.raises(SourceUnavailable, match=r"^sources\.docs\.table documents: "):
            async for _ in items:
                pass
        assert not caplog.records

    @pytest.fixture
    def place(self, postgresql: str) -> Iterator[Table]:
        table = Table(postgresql)
        yield table
        table.engine.dispose()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Table]:
    table = Table(f"sqlite:///{tmp_path / 'documents.db'}")
    yield table
    table.engine.dispose()


async def test_an_unchanged_row_is_not_read_again(place: Table) -> None:
    place.put("a.md", b"a")
    statements: list[str] = []
    connector = place.connector()
    event.listen(
        await connector._engine(), "before_cursor_execute", lambda *given: statements.append(given[2])
    )
    [ref] = await listed(connector)
    assert statements
    assert not any("body" in statement for statement in statements)
    await connector.load(ref)
    assert "body" in statements[-1]


async def test_title_url_and_metadata_come_from_columns_of_a_query(place: Table) -> None:
    place.put("1", "Köln".encode())
    place.run("UPDATE documents SET team = 'people'")
    query = (
        "SELECT name, body, 'Title ' || name AS title, 'https://x/' || name AS link, team, 2.50 AS n "
        "FROM documents;"
    )
    connector = place.connector(
        table=None,
        query=query,
        version_column=None,
        title_column="title",
        url_column="link",
        metadata_columns=["team", "n"],
    )
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    assert (raw.title, raw.url, raw.metadata) == ("Title 1", "https://x/1", {"team": "people", "n": 2.5})
    assert raw.ref == ref


async def test_keys_of_several_columns_and_of_other_types(place: Table) -> None:
    place.run("CREATE TABLE numbered (id INTEGER, lang TEXT, body TEXT)")
    for number, lang in ((1, "de"), (1, "en"), (2, "de")):
        place.run(
            "INSERT INTO numbered VALUES (:id, :lang, :body)", id=number, lang=lang, body=f"{number}{lang}"
        )
    connector = place.connector(table="numbered", key_column=["id", "lang"], version_column=None)
    refs = await listed(connector)
    assert sorted(ref.key for ref in refs) == ["1/de", "1/en", "2/de"]
    assert sorted([(await connector.load(ref)).content for ref in refs]) == [b"1de", b"1en", b"2de"]


async def test_a_row_without_text_is_an_empty_document(place: Table) -> None:
    place.run("INSERT INTO documents VALUES ('a', NULL, 1, NULL)")
    connector = place.connector()
    [ref] = await listed(connector)
    assert (await connector.load(ref)).content == b""


async def test_rows_without_key_or_with_one_key_are_refused(place: Table) -> None:
    place.run("INSERT INTO documents VALUES (NULL, 'x', 1, NULL)")
    with pytest.raises(SourceRefused, match="a row has no name"):
        await listed(place.connector())
    place.run("DELETE FROM documents")
    for _ in range(2):
        place.run("INSERT INTO documents VALUES ('a', 'x', 1, NULL)")
    with pytest.raises(SourceRefused, match="two rows have the key 'a'"):
        await listed(place.connector())


async def test_what_is_too_large_costs_itself_alone(place: Table) -> None:
    place.put("large", bytes(101))
    connector = place.connector(max_bytes=100)
    [ref] = await listed(connector)
    with pytest.raises(ItemUnreadable, match=r"101 bytes, more than sources\.docs\.max_bytes: 100"):
        await connector.load(ref)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"table": "dokuments"}, "no such table: dokuments"),
        ({"text_column": "bodi", "version_column": None}, "no such column: bodi"),
        ({"table": "x; DROP TABLE documents; --"}, "no such table"),
        ({"table": None, "query": "DELETE FROM documents"}, "syntax error"),
        ({"url": "sqlite:////no/such/folder/x.db"}, "unable to open database file"),
    ],
)
async def test_what_is_not_there_is_refused(place: Table, settings: dict[str, object], said: str) -> None:
    place.put("a.md", b"a")
    with pytest.raises(SourceRefused, match=said):
        await listed(place.connector(**settings))
    assert len(await listed(place.connector())) == 1


async def test_a_broken_connection_is_an_outage(place: Table) -> None:
    connector = place.connector(url="postgresql://ada@127.0.0.1:9/handbook")
    with pytest.raises(SourceUnavailable):
        await listed(connector)


async def test_wrong_credentials_are_refused_and_never_shown(postgres_that_refuses: int) -> None:
    address = f"postgresql://ada:hunter2@127.0.0.1:{postgres_that_refuses}/handbook"
    with pytest.raises(ValidationError) as literal:
        SqlSettings.model_validate(
            {"type": "sql", "url": address, "table": "t", "key_column": "k", "text_column": "t"}
        )
    assert "hunter2" not in str(literal.value)
    settings = SqlSettings.model_validate(
        {"type": "sql", "url": SecretStr(address), "table": "t", "key_column": "k", "text_column": "t"}
    )
    assert "hunter2" not in repr(settings)
    with pytest.raises(SourceRefused, match="password authentication failed") as refused:
        await listed(SqlConnector(source="docs", settings=settings))
    assert "hunter2" not in str(refused.value)


@pytest.fixture
def postgres_that_refuses() -> Iterator[int]:
    """Speaks as much of PostgreSQL's protocol as it takes to turn a password away."""
    fields = b'SFATAL\0C28P01\0Mpassword authentication failed for user "ada" (hunter2)\0\0'

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if len(self.request.recv(1024)) == 8:  # it asks for TLS first
                self.request.sendall(b"N")
                self.request.recv(1024)
            self.request.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


async def test_an_address_that_nobody_knows_is_refused(place: Table) -> None:
    for url, said in (
        ("nosuch://host/db", "none that SQLAlchemy knows"),
        ("mysql://h/db", "driver of mysql"),
    ):
        with pytest.raises(SettingsError, match=said):
            await listed(place.connector(url=url))


def test_settings_want_one_of_table_and_query_and_paths_begin_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "docweave.yaml"
    source = "type: sql, url: 'sqlite:///my.db', key_column: k, text_column: t"
    path.write_text(f"sources:\n  db: {{{source}, table: a, query: b}}\n")
    with pytest.raises(SettingsError, match="must have either `table` or `query`"):
        load_settings(path)
    path.write_text(f"sources:\n  db: {{{source}, table: a}}\n")
    settings = load_settings(path).sources["db"]
    assert isinstance(settings, SqlSettings)
    assert settings.url.get_secret_value() == f"sqlite:///{tmp_path / 'my.db'}"


async def test_a_large_table_is_read_with_a_cursor(place: Table) -> None:
    with closing(sqlite3.connect(place.url.removeprefix("sqlite:///"))) as database:
        rows = ((f"{number}", b"x" * 1000, 1, None) for number in range(20_000))
        database.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", rows)
        database.commit()
    items = place.connector().list_items()
    first = [await anext(items) for _ in range(3)]
    assert [ref.key for ref in first] == ["0", "1", "2"]
    await items.aclose()  # type: ignore[attr-defined]
    place.drop("0")  # which a cursor that is still open would keep waiting
    assert len(await listed(place.connector())) == 19_999

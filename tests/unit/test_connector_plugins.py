"""Sources that other packages add: the example of docs/connectors.md, offered by an entry point."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from apps.cli import app
from config.build import build_pipeline, connectors
from config.load import load_settings
from connectors import one_of
from pipeline.errors import SettingsError
from pipeline.ingest import ingest_source
from pipeline.protocols import Connector
from tests.contract.connector_contract import ConnectorContract

DOCS = Path(__file__).parents[2] / "docs/connectors.md"


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class NotesServer:
    """Answers as the example expects."""

    url: str
    notes: dict[str, bytes] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    status: int = 200
    cut_at: int | None = None
    repeated: int = 0
    """Of the notes, so many are listed twice."""

    def put(self, key: str, content: bytes) -> None:
        self.notes[key] = content

    def drop(self, key: str) -> None:
        del self.notes[key]

    def answer(self, path: str) -> bytes | None:
        if path == "/notes":
            listed = [{"name": key, "etag": etag(text)} for key, text in self.notes.items()]
            return json.dumps([*listed, *listed[: self.repeated]]).encode()[: self.cut_at]
        key = unquote(path.removeprefix("/notes/"))
        self.loaded.append(key)
        return self.notes.get(key)

    def connector(self) -> Connector:
        from notes_connector import NotesSettings  # type: ignore[import-not-found] # noqa: PLC0415

        settings = NotesSettings.model_validate({"type": "notes", "base_url": self.url})
        connector: Connector = settings.connect("notes")
        return connector


@pytest.fixture
def place(example: Path) -> Iterator[NotesServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = served.answer(self.path)
            self.send_response(served.status if content is not None else 404)
            self.send_header("ETag", etag(content or b""))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = NotesServer(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package as the page shows it, installed."""
    page = DOCS.read_text("utf-8")
    code = re.search(r"```python\n(# notes_connector\.py\n.*?)```", page, re.DOTALL)
    toml = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert code
    assert toml
    [offer] = [line for line in toml[1].splitlines() if "=" in line]
    site = tmp_path / "site"
    about = site / "notes_connector-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "notes_connector.py").write_text(code[1], encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: notes-connector\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[docweave.connectors]\n{offer.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(site)
    one_of.offered.cache_clear()
    yield site
    one_of.offered.cache_clear()
    one_of._LOADED.clear()
    sys.modules.pop("notes_connector", None)


def settings_file(folder: Path, source: str) -> Path:
    path = folder / "docweave.yaml"
    path.write_text(f"store: {{uri: db}}\nsources:\n  notes: {{{source}}}\n", encoding="utf-8")
    return path


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
class TestTheExample(ConnectorContract):
    """The contract, on the page's own connector."""

    def outage(self, place: NotesServer) -> AbstractContextManager[object]:
        return patch.object(place, "status", 503)

    def refusal(self, place: NotesServer) -> AbstractContextManager[object]:
        return patch.object(place, "status", 401)

    def half(self, place: NotesServer) -> AbstractContextManager[object]:
        return patch.object(place, "cut_at", 500)

    def repeating(self, place: NotesServer) -> AbstractContextManager[object]:
        return patch.object(place, "repeated", 2)


async def test_settings_can_name_it_and_a_second_run_loads_nothing(
    place: NotesServer, tmp_path: Path
) -> None:
    place.put("fern", b"# Fern\n\nA soil sensor.")
    settings = load_settings(settings_file(tmp_path, f"type: notes, base_url: '{place.url}'"))
    async with build_pipeline(settings) as pipeline:
        for loads in (["fern"], ["fern"]):
            [(connector, metadata)] = connectors(settings)
            report = await ingest_source(connector, pipeline, metadata=metadata)
            assert report.listed == 1
            assert place.loaded == loads
        assert await pipeline.store.counts() == {"notes": (1, 1)}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("type: notes, base_ulr: x", r"notes\.base_ulr: is an unknown key; valid: .*did you mean 'base_url'"),
        ("type: notes", r"notes\.base_url: is missing\. Where the server is"),
        ("type: nodes, base_url: x", r"notes\.type: is unknown; valid: .*notes.*did you mean 'notes'"),
    ],
)
def test_its_settings_are_checked_as_strictly_as_ours(
    example: Path, tmp_path: Path, source: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(settings_file(tmp_path, source))


def test_it_is_listed_and_not_imported_before_it_is_named(example: Path, tmp_path: Path) -> None:
    load_settings(settings_file(tmp_path, "type: files, path: ."))
    assert "notes_connector" not in sys.modules
    result = CliRunner().invoke(app, ["connectors", "--json"])
    found = {one["name"]: one for one in json.loads(result.stdout)["connectors"]}
    assert found["notes"]["offered_by"] == "notes-connector"
    assert found["notes"]["settings"]["base_url"]["required"]
    assert found["files"]["offered_by"] == ""
    text = CliRunner().invoke(app, ["connectors", "notes"]).stdout
    assert "base_url (must be given)" in text


def test_a_package_that_cannot_be_imported_is_named(example: Path, tmp_path: Path) -> None:
    (example / "notes_connector.py").write_text("import no_such_thing", encoding="utf-8")
    with pytest.raises(SettingsError, match="notes_connector:NotesSettings cannot be imported"):
        load_settings(settings_file(tmp_path, "type: notes"))


def test_an_unknown_type_is_told_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["connectors", "fils"])
    assert result.exit_code == 2
    assert "did you mean 'files'?" in result.stderr


def test_every_key_of_every_type_is_described() -> None:
    result = CliRunner().invoke(app, ["connectors", "--json"])
    for one in json.loads(result.stdout)["connectors"]:
        assert one["about"], one["name"]
        for key, about in one["settings"].items():
            assert about["description"], f"{one['name']}.{key}"


def test_settings_inside_others_are_told_by_their_whole_names() -> None:
    files, web = (CliRunner().invoke(app, ["connectors", name]).stdout for name in ("files", "web"))
    assert "\n  options\n" in files, "what is in it follows"
    assert "\n  options.region = null\n      Of the bucket, for s3://.\n" in files
    assert "\n  crawl.start (must be given)\n" in web


def test_a_type_that_lacks_its_package_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connectors.files import FilesSettings  # noqa: PLC0415

    monkeypatch.setattr(FilesSettings, "needs", {"no_such_module": "no-such-package"})
    monkeypatch.setattr(FilesSettings, "extra", "files")
    settings = load_settings(settings_file(tmp_path, "type: files, path: ."))
    with pytest.raises(SettingsError, match=r"needs no-such-package: pip install 'docweave\[files\]'"):
        connectors(settings)
    assert "not installed: pip install 'docweave[files]'" in CliRunner().invoke(app, ["connectors"]).stdout


async def test_after_a_change_of_what_a_document_is_made_of_every_document_is_read_anew(
    tmp_path: Path,
) -> None:
    with closing(sqlite3.connect(tmp_path / "notes.db")) as database:
        database.execute("CREATE TABLE notes (id TEXT, short TEXT, long TEXT, version INTEGER)")
        database.execute("INSERT INTO notes VALUES ('1', 'A fern.', 'A fern needs water.', 1)")
        database.commit()
    source = "type: sql, url: 'sqlite:///notes.db', table: notes, key_column: id, version_column: version"
    for column, counts in (("short", (1, 0)), ("short", (0, 0)), ("long", (0, 1))):
        settings = load_settings(settings_file(tmp_path, f"{source}, text_column: {column}"))
        async with build_pipeline(settings) as pipeline:
            [(connector, metadata)] = connectors(settings)
            report = await ingest_source(connector, pipeline, metadata=metadata)
        assert (report.added, report.changed) == counts

"""What the doctor says of each thing that can be wrong, and what to do about it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
from collections import namedtuple
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from time import time

import pytest
from typer.testing import CliRunner

from apps.cli import app
from config import doctor
from config.doctor import Diagnosis, clock_at, machine, skewed, surroundings
from tests.fakes import OracleEmbedder
from tests.settings_text import SOURCES, Load
from tests.world import World, text

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - as shutil has it


def of(what: str, found: list[Diagnosis]) -> Diagnosis:
    [one] = [one for one in found if one.what == what]
    return one


async def test_a_library_that_is_out_of_range_or_missing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of("versions", await machine()).state == "ok"
    version = metadata.version

    def other(name: str) -> str:
        if name == "tenacity":
            raise metadata.PackageNotFoundError(name)
        return "0.99.0" if name == "fastapi" else version(name) if name != "lancedb" else "0.41.0"

    monkeypatch.setattr(metadata, "version", other)
    said = of("versions", await machine())
    assert said.state == "fail"
    assert "lancedb is 0.41.0, and must be <0.41,>=0.40" in said.message
    assert "tenacity is missing" in said.message
    assert "./scripts/setup" in said.todo


async def test_a_temporary_folder_that_cannot_be_written_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    said = of("temporary", await machine())
    assert (said.state, said.message) == ("fail", "/no/such/folder: No such file or directory")
    assert "TMPDIR" in said.todo


async def test_few_descriptors_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource  # noqa: PLC0415 - not everywhere

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    said = of("open files", await machine())
    assert (said.state, said.message) == ("warn", "at most 256")
    assert "ulimit -n 4096, as an administrator" in said.todo


@pytest.mark.parametrize(("free", "state"), [(100 << 30, "ok"), (1 << 30, "warn"), (100 << 20, "fail")])
async def test_a_disk_that_fills_is_told(
    load: Load, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    said = of("disk", await surroundings(load(SOURCES)))
    assert said.state == state
    assert bool(said.todo) == (state != "ok")


def test_clocks_that_differ_are_told() -> None:
    assert skewed("clock", 12, "the server's").state == "ok"
    said = skewed("clock", -90, "the server's")
    assert (said.state, said.message) == ("warn", "90 s ahead of the server's")
    assert skewed("clock", 400, "the server's").state == "fail"


class Late(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(405)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time() - 600, usegmt=True)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def late_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Late)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def test_a_servers_clock_is_read_from_its_answer(late_server: str) -> None:
    said = await clock_at("clock (service)", late_server)
    assert said.state == "fail"
    assert re.fullmatch(r"(599|60\d) s ahead of 127\.0\.0\.1's", said.message)
    silent = await clock_at("clock (service)", "http://127.0.0.1:9")
    assert (silent.state, silent.message) == ("warn", "127.0.0.1 does not answer: ConnectError")


async def test_tables_are_told_one_by_one_with_what_is_due(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.stores.lance import LanceStore  # noqa: PLC0415 - heavy

    settings = load(f"store: {{uri: db}}\n{SOURCES}")
    assert of("tables", await surroundings(settings)).message.startswith("none yet")
    embedder = OracleEmbedder()
    world = World(store=await LanceStore.open(settings.store.uri, space=embedder.space), embedder=embedder)
    for turn in range(6):
        world.items.items[f"{turn}.md"] = text(f"turn{turn}")
        await world.ingest()
    async with world.store.lease("ingesting wiki"):
        found = await surroundings(settings)
    chunks = of("tables.chunks", found)
    assert (chunks.state, chunks.todo) == ("ok", "")
    assert "; in small files" in chunks.message
    monkeypatch.setattr(doctor, "LARGE_ROWS", 10)
    large = of("tables.chunks", await surroundings(settings))
    assert (large.state, large.todo) == ("warn", "docweave maintain")
    lease = of("lease", found)
    assert lease.state == "ok"
    assert "ingesting wiki" in lease.message


def test_the_command_ends_with_1_where_something_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    settings = tmp_path / "docweave.yaml"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nText.\n")
    settings.write_text(f"store: {{uri: db}}\n{SOURCES}")
    well = CliRunner().invoke(app, ["doctor", "--config", str(settings), "--json"])
    assert well.exit_code == 0, well.output
    told = json.loads(well.stdout)
    assert told["ok"] is True
    names = [one["what"] for one in told["diagnoses"]]
    assert {"python", "versions", "prefect", "settings", "sources.docs", "store", "disk", "clock"} <= {*names}
    settings.write_text("sources: {docs: {type: files, path: missing}}")
    ill = CliRunner().invoke(app, ["doctor", "--config", str(settings)])
    assert ill.exit_code == 1
    assert "FAILED   sources.docs" in ill.stdout
    assert "1 failed" in ill.stdout
    settings.write_text("sources: {docs: {type: filse, path: missing}}")
    wrong = CliRunner().invoke(app, ["doctor", "--config", str(settings)])
    assert wrong.exit_code == 1
    assert "FAILED   settings" in wrong.stdout


async def test_a_prefect_server_that_is_set_and_away_fails() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415 - slow

    from flows.doctor import scheduler  # noqa: PLC0415

    with temporary_settings({PREFECT_API_URL: "http://ada:secret@127.0.0.1:9/api"}):
        [said] = await scheduler()
    assert said.state == "fail"
    assert said.message.startswith("http://127.0.0.1:9/api does not answer")

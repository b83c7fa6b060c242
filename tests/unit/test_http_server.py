"""`docweave serve` as a process of its own, on this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from apps.cli import app
from apps.http.server import serve
from config.settings import Settings
from pipeline.errors import SettingsError
from tests.serving import ingested, new_key

DOCWEAVE = Path(sys.executable).with_name("docweave")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return ingested(tmp_path_factory.mktemp("served"))


def config_of(settings: Settings) -> Path:
    return Path(settings.store.uri).parent.parent / "docweave.yaml"


@contextmanager
def served(settings: Settings, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [str(DOCWEAVE), "serve", "--config", str(config_of(settings)), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        try:
            yield next(line for line in server.stderr if line.startswith("http")).strip(), server
        finally:
            server.kill()


def test_it_answers_until_it_is_told_to_stop_and_follows_the_keys(settings: Settings) -> None:
    keys = Path(settings.serve.keys)
    with served(settings) as (address, server), httpx.Client(base_url=address, timeout=60) as client:
        assert address.startswith("http://127.0.0.1:")
        found = client.get("/v1/search", params={"question": "parental leave", "limit": 1})
        assert found.json()["hits"][0]["key"] == "leave.md"
        assert "server" not in found.headers
        assert client.post("/v1/search", content=b" " * 300_000).status_code == 413
        try:
            headers = new_key(settings, "k")
            assert client.get("/v1/status").status_code == 401
            assert client.get("/v1/status", headers=headers).json()["documents"] == 3
        finally:
            keys.unlink()
        server.send_signal(signal.SIGTERM)
        began = time.monotonic()
        server.wait(30)
        assert time.monotonic() - began < 20


def test_where_other_machines_reach_it_it_does_not_start_without_a_key(settings: Settings) -> None:
    for host in ("0.0.0.0", "::"):  # noqa: S104 - it refuses
        command = [
            str(DOCWEAVE),
            "serve",
            "--config",
            str(config_of(settings)),
            "--host",
            host,
            "--port",
            "0",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "docweave keys create" in done.stderr
    headers = new_key(settings, "k")
    try:
        with served(settings, "--host", "0.0.0.0") as (address, _):  # noqa: S104 - with a key
            url = address.replace("0.0.0.0", "127.0.0.1") + "/v1/status"  # noqa: S104 - as above
            assert httpx.get(url, timeout=60).status_code == 401
            assert httpx.get(url, headers=headers, timeout=60).status_code == 200
    finally:
        Path(settings.serve.keys).unlink()


def test_docweave_up_refuses_the_same_before_anything_is_started(settings: Settings) -> None:
    config = config_of(settings)
    options = ["--host", "0.0.0.0", "--port", "0"]  # noqa: S104 - it refuses
    done = CliRunner().invoke(app, ["up", "--config", str(config), *options])
    assert done.exit_code == 2
    assert "docweave keys create" in done.stderr
    assert not (config.parent / ".docweave/prefect").exists()


def test_an_address_that_is_taken_is_told(settings: Settings) -> None:
    with served(settings) as (address, _):
        port = address.rpartition(":")[2]
        command = [str(DOCWEAVE), "serve", "--config", str(config_of(settings)), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert f"cannot listen at 127.0.0.1, port {port}: Address already in use" in done.stderr


def test_a_secret_that_cannot_be_read_is_told_at_the_start_and_to_nobody_else(tmp_path: Path) -> None:
    config = tmp_path / "docweave.yaml"
    config.write_text(
        "sources: {notes: {type: files, path: notes}}\n"
        "store: {uri: s3://bucket/tables, options: {secret_access_key: 'file:gone.key'}}\n"
    )
    with pytest.raises(SettingsError, match=r"gone\.key, where a secret should be, does not exist"):
        serve([config], port=0)

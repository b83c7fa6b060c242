"""`docweave up` as people run it: a scheduled run completes, a search is answered, nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

PATIENCE_SECONDS = 300.0
"""It takes twenty on an idle machine."""


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str], log: Path) -> Any:
    """Whatever it gives that is true."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            if given := what():
                return given
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    raise AssertionError(log.read_text())


def test_a_scheduled_run_completes_and_when_it_is_stopped_nothing_is_left(handbook: Path) -> None:
    minutes, seconds = ",".join(map(str, range(60))), ",".join(map(str, range(0, 60, 5)))
    since = f"DTSTART:{datetime.now(UTC):%Y%m%d}T000000"
    often = f'{{rrule: "{since}\\nRRULE:FREQ=HOURLY;BYMINUTE={minutes};BYSECOND={seconds}"}}'
    handbook.write_text(handbook.read_text() + f"schedule: {often}\n")
    prefect, port, log = free_port(), free_port(), handbook.parent / "up.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {
        "PREFECT_PROFILES_PATH": str(handbook.parent / "profiles.toml"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    command = [sys.executable, "-m", "apps", "up", "--config", str(handbook)]
    command += ["--prefect-port", str(prefect), "--port", str(port)]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, text=True)
    try:
        address = f"http://127.0.0.1:{prefect}/api"
        wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        [run, *_] = wait_for(
            lambda: httpx.post(f"{address}/flow_runs/filter", json=wanted).raise_for_status().json(),
            process,
            log,
        )
        assert run["state"]["message"] == "2 sources ingested"
        assert run["auto_scheduled"] is True
        told = httpx.get(f"{address}/admin/settings").raise_for_status().json()
        assert told["ui_url"] == f"http://127.0.0.1:{prefect}"  # what links in messages begin with
        question = f"http://127.0.0.1:{port}/v1/search?question=How+long+is+the+button+held"
        answer = wait_for(lambda: httpx.get(question).raise_for_status().json(), process, log)
        assert any("ten seconds" in hit["text"] for hit in answer["hits"])
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 3
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert process.wait(45) == 0, log.read_text()
        assert time.monotonic() - begun < 30
        assert [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        process.kill()
        process.wait()
    assert (handbook.parent / ".docweave/prefect/prefect.db").exists()


def test_a_port_that_is_taken_is_told_with_what_to_do(handbook: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ["--config", str(handbook), "--port", "0", "--prefect-port", port]
        command = [sys.executable, "-m", "apps", "up", *options]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=90)
    assert ended.returncode == 2, ended.stderr
    assert f"port {port} is taken. If that is a Prefect server, set PREFECT_API_URL=" in ended.stderr

"""What can be held of the files in deploy/ without a Docker engine: that they name what there is."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from apps.cli import app
from config.load import load_settings
from config.serving import ServingSettings
from tests.settings_text import ROOT

DEPLOY = ROOT / "deploy"
SYSTEMD = DEPLOY / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return value


def test_the_image_has_all_that_the_wheel_is_made_of_and_no_secret() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"COPY {package} {package}\n" in text
    let_in = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8"), re.MULTILINE)
    copied = [
        name for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE) for name in line.split()
    ]
    assert set(copied) == set(let_in)
    assert all((ROOT / name).exists() for name in copied)
    assert not re.search(r"(?i)^(env|arg).*(key|secret|token|password)", text, re.MULTILINE)
    assert re.search(r"^USER 10001$", text, re.MULTILINE)


def test_ports_are_open_on_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_links_in_messages_and_logs_lead_to_the_pages_of_prefects_server(compose: dict[str, Any]) -> None:
    services = compose["services"]
    said = {name: services[name]["environment"].get("PREFECT_UI_URL") for name in ("prefect", "worker")}
    assert said == dict.fromkeys(said, "http://localhost:4200")
    unit = (DEPLOY / "systemd" / "docweave-prefect.service").read_text("utf-8")
    assert "PREFECT_UI_URL=http://127.0.0.1:4200" in unit


def test_what_is_written_has_a_place_though_images_and_environments_are_read_only(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    [uid] = re.findall(r"^USER (\d+)$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    for service in (service for name, service in services.items() if name != "postgres"):
        assert service["read_only"]
        # `mode=` alone is not heeded by every engine.
        assert f"/home/docweave:uid={uid},gid={uid},mode=0700" in service["tmpfs"]
    server = services["prefect"]["environment"]
    assert server["PREFECT_SERVER_UI_STATIC_DIRECTORY"].startswith("/tmp/")  # noqa: S108 - in the container
    # Who runs now outlives the server: or else a run that was cut off with it blocks its schedule for good.
    assert server["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")
    assert services["prefect"]["volumes"] == [f"prefect:{server['PREFECT_HOME']}"]
    unit = (SYSTEMD / "docweave-prefect.service").read_text("utf-8")
    assert "PREFECT_SERVER_UI_STATIC_DIRECTORY=/var/lib/docweave/" in unit
    assert "PREFECT_HOME=/var/lib/docweave/" in unit
    assert "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=" in unit


WORKER = f"""#!{sys.executable}
# Stands in for a worker of Prefect's: told to stop, it kills its run at once.
import pathlib, signal, subprocess, sys
script = 'trap "sleep 0.2; echo run >> told; exit" TERM; touch ready; read line'
run = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE)
def stop(*_):
    run.kill()
    with pathlib.Path("told").open("a") as file:
        file.write("worker")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
run.wait()
signal.pause()
"""
linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="containers and units are of Linux")


def begun(folder: Path) -> None:
    for _ in range(200):
        if (folder / "ready").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the run did not begin")


@linux
def test_a_container_that_is_stopped_lets_runs_end_before_their_worker(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "prefect").write_text(WORKER, "utf-8")
    (tmp_path / "prefect").chmod(0o700)
    command = [words.replace("$$", "$") for words in compose["services"]["worker"]["command"]]
    path = f"{tmp_path}:{os.environ['PATH']}"
    container = subprocess.Popen(command, cwd=tmp_path, env={"PATH": path}, start_new_session=True)
    try:
        begun(tmp_path)
        container.terminate()
        assert container.wait(10) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(container.pid, signal.SIGKILL)
    assert (tmp_path / "told").read_text("utf-8").split() == ["run", "worker"]


@linux
def test_a_unit_that_is_stopped_lets_runs_end_before_their_worker(tmp_path: Path) -> None:
    unit = (SYSTEMD / "docweave-worker.service").read_text("utf-8")
    [stop] = re.findall(r"^ExecStop=(.+)$", unit, re.MULTILINE)
    (tmp_path / "prefect").write_text(WORKER, "utf-8")
    worker = subprocess.Popen([sys.executable, "prefect"], cwd=tmp_path, start_new_session=True)
    try:
        begun(tmp_path)
        words = [word.replace("$MAINPID", str(worker.pid)).replace("$$", "$") for word in shlex.split(stop)]
        subprocess.run(words, timeout=10, check=True)
        assert (tmp_path / "told").read_text("utf-8").split() == ["run"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)


def test_secrets_come_from_a_file_that_git_ignores(compose: dict[str, Any]) -> None:
    assert "secrets.env" in (DEPLOY / ".gitignore").read_text("utf-8").splitlines()
    example = (DEPLOY / "secrets.env.example").read_text("utf-8")
    for name, service in compose["services"].items():
        assert service["env_file"] == ["secrets.env"], name
        assert not [
            key for key in service.get("environment", {}) if re.search("PASSWORD|KEY|CONNECTION", key)
        ]
    assert {"POSTGRES_PASSWORD", "PREFECT_SERVER_DATABASE_CONNECTION_URL"} <= set(
        re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)
    )


def test_services_wait_for_services_and_mount_volumes_that_there_are(compose: dict[str, Any]) -> None:
    services, volumes = compose["services"], compose["volumes"]
    for service in services.values():
        for other, wants in service.get("depends_on", {}).items():
            assert other in services
            if wants["condition"] == "service_healthy":
                assert "healthcheck" in services[other]
        for mount in service.get("volumes", []):
            place = mount.partition(":")[0]
            example = DEPLOY / f"{place}.example"
            assert place in volumes or (DEPLOY / place).exists() or example.exists(), place


def commands(compose: dict[str, Any]) -> list[list[str]]:
    """What containers, units, the image and the comments beside them run, without folders."""
    found = [service["command"] for service in compose["services"].values() if "command" in service]
    scripts = [words[-1] for words in found if words[0] == "sh"]
    found = [words for words in found if words[0] != "sh"]
    found += [
        shlex.split(line) for text in scripts for line in re.findall(r"prefect worker start [^&]+", text)
    ]
    for unit in UNITS:
        lines = re.findall(r"^ExecStart(?:Pre)?=\S*/bin/(.+)$", unit.read_text("utf-8"), re.MULTILINE)
        found += [shlex.split(line) for line in lines]
    image = re.findall(r"^CMD (\[.+\])$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    found += [yaml.safe_load(line) for line in image]
    for file in (DEPLOY / "compose.yaml", DEPLOY / "docweave.yaml.example", ROOT / "docs" / "operating.md"):
        told = re.findall(r"run --rm search (docweave .+)$", file.read_text("utf-8"), re.MULTILINE)
        found += [shlex.split(line) for line in told]
    return found


def test_commands_of_containers_and_units_are_there_with_their_options(compose: dict[str, Any]) -> None:
    found = commands(compose)
    assert len(found) >= 11
    assert len([words for words in found if words[:2] == ["prefect", "worker"]]) == 2
    for words in found:
        {"docweave": understood_by_docweave, "prefect": understood_by_prefect}[words[0]](words[1:])
    with pytest.raises(Exception, match="No such option"):
        understood_by_docweave(["deploy", "--prunes"])


def understood_by_docweave(words: Sequence[str]) -> None:
    """Raises what the command line would say, and runs nothing."""
    command: Any = get_command(app)
    context, rest = command.make_context("docweave", [*words[:1], "--help"], resilient_parsing=True), [*words]
    while isinstance(getattr(command, "commands", None), dict):
        name, command, rest = command.resolve_command(context, rest)
        context = type(context)(command, parent=context, info_name=name)
    command.parse_args(context, rest)


def understood_by_prefect(words: Sequence[str]) -> None:
    """The same of Prefect's."""
    import prefect.cli.server  # noqa: PLC0415 - takes a second
    import prefect.cli.worker  # noqa: PLC0415

    apps = {"server": prefect.cli.server.server_app, "worker": prefect.cli.worker.worker_app}
    apps[words[0]].parse_args(words[1:], exit_on_error=False, print_error=False)


def test_environment_variables_are_those_that_docweave_and_prefect_read(compose: dict[str, Any]) -> None:
    from prefect.settings.legacy import _get_valid_setting_names  # noqa: PLC0415 - takes a second
    from prefect.settings.models.root import Settings as Prefects  # noqa: PLC0415

    names = {name for service in compose["services"].values() for name in service.get("environment", {})}
    text = "".join(file.read_text("utf-8") for file in [DEPLOY / "Dockerfile", *UNITS])
    names |= set(re.findall(r"\b((?:PREFECT|DOCWEAVE)_[A-Z_]+)=", text))
    names |= set(
        re.findall(r"^([A-Z_]+)=", (DEPLOY / "secrets.env.example").read_text("utf-8"), re.MULTILINE)
    )
    code = "".join(
        file.read_text("utf-8") for room in ("apps", "config") for file in (ROOT / room).rglob("*.py")
    )
    of_others = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}  # of the image `postgres`
    ours = {name for name in names - of_others if not name.startswith("PREFECT_")}
    assert ours == {"DOCWEAVE_CONFIG", "DOCWEAVE_LOG", "PERPLEXITY_API_KEY"}
    assert all(f'"{name}"' in code for name in ours if name.startswith("DOCWEAVE_"))
    assert {name for name in names if name.startswith("PREFECT_")} <= _get_valid_setting_names(Prefects)


def test_health_is_asked_where_it_is_told(compose: dict[str, Any]) -> None:
    from prefect.settings.models.worker import WorkerWebserverSettings as Workers  # noqa: PLC0415

    from apps.http.health import router  # noqa: PLC0415 - fastapi

    image = (DEPLOY / "Dockerfile").read_text("utf-8")
    [(port, path)] = re.findall(r"urlopen\('http://127\.0\.0\.1:(\d+)(/\w+)'", image)
    assert path in {getattr(route, "path", "") for route in router.routes}
    assert int(port) == ServingSettings().port
    assert f"EXPOSE {port}\n" in image
    assert compose["services"]["search"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    services = compose["services"]
    assert "http://127.0.0.1:4200/api/health" in services["prefect"]["healthcheck"]["test"][-1]
    assert f"http://127.0.0.1:{Workers().port}/health" in services["worker"]["healthcheck"]["test"][-1]
    assert "--with-healthcheck" in services["worker"]["command"][-1]
    # By TCP: while the image sets its database up, its server is at the socket alone.
    assert "--host" in services["postgres"]["healthcheck"]["test"]
    others = {"postgres", "prefect", "worker", "search"}  # the image's own check asks the search API
    assert all(
        service["healthcheck"] == {"disable": True}
        for name, service in services.items()
        if name not in others
    )


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    if not (program := shutil.which("systemd-analyze")):
        pytest.skip("no systemd here")
    for file in SYSTEMD.iterdir():
        # What they run is not installed here.
        text = re.sub(r"^(ExecStart(?:Pre)?=)\S+", r"\1/bin/sh", file.read_text("utf-8"), flags=re.MULTILINE)
        (tmp_path / file.name).write_text(text, "utf-8")
    units = sorted(str(file) for file in tmp_path.iterdir())
    told = subprocess.run(
        [program, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    about = [line for line in told.stderr.splitlines() if "docweave" in line]
    assert about == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_run_as_a_user_without_rights(unit: Path) -> None:
    text = unit.read_text("utf-8")
    for line in ("User=docweave", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert f"\n{line}\n" in text
    assert "EnvironmentFile=-/etc/docweave/secrets.env" in text


def test_the_example_settings_are_settings(tmp_path: Path) -> None:
    file = tmp_path / "docweave.yaml"
    file.write_text((DEPLOY / "docweave.yaml.example").read_text("utf-8"), encoding="utf-8")
    settings = load_settings(file)
    assert settings.store.uri == "/data/lancedb"
    assert settings.serve.keys == "/data/keys.json"
    assert settings.deploy.pool == "docweave"

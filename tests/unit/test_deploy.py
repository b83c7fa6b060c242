"""What can be held of the files in deploy/ without a Docker engine: that they name what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from apps.cli import app
from config.load import load_settings
from tests.settings_text import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMMANDS = set(get_command(app).commands)  # type: ignore[attr-defined]


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


def test_commands_of_containers_and_units_are_docweaves(compose: dict[str, Any]) -> None:
    run = [service["command"] for service in compose["services"].values() if "command" in service]
    run += [
        line.split()
        for unit in UNITS
        for line in re.findall(r"^ExecStart(?:Pre)?=\S*/bin/(.+)$", unit.read_text("utf-8"), re.MULTILINE)
    ]
    ours = [words for words in run if words[0] == "docweave"]
    assert len(ours) >= 4
    assert {words[1] for words in ours} <= COMMANDS
    assert {words[0] for words in run} == {"docweave", "prefect"}


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

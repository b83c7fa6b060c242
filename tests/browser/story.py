"""What happened on the Prefect server that the browser looks at: runs of a worker, and what came of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.loopback import Asked, Said, serving
from tests.prefect_server import PrefectServer, worker

EXAMPLES = Path(__file__).parents[2] / "examples"
AUTOMATIONS = sorted((EXAMPLES / "automations").glob("*.yaml"))
POOL = "docweave"
SETTINGS = """\
store: {uri: tables}
deploy: {name: company, pool: docweave}
sources:
  handbook:
    type: files
    path: documents
    removals: {when_withheld: ask}
    schedule: {cron: "0 6 * * *", timezone: Europe/Berlin}
  minutes:
    type: files
    path: not-mounted
    schedule: {interval: 1h}
  devices:
    type: files
    path: documents/devices
    schedule: {cron: "* * * * *", paused: true}
"""
WITHIN = 120.0
"""Seconds that a run may take. It takes five on an idle machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A server whose worker ingests the sample documents."""

    server: PrefectServer
    folder: Path
    """The settings, the documents and the tables."""
    messages: list[dict[str, str]] = field(default_factory=list)
    """What automations have sent."""

    @property
    def documents(self) -> Path:
        """The folder of the source `handbook`."""
        return self.folder / "documents"

    def page(self, path: str) -> str:
        """The address of one of the server's pages."""
        return f"{self.server.url.removesuffix('/api')}/{path}"

    def api(self, path: str, **asked: Any) -> Any:
        """What the server answers; while its database is locked, it asks to be asked again."""
        until = time.monotonic() + WITHIN
        while True:
            done = httpx.post(f"{self.server.url}/{path}", json=asked, trust_env=False, timeout=30)
            if done.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
                done.raise_for_status()
                return done.json() if done.content else None
            time.sleep(0.5)

    def begin(self, deployment: str) -> str:
        """Have the worker run a deployment; gives the run's id."""
        [found] = self.api("deployments/filter", deployments={"name": {"any_": [deployment]}})
        run = self.api(f"deployments/{found['id']}/create_flow_run", state={"type": "SCHEDULED"})
        return str(run["id"])

    @contextmanager
    def on_schedule(self, deployment: str) -> Iterator[None]:
        """Have the scheduler begin runs of a paused deployment until the block ends."""
        address = f"deployments/{self.deployment_id(deployment)}"
        self.api(f"{address}/resume_deployment")
        try:
            yield
        finally:
            self.api(f"{address}/pause_deployment")

    def scheduled(self, deployment: str) -> str:
        """The id of the first run that the scheduler has made of a deployment."""
        asked = {"deployment_id": {"any_": [self.deployment_id(deployment)]}}
        until = time.monotonic() + WITHIN
        while time.monotonic() < until:
            runs = self.api("flow_runs/filter", flow_runs=asked, sort="EXPECTED_START_TIME_ASC", limit=1)
            if runs and runs[0]["auto_scheduled"]:
                return str(runs[0]["id"])
            time.sleep(0.3)
        raise AssertionError(f"the scheduler makes no run of {deployment}")

    def deployment_id(self, deployment: str) -> str:
        [found] = self.api("deployments/filter", deployments={"name": {"any_": [deployment]}})
        return str(found["id"])

    def wait(self, run: str, *states: str) -> dict[str, Any]:
        """The run, once it is in one of these states."""
        until = time.monotonic() + WITHIN
        while time.monotonic() < until:
            [found] = self.api("flow_runs/filter", flow_runs={"id": {"any_": [run]}})
            if found["state_name"] in states:
                return dict(found)
            if found["state_type"] in {"FAILED", "CRASHED", "CANCELLED"}:
                break
            time.sleep(0.3)
        raise AssertionError(f"the run is {found['state_name']}: {found['state']['message']}")

    def artifact(self, run: str, key: str) -> str:
        """The id of a run's last artifact of this key."""
        asked = {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}
        return str(self.api("artifacts/filter", artifacts=asked, sort="CREATED_DESC")[0]["id"])

    def told(self, words: str) -> dict[str, str]:
        """The message that an automation sent, once there is one with these words."""
        until = time.monotonic() + WITHIN
        while time.monotonic() < until:
            for message in list(self.messages):
                if words in message["subject"]:
                    return message
            time.sleep(0.2)
        raise AssertionError(f"no message says {words!r}: {self.messages}")


@contextmanager
def telling_a_story(server: PrefectServer, folder: Path) -> Iterator[Story]:
    """A worker, two deployments, and automations that send their messages here."""
    story = Story(server=server, folder=folder)
    shutil.copytree(EXAMPLES / "handbook", story.documents)
    (story.documents / "support/broken.pdf").write_bytes(b"not a pdf")
    config = folder / "docweave.yaml"
    config.write_text(SETTINGS, encoding="utf-8")

    def keep(asked: Asked) -> Said:
        story.messages.append(json.loads(asked.body))
        return Said(content={})

    with serving(keep) as address, worker(server, POOL, folder / "worker.log"):
        _run(server, "apps", "deploy", "--config", str(config))
        _automate(story, address)
        yield story


def _automate(story: Story, address: str) -> None:
    """Create the example automations as their documentation says, with a block that tells us."""
    said = [yaml.safe_load(path.read_text("utf-8")) for path in AUTOMATIONS]
    block = _notification_block(story, address)
    for action in (action for one in said for action in one["actions"]):
        if "block_document_id" in action:
            action["block_document_id"] = block
    together = story.folder / "automations.yaml"
    together.write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")
    _run(story.server, "prefect", "automation", "create", "--from-file", str(together))


def _notification_block(story: Story, address: str) -> str:
    """The id of a block that posts what it is to tell."""
    kinds = story.api("block_types/filter", block_types={"slug": {"any_": ["custom-webhook"]}})
    asked = {"block_type_id": {"any_": [kinds[0]["id"]]}}
    [schema] = story.api("block_schemas/filter", block_schemas=asked, limit=1)
    made = story.api(
        "block_documents/",
        name="docweave-messages",
        block_type_id=kinds[0]["id"],
        block_schema_id=schema["id"],
        data={"name": "here", "url": address, "json_data": {"subject": "{{subject}}", "body": "{{body}}"}},
    )
    return str(made["id"])


def _run(server: PrefectServer, module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **server.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN,
    )
    assert done.returncode == 0, done.stdout + done.stderr

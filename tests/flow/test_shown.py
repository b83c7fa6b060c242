"""What the scheduler is told of a run: names, tags, events, assets, and a trend that does not grow."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from config.load import load_settings
from config.settings import Settings
from flows.summary import counts
from pipeline.errors import ParseError
from pipeline.report import SourceReport

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Prefect's clients, at the end of a loop
]
AUTOMATIONS = Path(__file__).parents[2] / "examples/automations"


async def run(config: Path, **parameters: Any) -> Any:
    """The final state of a run."""
    from flows.ingest import ingest

    return await ingest(str(config), **parameters, return_state=True)


async def asked(path: str, **body: Any) -> Any:
    """What the server answers."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return (await client._client.post(path, json=body)).json()


async def events(state: Any, name: str, expected: int) -> list[dict[str, Any]]:
    """A run's events of this name; they arrive a moment later."""
    related = {"id": [f"prefect.flow-run.{state.state_details.flow_run_id}"]}
    for _ in range(100):
        found = await asked("/events/filter", filter={"event": {"name": [name]}, "related": related})
        if len(found["events"]) >= expected:
            break
        await anyio.sleep(0.1)
    return list(found["events"])


def settings(folder: Path, said: dict[str, Any]) -> Settings:
    path = folder / "docweave.yaml"
    path.write_text(yaml.safe_dump(said), encoding="utf-8")
    return load_settings(path)


def edit(config: Path, before: str, after: str) -> None:
    config.write_text(config.read_text("utf-8").replace(before, after), encoding="utf-8")


def reports(**sources: dict[str, int]) -> list[dict[str, Any]]:
    return [counts(SourceReport(source=name, **done)) for name, done in sources.items()]


def test_a_name_tells_what_was_done_over_all_sources() -> None:
    from flows.naming import begun, ended

    assert begun(["a"]) == "a"
    assert begun(["a", "b", "c", "d", "e"], rebuild=True) == "rebuild a, b, c and 2 more"
    two = reports(a={"added": 1_200, "changed": 12}, b={"changed": 1, "withheld": 40})
    assert ended("a, b", two) == "a, b · 1,200 added, 13 changed, 40 withheld"
    assert ended("a, b", two, failed=1).endswith(", 1 of 3 sources failed")
    assert ended("a", reports(a={"unchanged": 9})) == "a · no change"
    assert ended("a", [], failed=1) == "a · failed"
    skipped = counts(SourceReport(source="a", skipped="another run is at it"))
    assert ended("a", [skipped]) == "a · skipped"


def test_bars_are_as_high_as_what_they_stand_for() -> None:
    from flows.artifacts import bars, row, trend

    assert bars([0, 1, 7]) == "▁▂█"
    assert bars([0, 0]) == "▁▁"
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    newest = row(SourceReport(source="a", listed=9, added=4, cost_usd=0.25), at)
    oldest = row(SourceReport(source="a", listed=5, added=5), at, ParseError("no"))
    assert (newest["at (UTC)"], newest["run"], oldest["run"]) == ("2026-01-02 03:04", "ok", "ParseError")
    assert trend([newest, oldest]) == "2 runs, oldest first · documents written █▇ 9 · money ▁█ $0.2500"


def test_an_assets_key_has_no_credentials(tmp_path: Path) -> None:
    from flows import addresses, assets

    feed = {"type": "feed", "url": "https://news.example/feed.xml?token=abc"}
    said = settings(tmp_path, {"store": {"uri": "s3://bucket/some where"}, "sources": {"news": feed}})
    assert assets.table(said).key == "lance:///s3/bucket/some_where/chunks"
    source = assets.source(said, "news")
    assert source.key == "feed://news"
    assert source.properties
    assert source.properties.url == "https://news.example/feed.xml"
    assert addresses.bare("https://me:word@host:8443/a?b=c#d") == "https://host:8443/a"
    here = settings(tmp_path, {"sources": {"docs": {"type": "files", "path": "."}}})
    assert assets.table(here).key == f"lance://{tmp_path}/.docweave/lancedb/chunks".replace("[", "_")


async def test_a_run_is_tagged_with_its_sources(handbook: Path) -> None:
    from prefect.client.orchestration import get_client

    state = await run(handbook, sources=["wiki"])
    async with get_client() as client:
        found = await client.read_flow_run(state.state_details.flow_run_id)
    assert found.tags == ["wiki"]


async def test_a_source_that_was_ingested_is_an_event_with_its_counts_and_its_table(handbook: Path) -> None:
    state = await run(handbook)
    found = {
        one["resource"]["docweave.source"]: one for one in await events(state, "docweave.source.ingested", 2)
    }
    assert set(found) == {"handbook", "wiki"}
    payload = found["handbook"]["payload"]
    assert (payload["added"], payload["failed"], payload["chunks"]) == (3, 0, 3)
    roles = {one["prefect.resource.role"]: one["prefect.resource.id"] for one in found["handbook"]["related"]}
    assert roles["table"] == f"lance://{handbook.parent}/db/chunks"
    assert "flow-run" in roles
    assert "button" not in json.dumps(found), "a word of a document"


async def test_the_table_is_an_asset_that_is_made_of_the_source(handbook: Path) -> None:
    state = await run(handbook, sources=["handbook"])
    [made] = await events(state, "prefect.asset.materialization.succeeded", 1)
    assert made["resource"]["prefect.resource.id"] == f"lance://{handbook.parent}/db/chunks"
    assert "files://handbook" in {one["prefect.resource.id"] for one in made["related"]}
    assert made["payload"]["documents"] == made["payload"]["rows"] == 3
    assert made["payload"]["source"] == "handbook"
    assert "local" in made["payload"]["space"]


async def test_failed_documents_are_events_up_to_a_bound(handbook: Path) -> None:
    from flows.events import FAILED_DOCUMENTS

    for number in range(FAILED_DOCUMENTS + 5):
        (handbook.parent / f"documents/handbook/{number:02}.pdf").write_bytes(b"not a pdf")
    state = await run(handbook, sources=["handbook"])
    [ingested] = await events(state, "docweave.source.ingested", 1)
    assert ingested["payload"]["failed"] == FAILED_DOCUMENTS + 5
    failed = await events(state, "docweave.document.failed", FAILED_DOCUMENTS)
    assert len(failed) == FAILED_DOCUMENTS
    assert {one["payload"]["error"] for one in failed} == {"ParseError"}


async def test_the_trend_goes_back_over_runs_and_is_kept_once(handbook: Path) -> None:
    edit(handbook, "wiki:", "trending:")
    for _ in range(3):
        await run(handbook, sources=["trending"])
    key = {"key": {"any_": ["ingest-trending-trend"]}}
    [found] = await asked("/artifacts/filter", artifacts=key)
    rows = json.loads(found["data"])
    assert [one["written"] for one in rows] == [0, 0, 1], "the newest first"
    assert len(found["data"]) < 500 * len(rows)


async def test_removals_that_would_be_asked_about_are_reported_where_no_worker_could_resume(
    handbook: Path,
) -> None:
    folder = handbook.parent / "documents/wiki"
    for number in range(30):
        (folder / f"{number}.md").write_text(f"Page {number}.")
    edit(handbook, "path: documents/wiki", "path: documents/wiki, removals: {when_withheld: ask}")
    await run(handbook, sources=["wiki"])
    for number in range(20):
        (folder / f"{number}.md").unlink()
    state = await run(handbook, sources=["wiki"])
    assert state.is_completed()
    [event] = await events(state, "docweave.removals.withheld", 1)
    assert event["payload"] == {"withheld": 20, "stored": 31}


async def test_a_server_that_shows_nothing_does_not_fail_a_run(
    handbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import artifacts, naming, telling

    async def hangs(*_: Any, **__: Any) -> None:
        await anyio.sleep_forever()

    def refuses(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(telling, "PATIENCE", 0.2)
    monkeypatch.setattr(telling, "acreate_markdown_artifact", hangs)
    monkeypatch.setattr(telling, "acreate_progress_artifact", hangs)
    monkeypatch.setattr(artifacts, "get_client", refuses)
    monkeypatch.setattr(naming, "get_client", refuses)
    state = await run(handbook, sources=["wiki"])
    assert state.is_completed()


@pytest.mark.parametrize("path", sorted(AUTOMATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_automation_is_one(path: Path) -> None:
    from prefect.events.schemas.automations import AutomationCore

    automation = AutomationCore.model_validate(yaml.safe_load(path.read_text("utf-8")))
    assert automation.name.startswith("Docweave: ")

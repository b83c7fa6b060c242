"""What Prefect's pages say of Docweave's runs, read in a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.looking import Looking
from tests.browser.story import Story, telling_a_story
from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Prefect's clients


@pytest.fixture(scope="module")
def story(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with telling_a_story(server, tmp_path_factory.mktemp("company")) as story:
        yield story


@pytest.fixture(scope="module")
def ingested(story: Story) -> dict[str, Any]:
    """A run that ingested the sample documents; beside it, one whose folder is not there has failed."""
    lost = story.begin("company.minutes")
    run = story.wait(story.begin("company.handbook"), "Completed")
    story.wait(lost, "Failed")
    return run


@pytest.fixture(scope="module")
def suspended(story: Story, ingested: dict[str, Any]) -> dict[str, Any]:
    """A run that waits for an answer: two folders of documents have vanished, and one was edited."""
    for name in ("operations", "people"):
        for path in (story.documents / name).iterdir():
            path.unlink()
    edited = story.documents / "devices/fern.md"
    edited.write_text(f"{edited.read_text('utf-8')}\nIt is green.\n", encoding="utf-8")
    return story.wait(story.begin("company.handbook"), "Suspended")


def test_runs_are_named_by_what_they_did(story: Story, looking: Looking, ingested: dict[str, Any]) -> None:
    assert ingested["name"] == "handbook · 36 added, 1 failed"
    looking.at(story.page("runs"), "handbook · 36 added, 1 failed", "minutes · failed", "company.handbook")
    looking.keep("runs", folder=story.folder, height=940)


def test_a_runs_page_has_its_artifacts_and_a_log_line_for_a_failed_document(
    story: Story, looking: Looking, ingested: dict[str, Any]
) -> None:
    page = looking.at(
        story.page(f"runs/flow-run/{ingested['id']}"),
        "handbook · 36 added, 1 failed",
        "handbook: support/broken.pdf: ParseError: ",
        "37 documents: 36 added, 1 failed",
    )
    looking.keep("run", folder=story.folder, height=1200)
    page.get_by_role("tab", name="Artifacts").or_(page.get_by_text("Artifacts", exact=True)).first.click()
    looking.sees("ingest-handbook-progress", "ingest-handbook-trend")


def test_a_page_for_each_source_tells_counts_stages_and_failures(
    story: Story, looking: Looking, ingested: dict[str, Any]
) -> None:
    artifact = story.artifact(ingested["id"], "ingest-handbook")
    looking.at(
        story.page(f"artifacts/artifact/{artifact}"),
        "documents listed",
        "Seconds in each stage",
        "embedding",
        "Failed documents",
        "support/broken.pdf",
        "is no PDF file",
    )
    looking.keep("source", folder=story.folder)


def test_a_table_tells_what_the_last_runs_wrote_and_paid(
    story: Story, looking: Looking, suspended: dict[str, Any]
) -> None:
    artifact = story.artifact(suspended["id"], "ingest-handbook-trend")
    page = looking.at(story.page(f"artifacts/artifact/{artifact}"), "2 runs, oldest first", "withheld", "usd")
    expect(page.get_by_role("row")).to_have_count(3)
    looking.keep("trend", folder=story.folder)


def test_the_events_tell_of_sources_documents_and_the_tables(
    story: Story, looking: Looking, suspended: dict[str, Any]
) -> None:
    page = looking.at(
        story.page("events"),
        "docweave.source.ingested",
        "docweave.document.failed",
        "docweave.removals.withheld",
        "docweave.source.handbook",
        f"lance://{story.folder}/tables/chunks",
        "files://handbook",
    )
    told = page.get_by_text("docweave.removals.withheld", exact=True).first
    told.evaluate("element => element.scrollIntoView({block: 'center'})")
    looking.keep("events", folder=story.folder)


def test_removals_are_approved_in_the_form_of_the_suspended_run(
    story: Story, looking: Looking, suspended: dict[str, Any]
) -> None:
    assert suspended["name"] == "handbook · 1 changed, 1 failed, 17 withheld"
    page = looking.at(story.page(f"runs/flow-run/{suspended['id']}"), "Suspended", "removals-withheld")
    page.get_by_role("button", name="Resume").click()
    looking.sees("handbook: remove 17 documents", "operations/calibration-bench.docx", "and 7 more")
    page.get_by_role("switch").or_(page.locator("[role=dialog] input[type=checkbox]")).first.click(force=True)
    looking.keep("approve", folder=story.folder)
    page.get_by_role("button", name="Submit").click()
    run = story.wait(suspended["id"], "Completed")
    assert run["name"] == "handbook · 17 removed, 1 failed"
    assert "removals-withheld" not in run["tags"]
    looking.at(story.page(f"runs/flow-run/{suspended['id']}"), "handbook · 17 removed, 1 failed")
    looking.keep("approved", folder=story.folder)


def test_the_example_automations_send_their_messages(
    story: Story, looking: Looking, suspended: dict[str, Any]
) -> None:
    assert "SourceRefused" in story.told("minutes · failed")["body"]
    assert "17 of 36 are no longer listed" in story.told("17 documents of handbook are gone")["body"]
    looking.at(story.page("automations"), "Docweave: a run failed", "Docweave: removals wait for approval")
    looking.keep("automations", folder=story.folder)


@pytest.mark.skipif(
    "DOCWEAVE_SCREENSHOTS" not in os.environ, reason="a schedule takes a minute: set DOCWEAVE_SCREENSHOTS"
)
def test_a_scheduled_run_is_seen_to_complete(story: Story, looking: Looking) -> None:
    with story.on_schedule("company.devices"):
        run = story.wait(story.scheduled("company.devices"), "Completed")
    assert run["name"] == "devices · 6 added"
    looking.at(
        story.page(f"deployments/deployment/{story.deployment_id('company.devices')}"),
        "devices · 6 added",
        "auto-scheduled",
        "Completed",
        "Every minute",
    )
    looking.keep("scheduled", folder=story.folder)


def test_a_deployments_form_says_what_its_parameters_mean(story: Story, looking: Looking) -> None:
    deployment = story.deployment_id("company.handbook")
    looking.at(
        story.page(f"deployments/deployment/{deployment}/run"),
        "Names from the settings",
        "How many documents may be removed",
    )
    looking.keep("form", folder=story.folder)
    looking.at(story.page(f"deployments/deployment/{deployment}"), "At 06:00 AM", "company.handbook")
    looking.keep("deployment", folder=story.folder)

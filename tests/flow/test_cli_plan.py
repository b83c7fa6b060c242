"""`docweave plan --save` and `docweave ingest --plan`, through the flow."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from apps.cli import app

pytestmark = [
    # Prefect's clients leave these at the end of a loop.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("prefect_server"),
]


def run(config: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--config", str(config)])


def test_a_saved_plan_is_applied_and_what_has_moved_is_told(handbook: Path) -> None:
    saved = handbook.parent / "friday.plan"
    planned = run(handbook, "plan", "--save", saved)
    assert planned.exit_code == 0, planned.output
    next_command = f"docweave ingest --plan {saved} -c {handbook}"
    assert planned.stdout.splitlines()[-1] == f"Saved to {saved}: {next_command}"
    folder = handbook.parent / "documents/handbook"
    (folder / "leave.md").write_text("# Leave\n\nIt is 30 days a year now.")
    (folder / "later.md").write_text("# Later\n\nNobody planned this.")
    done = run(handbook, "ingest", "--plan", saved)
    assert done.exit_code == 1, done.output
    assert "4 documents: 2 added, 2 moved since the plan" in done.stdout
    assert "  ≠ leave.md: it has changed at the source" in done.stdout
    assert "  ≠ later.md: it is new, or was changed, and the plan does not know it" in done.stdout
    status = json.loads(run(handbook, "status", "--json").stdout)
    assert {name: one["documents"] for name, one in status["sources"].items()} == {"handbook": 2, "wiki": 1}
    again = run(handbook, "ingest", "handbook", "--plan", saved, "--json")
    assert again.exit_code == 1
    [report] = json.loads(again.stdout)["sources"]
    assert (report["source"], report["added"], report["unchanged"]) == ("handbook", 0, 2)
    assert report["moved"].keys() == {"leave.md", "later.md"}
    assert run(handbook, "ingest").exit_code == 0
    assert run(handbook, "search", "30 days a year").stdout.count("handbook/leave.md") == 1


def test_a_plan_covers_what_it_was_made_of_and_is_not_overwritten(handbook: Path) -> None:
    saved = handbook.parent / "wiki.plan"
    assert run(handbook, "plan", "wiki", "--save", saved).exit_code == 0
    before = saved.read_bytes()
    refused = run(handbook, "plan", "--save", saved)
    assert refused.exit_code == 2
    assert "is there already; --force overwrites it" in refused.stderr
    assert saved.read_bytes() == before
    refused = run(handbook, "ingest", "handbook", "--plan", saved)
    assert refused.exit_code == 2
    assert "holds no plan of handbook; it holds: wiki" in refused.stderr
    done = run(handbook, "ingest", "--plan", saved, "--json")
    assert done.exit_code == 0, done.output
    assert [(one["source"], one["added"]) for one in json.loads(done.stdout)["sources"]] == [("wiki", 1)]


def test_a_plan_of_other_settings_is_refused_and_nothing_is_done(handbook: Path) -> None:
    saved = handbook.parent / "friday.plan"
    run(handbook, "plan", "--save", saved)
    handbook.write_text(handbook.read_text().replace("team: people", "team: all"))
    refused = run(handbook, "ingest", "--plan", saved)
    assert refused.exit_code == 2
    assert "error: the plan of handbook was made with other settings" in refused.stderr
    assert json.loads(run(handbook, "status", "--json").stdout)["sources"] == {}


async def test_a_deployment_is_told_why_its_plan_is_refused(handbook: Path) -> None:
    from flows.here import run_here

    broken = handbook.parent / "broken.plan"
    broken.write_text("no plan")
    reason = await run_here(str(handbook), None, rebuild=False, plan=str(broken))
    assert reason == f"SettingsError: {broken} is no plan: `docweave plan --save FILE` makes one"


def test_a_rebuild_by_a_plan_takes_over_only_when_nothing_has_moved(handbook: Path) -> None:
    assert run(handbook, "ingest").exit_code == 0
    saved = handbook.parent / "rebuild.plan"
    assert run(handbook, "plan", "--rebuild", "--save", saved).exit_code == 0
    refused = run(handbook, "ingest", "--plan", saved)
    assert refused.exit_code == 2
    assert "is for a rebuild: add --rebuild" in refused.stderr
    page = handbook.parent / "documents/wiki/start.md"
    page.write_text("# Start\n\nHello there, newcomers.")
    moved = run(handbook, "ingest", "--rebuild", "--plan", saved)
    assert moved.exit_code == 1
    assert "1 moved since the plan" in moved.stdout
    assert "wiki/start.md" in run(handbook, "search", "Welcome", "--mode", "text").stdout, "still the old"
    assert run(handbook, "ingest", "--rebuild").exit_code == 0
    assert run(handbook, "search", "newcomers", "--mode", "text").stdout.count("wiki/start.md") == 1

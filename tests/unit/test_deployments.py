"""What has to be done to the deployments that exist: a plan, made without a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.deployments import Deployment, Forms, plan, schedules_in_words, wanted
from tests.settings_text import Load

TEXT = """
schedule: {cron: "0 2 * * *", timezone: Europe/Berlin, jitter: 10m}
schedules: {hourly: {interval: 1h}}
sources:
  handbook: {type: files, path: docs}
  wiki: {type: files, path: docs}
  news: {type: files, path: docs, schedule: hourly}
"""
CONFIG = Path("/srv/notes/docweave.yaml")
FORM = {
    "type": "object",
    "properties": {
        "config": {"type": "string", "title": "config", "description": "The path of\nthe YAML settings."},
        "sources": {"anyOf": [{"type": "array"}, {"type": "null"}], "title": "sources", "position": 1},
        "approve_removals": {"type": "integer", "title": "approve_removals"},
    },
}
FORMS = Forms(ingest=FORM, maintain={"properties": {}})


@pytest.fixture
def deployments(load: Load) -> list[Deployment]:
    return wanted(CONFIG, load(TEXT), FORMS)


def kinds(steps: object) -> list[tuple[str, str]]:
    return [(step.kind, step.deployment.full_name) for step in steps]  # type: ignore[attr-defined]


def test_each_schedule_becomes_one_deployment_of_its_sources(deployments: list[Deployment]) -> None:
    nightly, hourly = deployments
    assert (nightly.full_name, hourly.full_name) == ("ingest/notes.default", "ingest/notes.hourly")
    assert nightly.parameters == {"config": str(CONFIG), "sources": ["handbook", "wiki"]}
    assert nightly.schedules == [
        {
            "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "day_or": True},
            "parameters": {"start_within": 600},
        }
    ]
    assert nightly.tags == ["docweave", "handbook", "notes", "wiki"]
    assert (nightly.pool, nightly.limit, nightly.when_running) == ("docweave", 1, "ENQUEUE")
    assert hourly.schedules[0]["schedule"] == {
        "interval": 3600,
        "anchor_date": "2020-01-06T00:00:00",
        "timezone": "UTC",
    }


def test_the_form_is_for_people_and_offers_the_sources(deployments: list[Deployment]) -> None:
    properties = deployments[0].form["properties"]
    assert isinstance(properties, dict)
    assert properties["config"] == {
        "type": "string",
        "title": "Config",
        "description": "The path of the YAML settings.",
    }
    assert properties["sources"]["items"] == {"type": "string", "enum": ["handbook", "wiki"]}
    assert properties["approve_removals"]["title"] == "Approve removals"


def test_what_is_there_and_equal_is_left_alone(deployments: list[Deployment]) -> None:
    assert kinds(plan(deployments, [])) == [
        ("created", "ingest/notes.default"),
        ("created", "ingest/notes.hourly"),
    ]
    assert {step.kind for step in plan(deployments, deployments)} == {"unchanged"}


def test_what_differs_is_said_in_words(load: Load, deployments: list[Deployment]) -> None:
    changed = TEXT.replace("0 2 * * *", "30 3 * * *").replace("jitter: 10m", "jitter: 1h")
    now = wanted(CONFIG, load(changed + "deploy: {pool: big}"), FORMS)
    first, second = plan(now, deployments)
    assert (first.kind, second.kind) == ("updated", "updated")
    assert first.differences == {
        "schedule": (
            "cron 0 2 * * * Europe/Berlin, up to 10m later",
            "cron 30 3 * * * Europe/Berlin, up to 1h later",
        ),
        "pool": ("docweave", "big"),
    }
    assert list(second.differences) == ["pool"]


def test_only_those_whose_sources_changed_get_another_version(
    load: Load, deployments: list[Deployment]
) -> None:
    now = wanted(
        CONFIG, load(TEXT.replace("path: docs, sched", "path: docs, budget: {tokens: 9}, sched")), FORMS
    )
    first, second = plan(now, deployments)
    assert (first.kind, list(second.differences)) == ("unchanged", ["version"])


def test_a_secret_is_in_no_version(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT + "store: {uri: 's3://b/p', options: {aws_secret_access_key: '${KEY}'}}"
    versions = []
    for key in ("one", "another"):
        monkeypatch.setenv("KEY", key)
        versions.append(wanted(CONFIG, load(text), FORMS)[0].version)
    assert versions[0] == versions[1]


def test_what_is_no_longer_wanted_goes_only_when_it_is_asked_for(deployments: list[Deployment]) -> None:
    assert kinds(plan(deployments[:1], deployments))[1:] == [("no longer wanted", "ingest/notes.hourly")]
    assert kinds(plan(deployments[:1], deployments, prune=True))[1:] == [("removed", "ingest/notes.hourly")]


def test_what_was_paused_by_hand_stays_so_unless_the_settings_say(deployments: list[Deployment]) -> None:
    first = deployments[0]
    paused = replace(first, paused=True)
    assert plan([first], [paused])[0].kind == "unchanged"
    [step] = plan([replace(first, paused=False)], [paused])
    assert step.differences == {"paused": ("true", "false")}


def test_a_rule_without_a_beginning_gets_one(load: Load) -> None:
    text = "schedule: {rrule: 'FREQ=WEEKLY;INTERVAL=2;BYDAY=TU'}\nsources: {a: {type: files, path: docs}}"
    [one] = wanted(CONFIG, load(text), FORMS)
    assert one.schedules[0]["schedule"] == {
        "rrule": "DTSTART:20200106T000000\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=TU",
        "timezone": "UTC",
    }
    assert schedules_in_words(one.schedules) == "rrule FREQ=WEEKLY;INTERVAL=2;BYDAY=TU UTC"


def test_more_sources_than_are_worth_it_are_no_tags(load: Load) -> None:
    lines = "".join(f"  s{n}: {{type: files, path: docs}}\n" for n in range(11))
    [one] = wanted(CONFIG, load("schedule: {interval: 1h}\nsources:\n" + lines), FORMS)
    assert one.tags == ["docweave", "notes"]


def test_a_given_name_says_whose_they_are_wherever_the_file_lies(load: Load) -> None:
    settings = load(TEXT + "deploy: {name: manuals}")
    [one, _] = wanted(CONFIG, settings, FORMS)
    [other, _] = wanted(Path("/srv/release-2/docweave.yaml"), settings, FORMS)
    assert (
        (one.full_name, one.settings)
        == (other.full_name, other.settings)
        == ("ingest/manuals.default", "manuals")
    )

"""What the settings say of schedules: which sources go together, and what is refused."""

# ruff: noqa: PLC0415 - prefect is only looked at in one test, and slow to import

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.schedule import groups, unused
from connectors.schedule import cron_line, duration, in_words
from tests.settings_text import Load, complaints

SOURCES = """
sources:
  handbook: {type: files, path: docs}
  wiki: {type: files, path: docs, schedule: %s}
"""


def test_sources_that_name_a_schedule_or_go_by_the_default_are_ingested_together(load: Load) -> None:
    meant = load(
        """
        schedule: nightly
        schedules:
          nightly: {cron: "0 2 * * *", timezone: Europe/Berlin, jitter: 10m}
          hourly: {interval: 1h}
        store: {upkeep: {schedule: {rrule: "FREQ=MONTHLY;BYDAY=1SU;BYHOUR=4"}}}
        sources:
          handbook: {type: files, path: docs}
          wiki: {type: files, path: docs, schedule: nightly}
          news: {type: files, path: docs, schedule: hourly}
          laws: {type: files, path: docs, schedule: {interval: 1w}}
          attic: {type: files, path: docs, schedule: never}
        """
    )
    found = groups(meant)
    assert [(group.name, group.sources) for group in found] == [
        ("nightly", ("handbook", "wiki")),
        ("hourly", ("news",)),
        ("laws", ("laws",)),
        ("unscheduled", ("attic",)),
        ("maintain", ()),
    ]
    said = [group.schedule.words if group.schedule else None for group in found]
    assert said[:4] == ["cron 0 2 * * * Europe/Berlin, up to 10m later", "every 1h UTC", "every 7d UTC", None]


def test_a_default_of_its_own_makes_one_group(load: Load) -> None:
    meant = load("schedule: {cron: '@daily'}\n" + SOURCES % "never")
    assert [(group.name, group.sources) for group in groups(meant)] == [
        ("default", ("handbook",)),
        ("unscheduled", ("wiki",)),
    ]


def test_without_any_schedule_all_sources_are_run_by_hand(load: Load) -> None:
    meant = load("sources: {handbook: {type: files, path: docs}}")
    [group] = groups(meant)
    assert (group.name, group.schedule, group.sources) == ("unscheduled", None, ("handbook",))


def test_a_schedule_that_nothing_goes_by_is_known(load: Load) -> None:
    meant = load("schedules: {hourly: {interval: 1h}, spare: {interval: 2h}}\n" + SOURCES % "hourly")
    assert unused(meant) == ["spare"]


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            "houry",
            "4:45: sources.wiki.schedule: no schedule is called so; valid: hourly, never; did you mean",
        ),
        ('"0 2 * * *"', 'a cron line is written as {cron: "…"}'),
        ("7", "must be the name of one of `schedules`, never, or a schedule"),
        ("", "nothing is written there"),
        ("{}", "must have exactly one of cron, interval and rrule"),
        ('{cron: "0 2 * * *", interval: 1h}', "it has cron and interval"),
        ("{crn: x}", "sources.wiki.schedule.crn: is an unknown key; valid: cron, interval, rrule, timezone"),
        ('{cron: "0 25 * * *"}', "schedule.cron: has '25' for the hour, which must be 0-23"),
        ('{cron: "0 2 * * fri-mon"}', "for the day of the week, which must be 0-7 or sun-sat"),
        (
            '{cron: "0 2 * *"}',
            "must have five fields (minute, hour, day of the month, month, day of the week)",
        ),
        ('{cron: "0 2 31 2,4 *"}', "never comes: no month of 2,4 has a day 31"),
        ("{interval: 90}", "must be a number with its unit, as 90m, 6h, 1d or 1d 12h"),
        ("{interval: 30s}", "must be at least 1m"),
        ("{rrule: FREQ=DALY}", "is no RRULE: invalid 'FREQ': DALY; one is FREQ="),
        ("{rrule: FREQ=MINUTELY}", "use `interval`"),
        ('{rrule: "FREQ=HOURLY;BYMINUTE=0,10,20,30,40,50"}', "comes every 10m, which takes too long"),
        ('{rrule: "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}', "never comes"),
        (
            '{rrule: "DTSTART:20260101T000000Z\\nRRULE:FREQ=DAILY"}',
            "write it without, and the zone as `timezone`",
        ),
        (
            "{interval: 1h, timezone: Berlin}",
            "is no time zone; write one as Europe/Berlin or UTC; did you mean Europe/B",
        ),
        ("{interval: 1h, jitter: 25h}", "schedule.jitter: must be at most 24h"),
        ("{interval: 1h, paused: soon}", "schedule.paused: must be true or false"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(load: Load, schedule: str, said: str) -> None:
    said_of_it = complaints(load, "schedules: {hourly: {interval: 1h}}" + SOURCES % schedule)
    assert said in " ".join(said_of_it)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedule: nightly\n", "schedule: no schedule is called so; valid: never"),
        ("store: {upkeep: {schedule: x}}\n", "store.upkeep.schedule: no schedule is called so; valid: never"),
        ("schedules: {never: {interval: 1h}}\n", "schedules.never: has a meaning of its own"),
        ("schedules: {By Night: {interval: 1h}}\n", "is made of a-z, 0-9, _ and -"),
        ("deploy: {name: Our Notes}\n", "deploy.name: is made of a-z, 0-9, _ and -"),
        ("deploy: {when_running: queue}\n", "deploy.when_running: is unknown; valid: enqueue, cancel_new"),
    ],
)
def test_what_is_said_elsewhere_of_schedules_is_checked_too(load: Load, text: str, said: str) -> None:
    [complaint] = complaints(load, text + SOURCES % "never")
    assert said in complaint


def test_a_source_and_a_schedule_may_not_name_the_same_deployment(load: Load) -> None:
    text = "schedules: {wiki: {interval: 1h}}" + SOURCES % "{interval: 1h}"
    [complaint] = complaints(load, text)
    assert "sources.wiki.schedule: two deployments would be called wiki" in complaint


@pytest.mark.parametrize(
    ("text", "meant"),
    [("90m", "1h 30m"), ("36h", "1d 12h"), ("1d 12h", "1d 12h"), ("PT6H", "6h"), ("P1W", "7d"), ("0s", "0s")],
)
def test_spans_of_time_are_read_as_they_are_said(text: str, meant: str) -> None:
    assert in_words(duration(text)) == meant


_numbers = st.integers(0, 62).map(str)
_parts = st.one_of(
    st.just("*"),
    _numbers,
    st.tuples(_numbers, _numbers).map("-".join),
    st.sampled_from(["*/5", "3/7", "2-9/3"]),
)
_fields = st.one_of(st.just("*"), st.lists(_parts, min_size=1, max_size=3).map(",".join))


@settings(deadline=None)  # the first one imports Prefect
@given(st.tuples(*[_fields] * 5).map(" ".join))
def test_prefect_takes_every_cron_line_that_is_accepted_and_it_comes(line: str) -> None:
    from prefect._vendor.croniter import croniter

    try:
        accepted = cron_line(line)
    except ValueError:
        return
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert croniter(accepted, now).get_next(datetime) < now + timedelta(days=9 * 366)

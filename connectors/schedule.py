"""When something is done: what the settings may say of a schedule, checked without the scheduler."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

NEVER = "never"
"""In place of a schedule's name: runs by hand only."""

LEAST_INTERVAL = timedelta(minutes=1)
MOST_JITTER = timedelta(hours=24)

_UNITS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:\d+\s*[smhdw]\s*)+")
_ISO_DURATION = re.compile(
    r"P(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+)S)?)?"
)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_CRON_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_CRON_NAMES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_CRON_PART = re.compile(r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)
_RRULE_OFTEN = re.compile(r"FREQ=(SECONDLY|MINUTELY)\b")
_RRULE_ZONE = re.compile(r"DTSTART(;TZID=|:\d{8}T\d{6}Z)")
_MOST_RRULE = 6_500
"""Characters, as Prefect takes."""
ANCHOR = datetime(2020, 1, 6)  # noqa: DTZ001 - by the clock of the schedule's own time zone
"""From when intervals and rules without a beginning count: a Monday."""
_SAMPLE, _MOST_DATES = 500, 150_000
"""Dates that are looked at, and the most that may lie between a rule's beginning and today: a scheduler works
them all out, again and again."""


def duration(value: object) -> timedelta:
    """`90m`, `6h`, `1d 12h` or `PT6H` as a span of time.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    try:
        if isinstance(value, str) and _DURATION.fullmatch(text.lower()):
            return sum(
                (
                    timedelta(seconds=int(n) * _UNITS[unit])
                    for n, unit in re.findall(r"(\d+)\s*([smhdw])", text.lower())
                ),
                timedelta(),
            )
        if isinstance(value, str) and (parts := _ISO_DURATION.fullmatch(text)) and any(parts.groups()):
            seconds = sum(int(number or 0) * _UNITS[unit] for unit, number in parts.groupdict().items())
            return timedelta(seconds=seconds)
    except OverflowError:
        pass
    raise ValueError("must be a number with its unit, as 90m, 6h, 1d or 1d 12h (s, m, h, d, w), or as PT6H")


def in_words(span: timedelta) -> str:
    """A span as the settings would have it: `1d 12h`."""
    left, out = round(span.total_seconds()), []
    for unit in ("d", "h", "m", "s"):
        number, left = divmod(left, _UNITS[unit])
        out += [f"{number}{unit}"] if number else []
    return " ".join(out) or "0s"


def cron_line(text: str) -> str:
    """A cron line of five fields; a name such as `@daily` is written out.

    Raises:
        ValueError: says which field cannot be meant.
    """
    fields = _CRON_NAMES.get(text.strip().lower(), text).split()
    if len(fields) != len(_CRON_FIELDS):
        names = ", ".join(name for name, *_ in _CRON_FIELDS)
        raise ValueError(
            f'must have five fields ({names}), as "0 2 * * *" for every night at two, or be one of '
            f"{', '.join(_CRON_NAMES)}; it has {len(fields)}"
        )
    days, months = [_cron_field(field, *known) for field, known in zip(fields, _CRON_FIELDS, strict=True)][
        2:4
    ]
    if fields[4] == "*" and min(days) > max(_LONGEST_MONTHS[month - 1] for month in months):
        raise ValueError(f"never comes: no month of {fields[3]} has a day {min(days)}")
    return " ".join(fields)


def _cron_field(text: str, name: str, least: int, most: int, names: Mapping[str, int]) -> set[int]:
    """The values that a field stands for."""
    ends = sorted(names, key=names.__getitem__)
    said = f"{least}-{most}" + (f" or {ends[0]}-{ends[-1]}" if ends else "")
    valid = f"{said}, a range (1-5), a list (1,3), * for every, or a step (*/2)"
    found: set[int] = set()
    for part in text.split(","):
        match = _CRON_PART.fullmatch(part)
        given = [match["first"], match["last"] or match["first"]] if match and not match["all"] else []
        values = [names.get(end.lower(), int(end) if end.isdigit() else -1) for end in given] or [least, most]
        step = int(match["step"] or 1) if match else 0
        if not match or not step or not least <= values[0] <= values[1] <= most:
            raise ValueError(f"has {part!r} for the {name}, which must be {valid}")
        last = most if match["step"] and given and not match["last"] else values[1]
        found |= set(range(values[0], last + 1, step))
    return found


def recurrence(text: str) -> str:
    """A recurrence rule as calendars have it (RFC 5545).

    Raises:
        ValueError: it is none, or one that a scheduler should not work through.
    """
    if len(text) > _MOST_RRULE:
        raise ValueError(f"has {len(text):,} characters; an RRULE has at most {_MOST_RRULE:,}")
    if often := _RRULE_OFTEN.search(text.upper()):
        raise ValueError(f"has FREQ={often[1]}, which takes too long to work out: use `interval`")
    if _RRULE_ZONE.search(text.upper()):
        raise ValueError("has a DTSTART with a time zone: write it without, and the zone as `timezone`")
    from dateutil.rrule import rrulestr  # noqa: PLC0415 - few settings have a rule

    try:
        dates = [date.replace(tzinfo=UTC) for date in islice(rrulestr(text, dtstart=ANCHOR), _SAMPLE)]
    except Exception as error:  # it raises what its parsing happens to run into
        example = "FREQ=MONTHLY;BYDAY=1MO;BYHOUR=6;BYMINUTE=0;BYSECOND=0"
        raise ValueError(f"is no RRULE: {error}; one is {example} (the first Monday at six)") from error
    if not dates:
        raise ValueError("never comes: no date is as it says")
    each = (dates[-1] - dates[0]) / max(1, len(dates) - 1)
    if len(dates) == _SAMPLE and (datetime.now(UTC) - dates[0]) / each > _MOST_DATES:
        raise ValueError(
            f"comes every {in_words(each)}, which takes too long to work out: use `interval` or `cron`"
        )
    return text


def time_zone(name: str) -> str:
    """A time zone by its IANA name.

    Raises:
        ValueError: none has it.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - settings without a schedule do not wait for it
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415

    try:
        ZoneInfo(name)
    except Exception as error:  # it raises what the file system happens to run into
        known = {one.lower(): one for one in available_timezones()}
        cities = {one.lower().rpartition("/")[2]: one for one in known.values()}
        given = name.lower().replace(" ", "_")
        near = get_close_matches(given, known, n=1) or [given if given in known else ""]
        meant = cities.get(given.rpartition("/")[2]) or known.get(near[0])
        hint = f"; did you mean {meant}?" if meant else ""
        raise ValueError(f"is no time zone; write one as Europe/Berlin or UTC{hint}") from error
    return name


Duration: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(duration, json_schema_input_type=str),
    PlainSerializer(in_words, return_type=str, when_used="json"),
]


def _interval(span: timedelta) -> timedelta:
    if span < LEAST_INTERVAL:
        raise ValueError(f"must be at least {in_words(LEAST_INTERVAL)}")
    return span


def _jitter(span: timedelta) -> timedelta:
    if span > MOST_JITTER:
        raise ValueError("must be at most 24h")
    return span


class ScheduleSettings(BaseModel):
    """When to run: exactly one of `cron`, `interval` and `rrule`."""

    # As of every StrictModel, whose module imports this one.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    cron: Annotated[str, AfterValidator(cron_line)] | None = Field(
        default=None,
        description='Minute, hour, day of the month, month, day of the week: "0 2 * * *" is every night at '
        "two. Or @hourly, @daily, @weekly, @monthly.",
    )
    interval: Annotated[Duration, AfterValidator(_interval)] | None = Field(
        default=None,
        description="How long from one run to the next: 30m, 6h, 1d. Counted from midnight of a Monday: "
        "6h is at 0, 6, 12 and 18 o'clock.",
    )
    rrule: Annotated[str, AfterValidator(recurrence)] | None = Field(
        default=None,
        description="A recurrence rule (RFC 5545), for what cron cannot say: "
        "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=22;BYMINUTE=0;BYSECOND=0 is the last Friday of each month at ten in "
        "the evening.",
    )
    timezone: Annotated[str, AfterValidator(time_zone)] = Field(
        default="UTC", description="Whose clock is meant, as Europe/Berlin. Follows summer time."
    )
    jitter: Annotated[Duration, AfterValidator(_jitter)] = Field(
        default=timedelta(),
        description="A scheduled run begins up to so much later, at random, so that not all begin at once.",
    )
    paused: bool | None = Field(
        default=None,
        description="true: nothing is run by it. false: it is resumed by each `docweave deploy`. Left out: "
        "as it was set in Prefect.",
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        said = [name for name in ("cron", "interval", "rrule") if getattr(self, name) is not None]
        if len(said) != 1:
            have = f"it has {' and '.join(said)}" if said else "it has none"
            raise ValueError(
                f'must have exactly one of cron, interval and rrule, as cron: "0 2 * * *"; {have}'
            )
        return self

    @property
    def words(self) -> str:
        """All of it in one line: `cron 0 2 * * * Europe/Berlin, up to 10m later`."""
        when = f"every {in_words(self.interval)}" if self.interval else ""
        when = when or (f"cron {self.cron}" if self.cron else "rrule " + " ".join(str(self.rrule).split()))
        later = f", up to {in_words(self.jitter)} later" if self.jitter else ""
        return f"{when} {self.timezone}{later}{', paused' if self.paused else ''}"


def _schedule(value: object, info: ValidationInfo) -> ScheduleSettings | str:
    if isinstance(value, str | ScheduleSettings):
        return value
    if not isinstance(value, Mapping):
        raise PydanticCustomError(
            "schedule",
            f'must be the name of one of `schedules`, {NEVER}, or a schedule: {{cron: "0 2 * * *"}}',
        )
    return ScheduleSettings.model_validate(value, context=info.context)


Scheduled: TypeAlias = Annotated[
    ScheduleSettings | str | None, BeforeValidator(_schedule, json_schema_input_type=ScheduleSettings | str)
]
"""A schedule, the name of one of `schedules`, or `never`. None: nothing is said."""

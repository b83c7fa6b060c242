"""What Prefect is to know of the scheduled runs, and what has to be done for it. Pure; without prefect."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Literal, TypeAlias

from config.schedule import Group, groups
from config.settings import Settings
from connectors.schedule import ANCHOR, ScheduleSettings, in_words
from pipeline.records import JsonValue

TAG = "docweave"
"""What every deployment of ours is tagged with."""
SETTINGS_LABEL = "docweave.settings"
"""The label that says which settings a deployment is of: only its own are ever updated or removed."""
MOST_TAGS = 10
"""Sources beyond that are not tags too."""

_BEGINNING = f"DTSTART:{ANCHOR:%Y%m%dT%H%M%S}\n"

Kind: TypeAlias = Literal["created", "updated", "unchanged", "removed", "no longer wanted"]
Json: TypeAlias = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One scheduled run, in plain values: as it is wanted, or as Prefect has it."""

    flow: str
    name: str
    settings: str
    """Of which settings it is: `deploy.name`, or the absolute path of the file."""
    description: str
    version: str
    tags: Sequence[str]
    entrypoint: str
    parameters: Json
    form: Json
    """The JSON schema of the parameters, which the UI makes a form of."""
    pool: str | None
    """None: no worker runs it."""
    schedules: Sequence[Json]
    """Each with its `schedule`, as Prefect spells it, and the `parameters` of its runs."""
    paused: bool | None
    """None: however it is."""
    limit: int | None
    """How many of its runs may go on at a time."""
    when_running: str | None

    @property
    def full_name(self) -> str:
        """As Prefect's command line has it."""
        return f"{self.flow}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What becomes of one deployment."""

    kind: Kind
    deployment: Deployment
    differences: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What it was and what it will be, in words, by what it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """The parameters' schemas of the flows, as Prefect reads them from their signatures."""

    ingest: Json
    maintain: Json


def wanted(config: Path, settings: Settings, forms: Forms, *, pool: str | None = None) -> list[Deployment]:
    """The deployments that the settings ask for.

    Args:
        config: The absolute path of the YAML file.
        settings: What it says.
        forms: What the flows take.
        pool: In place of the settings' own.
    """
    return [
        _deployment(group, config, settings, forms, pool or settings.deploy.pool)
        for group in groups(settings)
    ]


def plan(wanted: Iterable[Deployment], existing: Iterable[Deployment], *, prune: bool = False) -> list[Step]:
    """What has to be done so that what exists is as it is wanted.

    Args:
        wanted: By the settings.
        existing: Those of the same settings file, and no others.
        prune: Whether those that are no longer wanted are removed.
    """
    there = {one.full_name: one for one in existing}
    steps: list[Step] = []
    for one in wanted:
        before = there.pop(one.full_name, None)
        if before is None:
            steps.append(Step(kind="created", deployment=one))
        elif found := differences(before, one):
            steps.append(Step(kind="updated", deployment=one, differences=found))
        else:
            steps.append(Step(kind="unchanged", deployment=one))
    kind: Kind = "removed" if prune else "no longer wanted"
    return [*steps, *(Step(kind=kind, deployment=one) for one in there.values())]


def differences(before: Deployment, after: Deployment) -> dict[str, tuple[str, str]]:
    """In what two deployments of one name differ, in words."""
    pairs: dict[str, tuple[object, object]] = {
        "schedule": (before.schedules, after.schedules),
        "paused": (before.paused, before.paused if after.paused is None else after.paused),
        "parameters": (before.parameters, after.parameters),
        "form": (before.form, after.form),
        "pool": (before.pool, after.pool),
        "limit": (before.limit, after.limit),
        "when_running": (before.when_running, after.when_running),
        "tags": (sorted(before.tags), sorted(after.tags)),
        "entrypoint": (before.entrypoint, after.entrypoint),
        "description": (before.description, after.description),
        "version": (before.version, after.version),
    }
    return {name: _said(name, *pair) for name, pair in pairs.items() if _plain(pair[0]) != _plain(pair[1])}


def schedules_in_words(schedules: Sequence[Json]) -> str:
    """All of a deployment's schedules in one line."""
    return "; ".join(_schedule_in_words(one) for one in schedules) or "by hand"


def project(config: Path, settings: Settings) -> str:
    """What the deployments' names begin with."""
    if settings.deploy.name:
        return settings.deploy.name
    folder = re.sub(r"[^a-z0-9_-]+", "-", config.parent.name.lower()).strip("-_")
    return folder or TAG


def identity(config: Path, settings: Settings) -> str:
    """By what the deployments of these settings are known: the name that is given, or the file's path."""
    return settings.deploy.name or str(config)


def _deployment(group: Group, config: Path, settings: Settings, forms: Forms, pool: str) -> Deployment:
    flow = "ingest" if group.sources else "maintain"
    begin = project(config, settings)
    parameters: dict[str, JsonValue] = {"config": str(config)}
    if group.sources:
        parameters["sources"] = list(group.sources)
    shown = group.sources if len(group.sources) <= MOST_TAGS else ()
    return Deployment(
        flow=flow,
        name=f"{begin}.{group.name}",
        settings=identity(config, settings),
        description=_description(group, config),
        version=_version(group, settings),
        tags=sorted({TAG, begin, *shown}),
        entrypoint=f"flows.{flow}.{flow}",
        parameters=parameters,
        form=_for_people(forms.ingest if group.sources else forms.maintain, group.sources),
        pool=pool,
        schedules=_schedules(group.schedule),
        paused=group.schedule.paused if group.schedule else None,
        limit=1,
        when_running=settings.deploy.when_running.upper(),
    )


def _description(group: Group, config: Path) -> str:
    if not group.sources:
        did = "Compacts and indexes the tables, and clears old versions away"
    else:
        names = [f"`{name}`" for name in group.sources]
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
        did = f"Brings the tables up to date with {listed}"
    return f"{did}, as `{config}` says. Change it there, and `docweave deploy` again."


def _version(group: Group, settings: Settings) -> str:
    """Docweave's, and a digest of all that the settings say about these runs. Secrets are not in it."""
    apart = {"sources", "schedules", "schedule", "deploy"}
    said = settings.model_dump(mode="json", exclude=apart)
    said["sources"] = {name: settings.sources[name].model_dump(mode="json") for name in group.sources}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
    return f"{metadata.version('docweave')}+{digest}"


def _schedules(schedule: ScheduleSettings | None) -> list[dict[str, JsonValue]]:
    if schedule is None:
        return []
    when: dict[str, JsonValue]
    if schedule.cron:
        when = {"cron": schedule.cron, "timezone": schedule.timezone, "day_or": True}
    elif schedule.interval:
        seconds = schedule.interval.total_seconds()
        when = {"interval": seconds, "anchor_date": ANCHOR.isoformat(), "timezone": schedule.timezone}
    else:
        when = {"rrule": _anchored(str(schedule.rrule)), "timezone": schedule.timezone}
    seconds = schedule.jitter.total_seconds()
    return [{"schedule": when, "parameters": {"start_within": seconds} if seconds else {}}]


def _anchored(rule: str) -> str:
    """The rule with a beginning: without one, what `INTERVAL=2` is counted from would be anybody's guess."""
    if "DTSTART" in rule.upper():
        return rule
    line = rule if ":" in rule else f"RRULE:{rule}"
    return _BEGINNING + line


def _for_people(form: Json, sources: Sequence[str] = ()) -> dict[str, JsonValue]:
    """The form with titles in words, and with the names of the sources to choose from."""
    properties = form.get("properties")
    changed: dict[str, JsonValue] = {}
    for name, asked in (properties if isinstance(properties, dict) else {}).items():
        shown = dict(asked) if isinstance(asked, dict) else {}
        shown["title"] = name.replace("_", " ").capitalize()
        shown["description"] = " ".join(str(shown.get("description", "")).split())
        if name == "sources" and shown.pop("anyOf", None):
            shown |= {"type": "array", "items": {"type": "string", "enum": [*sources]}}
        changed[name] = shown
    return {**form, "properties": changed}


def _schedule_in_words(one: Json) -> str:
    when, parameters = one.get("schedule"), one.get("parameters")
    if not isinstance(when, dict):
        return "?"
    said = "rrule " + " ".join(str(when.get("rrule")).removeprefix(_BEGINNING).removeprefix("RRULE:").split())
    if "cron" in when:
        said = f"cron {when['cron']}"
    elif "interval" in when:
        said = f"every {_seconds(when['interval'])}"
    within = parameters.get("start_within") if isinstance(parameters, dict) else None
    later = f", up to {_seconds(within)} later" if within else ""
    return f"{said} {when.get('timezone') or 'UTC'}{later}"


def _seconds(number: JsonValue) -> str:
    return in_words(timedelta(seconds=float(str(number))))


def _said(name: str, before: object, after: object) -> tuple[str, str]:
    if name == "schedule":
        return schedules_in_words(before), schedules_in_words(after)  # type: ignore[arg-type]
    if name in ("form", "description"):
        return "other", "as the settings have it"
    return _words(before), _words(after)


def _words(value: object) -> str:
    if isinstance(value, str) or value is None:
        return value or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, default=str)


def _plain(value: object) -> str:
    """Equal for what is equal, were one a tuple and the other a list."""
    return json.dumps(value, sort_keys=True, default=dict)

"""What the YAML may say of schedules and deployments, and which sources are ingested together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from connectors.schedule import NEVER, ScheduleSettings
from connectors.settings import SharedSettings, StrictModel

if TYPE_CHECKING:
    from config.settings import Settings

DEFAULT = "default"
"""What the deployment is called of the top-level `schedule`."""
UNSCHEDULED = "unscheduled"
"""What the deployment is called of the sources without a schedule: it is run by hand."""
MAINTAIN = "maintain"
"""What the deployment is called that looks after the tables."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("is made of a-z, 0-9, _ and -, begins with a letter or digit, and has at most 63")
    return name


def _schedule_name(name: str) -> str:
    if name in (NEVER, DEFAULT, UNSCHEDULED):
        raise ValueError("has a meaning of its own: choose another name")
    return _name(name)


Schedules: TypeAlias = dict[Annotated[str, AfterValidator(_schedule_name)], ScheduleSettings]


class DeploySettings(StrictModel):
    """How `docweave deploy` hands the schedules to Prefect."""

    name: Annotated[str, AfterValidator(_name)] | None = Field(
        default=None,
        description="What the deployments' names begin with. Left out: the name of the YAML file's folder.",
    )
    pool: str = Field(
        default="docweave",
        min_length=1,
        pattern=r"^[^/%&><]+$",
        description="The work pool whose workers run them. `docweave deploy` makes it where it is not there.",
    )
    when_running: Literal["enqueue", "cancel_new"] = Field(
        default="enqueue",
        description="What becomes of a run while another one of the same deployment goes on: it waits for "
        "its turn, or it is cancelled.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Sources that are ingested by one run, and when. Without sources: the upkeep of the tables."""

    name: str
    schedule: ScheduleSettings | None
    """None: by hand."""
    sources: tuple[str, ...] = ()


def groups(settings: Settings) -> list[Group]:
    """The runs that the settings ask for, in the order of the sources; by hand, and upkeep, last."""
    found: dict[str, Group] = {}
    for source, chosen in settings.sources.items():
        name, schedule = _resolved(source, chosen.schedule, settings)
        before = found[name].sources if name in found else ()
        found[name] = Group(name=name, schedule=schedule, sources=(*before, source))
    by_hand = found.pop(UNSCHEDULED, None)
    upkeep = settings.store.upkeep.schedule
    if upkeep not in (None, NEVER):
        _, schedule = _resolved(MAINTAIN, upkeep, settings)
        return [*found.values(), *([by_hand] if by_hand else []), Group(name=MAINTAIN, schedule=schedule)]
    return [*found.values(), *([by_hand] if by_hand else [])]


def _resolved(
    own: str, said: ScheduleSettings | str | None, settings: Settings
) -> tuple[str, ScheduleSettings | None]:
    """The name of a group, and its schedule."""
    if isinstance(said, ScheduleSettings):
        return own, said
    if said is None and settings.schedule is not None:
        return _resolved(DEFAULT, settings.schedule, settings)
    if said in (None, NEVER):
        return UNSCHEDULED, None
    return str(said), settings.schedules[str(said)]


def unused(settings: Settings) -> list[str]:
    """The named schedules that nothing goes by."""
    said = [settings.schedule, settings.store.upkeep.schedule]
    said += [source.schedule for source in settings.sources.values()]
    return [name for name in settings.schedules if name not in said]


def known_name(
    said: ScheduleSettings | str | None, schedules: Mapping[str, ScheduleSettings], where: str = ""
) -> None:
    """Refuse the name of a schedule that is none.

    Raises:
        PydanticCustomError: it is none. Begins with `where`.
    """
    if not isinstance(said, str) or said in (NEVER, *schedules):
        return
    begin = f"{where}: " if where else ""
    if len(said.split()) == 5:
        text = begin + 'must be the name of a schedule; a cron line is written as {cron: "…"}'
        raise PydanticCustomError("cron_alone", "{said}", {"said": text})
    context = {"said": begin + "no schedule is called so", "given": said, "known": [*schedules, NEVER]}
    raise PydanticCustomError("unknown_name", "{said}", context)


def known_names(sources: Mapping[str, SharedSettings], schedules: Mapping[str, ScheduleSettings]) -> None:
    """Refuse the sources' names of schedules that are none, and those that would name two groups.

    Raises:
        ValidationError: says where, below `sources`.
    """
    wrong: list[InitErrorDetails] = []
    for name, source in sources.items():
        try:
            known_name(source.schedule, schedules)
            _own_name(name, source.schedule, schedules)
        except PydanticCustomError as error:
            wrong.append(InitErrorDetails(type=error, loc=(name, "schedule"), input=source.schedule))
    if wrong:
        raise ValidationError.from_exception_data("sources", wrong, hide_input=True)


def _own_name(
    source: str, said: ScheduleSettings | str | None, schedules: Mapping[str, ScheduleSettings]
) -> None:
    if isinstance(said, ScheduleSettings) and source in {*schedules, DEFAULT, UNSCHEDULED}:
        message = "two deployments would be called {name}: give this schedule a name under `schedules`"
        raise PydanticCustomError("two_groups", message, {"name": source})

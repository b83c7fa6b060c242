"""A plan that was saved is applied exactly; what has moved since is told and not touched. On both stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from config.load import load_settings
from config.settings import Settings
from flows import plan_file
from pipeline.chunk import Chunker
from pipeline.errors import ServiceRefused, SettingsError
from pipeline.ingest import ingest_source, plan_source
from pipeline.plan import RemovalGuard, SourcePlan, marks_of
from pipeline.records import EmbeddingSpace
from pipeline.report import SourceReport
from pipeline.stores.memory import MemoryStore
from tests.fakes import OracleEmbedder
from tests.world import World, text

SPACE = EmbeddingSpace(provider="test", model="oracle", dimensions=16)


async def plan(world: World) -> SourcePlan:
    """As it comes back out of a file."""
    made = await plan_source(world.items, world.pipeline, metadata=world.metadata)
    return plan_file._SOURCE.validate_json(plan_file._SOURCE.dump_json(made))


async def apply(world: World, plan: SourcePlan, approved: int | None = None) -> SourceReport:
    world.embedder.requests.clear()
    world.items.loaded.clear()
    return await ingest_source(
        world.items,
        world.pipeline,
        metadata=world.metadata,
        plan=plan,
        guard=RemovalGuard(approved=approved),
    )


@pytest.fixture
async def world(world: World) -> World:
    """Four documents are stored; since then, each way of changing has happened."""
    world.items.items |= {f"{n}.md": text(f"n{n}", sections=1) for n in range(4)}
    await world.ingest()
    items = world.items.items
    items["new.md"] = text("new")
    items["copy.md"] = text("new")
    items["leave.md"] = items["leave.md"].replace("2 things", "two things")
    items["moved/travel.md"] = items.pop("travel.md")
    world.items.metadata["devices.md"] = {"team": "people"}
    world.items.versions["0.md"] = "touched"
    del items["expenses.md"]
    return world


async def test_a_plan_is_complete_and_says_why(world: World) -> None:
    made = await plan(world)
    new, copy = sorted(["new.md", "copy.md"], key=lambda key: -tokens_of(made, key))
    assert {d.key: (d.change, d.reason, d.renamed_from) for d in made.documents} == {
        "leave.md": ("changed", "new content", None),
        "new.md": ("added", "new", None),
        "copy.md": ("added", "new", None),
        "moved/travel.md": ("renamed", "the content of a key that is gone", "travel.md"),
        "devices.md": ("rewritten", "other metadata, the same text", None),
        "0.md": ("touched", "the same text", None),
    }
    assert (made.removed, made.withheld, made.unchanged) == (["expenses.md"], [], 3)
    assert tokens_of(made, new) > tokens_of(made, copy) == 0, "what two share is paid once"
    assert made.tokens == sum(document.tokens for document in made.documents)


async def test_another_recipe_is_told_apart_from_new_content(world: World) -> None:
    world.chunker = Chunker(max_tokens=96)
    reasons = {d.key: d.reason for d in (await plan(world)).documents}
    assert reasons["1.md"] == "other settings or versions"
    assert reasons["leave.md"] == "new content"


async def test_a_plan_that_is_applied_at_once_does_what_an_ingest_does(world: World) -> None:
    made = await plan(world)
    report = await apply(world, made)
    assert report.complete
    assert (report.added, report.changed, report.renamed) == (2, 1, 1)
    assert (report.rewritten, report.touched, report.removed, report.unchanged) == (1, 1, 1, 3)
    assert report.counted == made.tokens
    assert report.done == report.owed
    await world.assert_fresh()
    assert (await world.ingest()).unchanged == 9


async def test_a_plan_that_was_applied_already_does_nothing_more(world: World) -> None:
    made = await plan(world)
    await apply(world, made)
    before = await world.content()
    report = await apply(world, made)
    assert (report.complete, report.written, report.tokens, world.items.loaded) == (True, 0, 0, [])
    assert await world.content() == before


async def test_a_plan_whose_first_try_was_stopped_is_applied_to_its_end(world: World) -> None:
    world.embedder.limits = replace(world.embedder.limits, request_groups=1)
    made = await plan(world)
    world.embedder.refuse = lambda _: ServiceRefused("no money") if world.embedder.requests else None
    with pytest.raises(ServiceRefused):
        await apply(world, made)
    paid = sum(request.tokens for request in world.embedder.requests)
    world.embedder.refuse = lambda _: None
    report = await apply(world, made)
    assert report.moved == {}
    assert report.complete
    assert paid + report.counted == made.tokens
    await world.assert_fresh()


def edited_again(world: World) -> None:
    world.items.items["leave.md"] += "\nOnce more.\n"


def touched_again(world: World) -> None:
    world.items.versions["leave.md"] = "touched again"


def edited_new(world: World) -> None:
    world.items.items["new.md"] += "\nOnce more.\n"


def vanished(world: World) -> None:
    del world.items.items["leave.md"]


def vanished_new(world: World) -> None:
    del world.items.items["new.md"]


def vanished_unchanged(world: World) -> None:
    del world.items.items["1.md"]


def changed_unchanged(world: World) -> None:
    world.items.items["1.md"] += "\nOnce more.\n"


def listed_newly(world: World) -> None:
    world.items.items["later.md"] = text("later")


def listed_again(world: World) -> None:
    world.items.items["expenses.md"] = text("expenses")


def listed_again_otherwise(world: World) -> None:
    world.items.items["expenses.md"] = text("other expenses")


def other_metadata(world: World) -> None:
    world.items.metadata["devices.md"] = {"team": "other people"}


MOVES: list[tuple[Callable[[World], None], str]] = [
    (edited_again, "leave.md"),
    (touched_again, "leave.md"),
    (edited_new, "new.md"),
    (vanished, "leave.md"),
    (vanished_new, "new.md"),
    (vanished_unchanged, "1.md"),
    (changed_unchanged, "1.md"),
    (listed_newly, "later.md"),
    (listed_again, "expenses.md"),
    (listed_again_otherwise, "expenses.md"),
    (other_metadata, "devices.md"),
]


@pytest.mark.parametrize(("move", "key"), MOVES, ids=[move.__name__ for move, _ in MOVES])
async def test_what_moves_at_the_source_is_not_touched_and_the_rest_is_applied(
    world: World, move: Callable[[World], None], key: str
) -> None:
    made = await plan(world)
    before = (await world.content())["states"]
    whole = await applied_elsewhere(world, made)
    move(world)
    report = await apply(world, made)
    after = (await world.content())["states"]
    moved = {key} | (paid_by_another(made, key) & report.moved.keys())
    assert report.moved.keys() == moved
    assert not report.complete
    assert report.owed >= len(moved)
    for one in moved:
        assert after.get(one) == before.get(one), "not touched"
    rest = before.keys() | after.keys() | whole.keys()
    assert {k: after.get(k) for k in rest - moved} == {k: whole.get(k) for k in rest - moved}
    assert report.counted <= sum(d.tokens for d in made.documents if d.key not in moved)
    assert await world.ingest()
    await world.assert_fresh()


async def test_a_rename_that_moved_keeps_the_old_name(world: World) -> None:
    made = await plan(world)
    world.items.items["moved/travel.md"] += "\nOnce more.\n"
    report = await apply(world, made)
    assert report.moved.keys() == {"moved/travel.md", "travel.md"}
    assert "travel.md" in await world.store.marks("notes")
    assert "moved/travel.md" not in await world.store.marks("notes")


@pytest.mark.parametrize("key", ["leave.md", "expenses.md", "travel.md", "devices.md"])
async def test_what_changes_in_the_store_is_not_touched(world: World, key: str) -> None:
    made = await plan(world)
    whole = await applied_elsewhere(world, made)
    [state] = (await world.store.states("notes", [key])).values()
    other = replace(state, version="somebody else's")
    await world.store.touch([other])
    report = await apply(world, made)
    states = (await world.content())["states"]
    assert key in report.moved
    assert states[key] == other
    for one in whole.keys() - {key}:
        assert states[one] == whole[one]


async def test_what_somebody_else_stored_meanwhile_is_not_touched(world: World) -> None:
    made = await plan(world)
    others = replace(world.items, items={"new.md": "# Somebody else's\n\nNew document."})
    await ingest_source(others, world.pipeline, guard=RemovalGuard(documents=0, percent=0))
    report = await apply(world, made)
    assert report.moved["new.md"] == "what is stored of it has changed"


async def test_a_shared_text_is_not_paid_for_by_a_document_for_which_the_plan_has_nothing(
    world: World,
) -> None:
    made = await plan(world)
    payer, copy = sorted(["new.md", "copy.md"], key=lambda key: -tokens_of(made, key))
    world.items.items[payer] = "# Something else\n\nEntirely."
    report = await apply(world, made)
    assert report.moved.keys() == {payer, copy}
    assert report.moved[copy] == "it would cost more than planned"
    assert report.counted == made.tokens - tokens_of(made, payer)


async def test_the_order_in_which_a_shared_text_is_read_does_not_matter(world: World) -> None:
    made = await plan(world)
    payer = max(made.documents, key=lambda d: (d.key in {"new.md", "copy.md"}, d.tokens))
    other = "copy.md" if payer.key == "new.md" else "new.md"
    swapped = {payer.key: 0, other: payer.tokens}
    made.documents = [replace(d, tokens=swapped.get(d.key, d.tokens)) for d in made.documents]
    report = await apply(world, made)
    assert report.complete
    assert report.counted == made.tokens
    world.assert_nothing_was_paid_twice()


async def test_what_became_known_meanwhile_makes_it_cheaper(world: World) -> None:
    made = await plan(world)
    other = replace(world, items=replace(world.items, source="archive", items={"a.md": text("new")}))
    await other.ingest()
    report = await apply(world, made)
    assert report.complete
    assert report.counted == tokens_of(made, "leave.md") < made.tokens


async def test_withheld_removals_stay_withheld_unless_they_are_approved(world: World) -> None:
    await world.ingest()
    world.items.items |= {f"many/{n:02}.md": text(f"m{n}", sections=1) for n in range(20)}
    await world.ingest()
    world.items.items = {k: v for k, v in world.items.items.items() if not k.startswith("many/")}
    world.items.items["late.md"] = text("late")
    made = await plan(world)
    assert len(made.withheld) == 20
    report = await apply(world, made)
    assert (report.added, report.removed, report.withheld, report.moved) == (1, 0, 20, {})
    assert (await apply(world, made, approved=19)).withheld == 20
    report = await apply(world, made, approved=20)
    assert (report.removed, report.withheld, report.complete) == (20, 0, True)
    await world.assert_fresh()


async def test_a_document_that_the_plan_could_not_read_is_left_alone(world: World) -> None:
    whole, world.items.items["late.md"] = text("late"), None  # type: ignore[assignment]
    made = await plan(world)
    assert made.failures == {"late.md": "notes/late.md is gone"}
    world.items.items["late.md"] = whole
    report = await apply(world, made)
    assert report.moved == {"late.md": "the plan could not tell: notes/late.md is gone"}


@pytest.mark.parametrize("what", ["chunker", "metadata", "embedder"])
async def test_other_settings_are_refused_as_a_whole(world: World, what: str) -> None:
    made = await plan(world)
    before = await world.content()
    if what == "chunker":
        world.chunker = Chunker(max_tokens=96)
    elif what == "metadata":
        world.metadata = {"team": "people"}
    else:
        world.embedder = OracleEmbedder(recipe="other")
    with pytest.raises(SettingsError, match="the plan of notes was made with other settings"):
        await apply(world, made)
    assert world.items.loaded == []
    assert await world.content() == before


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_moves_what_is_applied_is_as_planned_and_costs_no_more(
    world: World, seed: int
) -> None:
    random = Random(seed)
    await shuffle(world, random)
    await world.ingest()
    await shuffle(world, random)
    made = await plan(world)
    await shuffle(world, random)
    before = await world.store.states("notes", list(await world.store.marks("notes")))
    report = await apply(world, made)
    after = await world.store.states("notes", list(await world.store.marks("notes")))
    for document in made.documents:
        if document.key not in report.moved:
            assert marks_of(after[document.key]) == document.after
    for key in made.removed:
        assert key in report.moved or key not in after
    planned = {document.key for document in made.documents} | made.stored.keys()
    for key in (before.keys() | after.keys()) - (planned - report.moved.keys()):
        assert after.get(key) == before.get(key), "neither planned nor touched"
    applied = [document for document in made.documents if document.key not in report.moved]
    assert report.counted <= sum(document.tokens for document in applied)
    assert report.done >= report.owed
    await world.ingest()
    await world.assert_fresh()


async def shuffle(world: World, random: Random) -> None:
    """Add, copy, edit, touch, rename and remove some documents."""
    items = world.items.items
    for _ in range(4):
        key = random.choice(sorted(items))
        new = f"{random.randrange(30):02}.md"
        match random.choice(["add", "copy", "edit", "touch", "rename", "remove"]):
            case "add":
                items[new] = text(f"n{random.randrange(4)}", sections=1)
            case "copy":
                items[new] = items[key]
            case "edit":
                items[key] += f"\nLine {random.randrange(3)}.\n"
            case "touch":
                world.items.versions[key] = str(random.randrange(3))
            case "rename":
                items[new] = items.pop(key)
            case _ if len(items) > 4:
                del items[key]


def tokens_of(made: SourcePlan, key: str) -> int:
    [tokens] = [document.tokens for document in made.documents if document.key == key]
    return tokens


def paid_by_another(made: SourcePlan, key: str) -> set[str]:
    """The copy, where its twin moved, which was to pay for both."""
    return {"new.md": {"copy.md"}, "copy.md": {"new.md"}}.get(key, set())


async def applied_elsewhere(world: World, made: SourcePlan) -> dict[str, Any]:
    """What the plan would make of the same tables: by a plain ingest of the source as it is now."""
    other = replace(world, store=MemoryStore(SPACE), embedder=OracleEmbedder())
    await other.ingest()
    states: dict[str, Any] = (await other.content())["states"]
    return states


# --- files


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HUSH", "hush")
    (tmp_path / "notes").mkdir()
    file = tmp_path / "docweave.yaml"
    file.write_text(
        "store: {uri: db, options: {secret: '${HUSH}'}}\nsources: {notes: {type: files, path: notes}}\n"
    )
    return load_settings(file)


def save(path: Path, settings: Settings, *plans: SourcePlan, force: bool = False) -> None:
    plan_file.save(path, plans, settings=settings, space=SPACE, rebuild=False, force=force)


async def test_a_plan_comes_back_out_of_its_file_and_holds_no_text(
    world: World, tmp_path: Path, settings: Settings
) -> None:
    made = await plan(world)
    path = tmp_path / "a.plan"
    save(path, settings, SourcePlan(source="first"), made)
    assert plan_file.read_source(path, "notes") == made
    assert list(plan_file.read_head(path).sources) == ["first", "notes"]
    saved = path.read_text()
    assert "things about" not in saved
    assert "hush" not in saved
    assert str(tmp_path) not in saved


def test_a_file_that_is_there_is_not_overwritten_but_by_force(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "a.plan"
    path.write_text("precious")
    with pytest.raises(SettingsError, match="is there already; --force overwrites it"):
        save(path, settings)
    assert path.read_text() == "precious"
    save(path, settings, SourcePlan(source="notes"), force=True)
    assert plan_file.read_source(path, "notes").source == "notes"
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no plan"),
        (b"\xff\xfe\x00", "is no plan"),
        (b"[1]\n", "is no plan"),
        (b'{"sources": []}\n', "is no plan"),
        (b'{"docweave_plan": 2, "docweave": "9.0"}\n', "format 2, made by docweave 9.0; this version reads"),
        (b'{"docweave_plan": 1}\n', "is broken: its first line"),
    ],
)
def test_a_foreign_or_newer_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.plan"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        plan_file.read_source(path, "notes")


def test_a_file_that_was_cut_is_refused_wherever_it_ends(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "a.plan"
    save(path, settings, SourcePlan(source="notes", removed=["a.md"]))
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(SettingsError, match=r"is no plan|is broken"):
            plan_file.read_source(path, "notes")


def test_a_plan_of_another_source_or_that_is_not_there_is_refused(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "a.plan"
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        plan_file.read_head(path)
    save(path, settings, SourcePlan(source="wiki"))
    with pytest.raises(SettingsError, match="holds no plan of 'notes'; it holds: wiki"):
        plan_file.read_source(path, "notes")
    with pytest.raises(SettingsError, match="holds no plan of notes; it holds: wiki"):
        plan_file.chosen(path, ["notes"], settings, rebuild=False)


async def test_a_plan_of_other_tables_space_or_kind_of_run_is_refused(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "a.plan"
    save(path, settings, SourcePlan(source="notes"))
    with pytest.raises(SettingsError, match="is not for a rebuild: leave out --rebuild"):
        plan_file.chosen(path, [], settings, rebuild=True)
    with pytest.raises(SettingsError, match="was made for vectors of test/oracle, 16 dimensions, int8"):
        await plan_file.check_settings(path, ["notes"], settings)
    head, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps({**json.loads(head), "store": "other"}) + "\n", *rest]))
    with pytest.raises(SettingsError, match="was made for other tables than"):
        plan_file.chosen(path, [], settings, rebuild=False)

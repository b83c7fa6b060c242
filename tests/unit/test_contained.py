"""Archives and e-mails as sources of several documents: what is read, paid for, kept and removed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from pipeline.budget import Budget
from pipeline.contained import Containers
from pipeline.errors import StoreUnavailable
from pipeline.ingest import ingest_source, plan_source
from pipeline.plan import RemovalGuard
from pipeline.protocols import Store
from pipeline.records import Filter, ItemRef, RawDocument
from pipeline.report import SourceReport
from pipeline.stores.lance import LanceStore
from pipeline.stores.memory import MemoryStore
from tests.fakes import OracleEmbedder
from tests.world import World


def archive(files: Mapping[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, text in files.items():
            target.writestr(zipfile.ZipInfo(name), text)
    return packed.getvalue()


def mail(subject: str, body: str, attachments: Mapping[str, bytes]) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"] = subject, "ada@example.org"
    message.set_content(body)
    for name, content in attachments.items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return bytes(message)


@dataclass
class Items:
    """A source of bytes."""

    items: dict[str, bytes] = field(default_factory=dict)
    touches: int = 0
    source: str = "notes"
    loaded: list[str] = field(default_factory=list)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        for key in sorted(self.items):
            yield self.ref(key)

    def ref(self, key: str) -> ItemRef:
        version = hashlib.sha256(self.items[key]).hexdigest()
        return ItemRef(source=self.source, key=key, version=f"{version}-{self.touches}")

    async def load(self, ref: ItemRef) -> RawDocument:
        self.loaded.append(ref.key)
        kind = "application/zip" if ref.key.endswith(".zip") else "message/rfc822"
        kind = "text/markdown" if ref.key.endswith(".md") else kind
        return RawDocument(ref=self.ref(ref.key), content=self.items[ref.key], media_type=kind)


@pytest.fixture(params=["memory", "lance"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    embedder = OracleEmbedder()
    store: Store = MemoryStore(embedder.space)
    if request.param == "lance":
        store = await LanceStore.open(str(tmp_path / "db"), space=embedder.space)
    return World(store=store, embedder=embedder, items=Items())  # type: ignore[arg-type]


FILES: dict[str, str | bytes] = {
    "leave.md": "# Leave\n\nIt is 25 days.",
    "fern/fern.md": "# Fern\n\nA soil sensor.",
    "notes.txt": "The workshop opens at nine.",
}


async def keys(world: World) -> set[str]:
    return set(await world.store.marks("notes"))


async def test_what_an_archive_holds_is_stored_under_keys_of_its_own(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    report = await world.ingest()
    assert await keys(world) == {"a.zip", *(f"a.zip!/{name}" for name in FILES)}
    [hit] = await world.store.matching("soil", limit=5, where=Filter())
    assert (hit.key, hit.title) == ("a.zip!/fern/fern.md", "Fern")
    assert (report.listed, report.owed, report.added, report.done) == (1, 4, 4, 4)


async def test_an_unchanged_archive_is_not_read_and_a_touched_one_not_opened(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    await world.ingest()
    assert (await world.ingest()).unchanged == 1
    assert world.items.loaded == []
    world.items.touches = 1  # type: ignore[attr-defined]
    report = await world.ingest()
    assert (report.touched, report.removed, world.sent_now) == (1, 0, [])
    assert len(await keys(world)) == 4
    assert (await world.ingest()).unchanged == 1


async def test_of_an_edited_archive_only_what_changed_is_embedded(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    await world.ingest()
    edited = {**FILES, "leave.md": "# Leave\n\nIt is 30 days.", "new.md": "# New\n\nA page."}
    del edited["notes.txt"]
    world.items.items = {"a.zip": archive(edited)}  # type: ignore[dict-item]
    report = await world.ingest()
    assert (report.changed, report.added, report.removed) == (1, 1, 1)
    assert len(world.sent_now) == 2
    assert await keys(world) == {"a.zip", *(f"a.zip!/{name}" for name in edited)}
    assert (await world.ingest()).unchanged == 1


async def test_an_archive_that_vanishes_takes_along_what_it_held(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES), "b.md": b"# B\n\nText."}  # type: ignore[dict-item]
    await world.ingest()
    del world.items.items["a.zip"]
    assert (await world.ingest()).removed == 4
    assert await keys(world) == {"b.md"}


async def test_what_moves_out_of_an_archive_is_not_paid_for_again(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    await world.ingest()
    rest = {name: text for name, text in FILES.items() if name != "leave.md"}
    world.items.items = {"a.zip": archive(rest), "leave.md": b"# Leave\n\nIt is 25 days."}  # type: ignore[dict-item]
    await world.ingest()
    assert world.sent_now == []
    assert await keys(world) == {"a.zip", "leave.md", "a.zip!/fern/fern.md", "a.zip!/notes.txt"}


async def test_a_broken_file_costs_itself_alone_and_is_told_by_every_run_until_it_is_mended(
    world: World,
) -> None:
    broken = {**FILES, "broken.pdf": b"%PDF-1.7 no more"}
    world.items.items = {"a.zip": archive(broken)}  # type: ignore[dict-item]
    for _ in range(2):
        report = await world.ingest()
        assert [failure.key for failure in report.failures] == ["a.zip!/broken.pdf"]
        assert len(await keys(world)) == 4
    assert world.sent_now == []
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    assert not (await world.ingest()).failures
    assert (await world.ingest()).unchanged == 1


async def test_an_archive_that_breaks_keeps_what_was_stored_of_it(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    await world.ingest()
    world.items.items = {"a.zip": b"PK\x03\x04 cut off"}  # type: ignore[dict-item]
    report = await world.ingest()
    assert [failure.key for failure in report.failures] == ["a.zip"]
    assert len(await keys(world)) == 4


async def test_what_a_budget_leaves_of_an_archive_is_done_by_the_next_run(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    world.budgets = [Budget(name="this run", tokens=12)]
    report = await world.ingest()
    assert report.left
    world.budgets = ()
    assert (await world.ingest()).left == 0
    assert len(await keys(world)) == 4
    world.assert_nothing_was_paid_twice()
    assert (await world.ingest()).unchanged == 1


async def test_a_mail_is_a_document_and_its_attachments_are_too(world: World) -> None:
    inner = archive({"inner.md": "# Inner\n\nDeep down."})
    letter = mail(
        "Offer", "Please find it attached.", {"offer.md": b"# Offer\n\nTen ferns.", "in.zip": inner}
    )
    world.items.items = {"m.eml": letter}  # type: ignore[dict-item]
    await world.ingest()
    assert await keys(world) == {"m.eml", "m.eml!/offer.md", "m.eml!/in.zip!/inner.md"}
    [hit] = await world.store.matching("attached", limit=5, where=Filter())
    assert (hit.key, hit.title) == ("m.eml", "Offer")


async def test_a_plan_counts_what_archives_hold_and_is_applied_to_it(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    plan = await plan_source(world.items, world.pipeline)
    assert [document.key for document in plan.documents] == sorted(["a.zip", *(f"a.zip!/{n}" for n in FILES)])
    report = await applied(world, plan)
    assert (report.added, report.moved) == (4, {})
    assert report.tokens == plan.tokens

    rest = {name: text for name, text in FILES.items() if name != "notes.txt"}
    world.items.items = {"a.zip": archive(rest)}  # type: ignore[dict-item]
    plan = await plan_source(world.items, world.pipeline)
    assert plan.removed == ["a.zip!/notes.txt"]
    assert len(await keys(world)) == 4
    assert (await applied(world, plan)).removed == 1
    assert len(await keys(world)) == 3


async def test_what_moved_in_an_archive_since_the_plan_is_left_alone(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    plan = await plan_source(world.items, world.pipeline)
    world.items.items = {"a.zip": archive({**FILES, "new.md": "# New\n\nA page."})}  # type: ignore[dict-item]
    report = await applied(world, plan)
    assert set(report.moved) == {"a.zip", "a.zip!/new.md"}
    assert await keys(world) == {f"a.zip!/{name}" for name in FILES}
    assert (await world.ingest()).complete
    assert len(await keys(world)) == 5


async def applied(world: World, plan: Any) -> SourceReport:
    return await ingest_source(world.items, world.pipeline, plan=plan)


async def test_what_archives_hold_does_not_count_as_vanished(world: World) -> None:
    many = {f"{number}.md": f"# Page {number}" for number in range(40)}
    world.items.items = {"a.zip": archive(many), "b.md": b"# B\n\nText."}  # type: ignore[dict-item]
    await world.ingest()
    world.items.items["b.md"] = b"# B\n\nAnother text."  # type: ignore[assignment]
    report = await ingest_source(world.items, world.pipeline, guard=RemovalGuard(documents=0, percent=0))
    assert (report.withheld, report.removed, report.changed) == (0, 0, 1)
    assert len(await keys(world)) == 42


async def test_a_listed_key_that_looks_as_if_it_were_inside_is_an_item_like_any(world: World) -> None:
    world.items.items = {"a.zip": archive(FILES), "a.zip!/x.md": b"# X\n\nListed."}  # type: ignore[dict-item]
    await world.ingest()
    del world.items.items["a.zip!/x.md"]
    assert (await world.ingest()).removed == 1
    assert len(await keys(world)) == 4


async def test_a_container_that_holds_nothing_any_more_leaves_nothing_behind(world: World) -> None:
    items: Items = world.items  # type: ignore[assignment]
    letter = mail("Offer", "Please find it attached.", {"offer.md": b"# Offer"})
    items.items = {"a.zip": archive(FILES), "m.eml": letter}
    await world.ingest()
    items.items = {"a.zip": archive({}), "m.eml": mail("Offer", "Sorry.", {})}
    plan = await plan_source(world.items, world.pipeline)
    assert plan.removed == [*sorted(f"a.zip!/{name}" for name in FILES), "m.eml!/offer.md"]
    assert (await world.ingest()).removed == 4
    assert await keys(world) == {"a.zip", "m.eml"}
    assert (await world.ingest()).unchanged == 2


async def emptied_mostly(world: World) -> Items:
    many = {f"{number}.md": f"# Page {number}" for number in range(40)}
    items: Items = world.items  # type: ignore[assignment]
    items.items = {"a.zip": archive(many), "b.md": b"# B\n\nText.", "c.md": b"# C"}
    await world.ingest()
    items.items = {"a.zip": archive({"0.md": "# Page 0"}), "b.md": b"# B\n\nText."}
    return items


async def test_many_that_are_gone_from_a_container_wait_for_approval(world: World) -> None:
    await emptied_mostly(world)
    for _ in range(2):  # it is read again while they wait
        report = await world.ingest()
        assert report.withheld == 39
        assert len(await keys(world)) == 42
    for approved, removed in ((38, 0), (39, 39)):
        guard = RemovalGuard(approved=approved)
        assert (await ingest_source(world.items, world.pipeline, guard=guard)).removed == removed
    assert await keys(world) == {"a.zip", "a.zip!/0.md", "b.md"}
    assert (await world.ingest()).unchanged == 2


async def test_what_a_plan_withheld_of_a_container_waits_for_approval(world: World) -> None:
    await emptied_mostly(world)
    plan = await plan_source(world.items, world.pipeline)
    assert (plan.removed, len(plan.withheld)) == (["c.md"], 39)
    report = await applied(world, plan)
    assert (report.removed, report.withheld, report.moved) == (1, 39, {})
    plan = await plan_source(world.items, world.pipeline)
    guard = RemovalGuard(approved=39)
    report = await ingest_source(world.items, world.pipeline, plan=plan, guard=guard)
    assert (report.removed, report.withheld, report.moved) == (39, 0, {})
    assert (await world.ingest()).unchanged == 2


def written_to(database: Path) -> set[Path]:
    """What each commit has left, but for those that note how a run went."""
    return {one for one in database.rglob("*.manifest") if "runs.lance" not in one.parts}


async def test_what_is_read_again_and_again_for_a_broken_file_is_not_written_again(tmp_path: Path) -> None:
    embedder = OracleEmbedder()
    store = await LanceStore.open(str(tmp_path / "db"), space=embedder.space)
    items = Items({"a.zip": archive({**FILES, "broken.pdf": b"%PDF-1.7 no more"})})
    world = World(store=store, embedder=embedder, items=items)  # type: ignore[arg-type]
    await world.ingest()
    before = written_to(tmp_path / "db")
    assert (await world.ingest()).touched == 4
    assert written_to(tmp_path / "db") == before


async def test_a_plan_that_was_stopped_before_an_archive_was_finished_is_applied_to_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.items.items = {"a.zip": archive(FILES)}  # type: ignore[dict-item]
    plan = await plan_source(world.items, world.pipeline)

    async def stop(*_: object) -> None:
        raise StoreUnavailable("the storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(Containers, "finish", stop)
        with pytest.raises(StoreUnavailable):
            await applied(world, plan)
    assert (await applied(world, plan)).complete
    assert (await world.ingest()).unchanged == 1


async def test_an_item_with_the_key_of_what_an_archive_holds_is_the_one_that_is_stored(world: World) -> None:
    items: Items = world.items  # type: ignore[assignment]
    items.items = {"a.zip": archive(FILES), "a.zip!/leave.md": b"# Leave\n\nAnother text."}
    for _ in range(2):
        report = await world.ingest()
        assert {failure.key: failure.reason for failure in report.failures} == {
            "a.zip!/leave.md": "an item that is listed has this key, too"
        }
        [hit] = await world.store.matching("leave", limit=5, where=Filter())
        assert "Another" in hit.text

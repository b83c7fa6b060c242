"""What every connector must do: its tests inherit `ConnectorContract`, and say how its source is changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

import anyio
import pytest

from pipeline.errors import ItemUnreadable, SourceError, SourceRefused, SourceUnavailable
from pipeline.protocols import Connector
from pipeline.records import ItemRef


class SourceOfTests(Protocol):
    """A real source that a test can change."""

    def connector(self) -> Connector: ...
    def put(self, key: str, content: bytes) -> None: ...
    def drop(self, key: str) -> None: ...


async def listed(connector: Connector) -> list[ItemRef]:
    return [ref async for ref in connector.list_items()]


class CannotOccur(Exception):
    """Raised by a hook: what it stands for cannot happen to this source, and why."""


class ConnectorContract:
    """Inherit it, give a fixture `place`, an empty `SourceOfTests`, and fill the hooks: how it fails."""

    rereads: ClassVar[bool] = True
    """Whether `load` asks the source again. False where the listing brought the content along."""
    tells_version: ClassVar[bool] = True
    """Whether `load` knows the version of what it read. Where only the listing does, newer content keeps the
    older version, and is read once more by the next run."""
    many: ClassVar[int] = 2500
    """How many items a listing is tried with: more than come at once."""
    odd_keys: ClassVar[Sequence[str]] = (
        "with space.md",
        "ümläut/ß.md",
        "smile 😀.md",
        'quote\'s "double".md',
        "percent %41 & plus+.md",
        "hash#and?question.md",
        "'; DROP TABLE chunks; --.md",
    )

    half_is: ClassVar[type[SourceError]] = SourceUnavailable
    """What half a listing is: an outage, unless what is torn stays so until somebody mends it."""
    pages: ClassVar[int] = 45
    """Items of which a source tells on more than one page, where it has pages."""

    def outage(self, place: Any) -> AbstractContextManager[object]:
        """While it lasts, nobody answers for the source.

        Raises:
            CannotOccur: nobody is asked.
        """
        raise NotImplementedError

    def refusal(self, place: Any) -> AbstractContextManager[object]:
        """While it lasts, the source does not accept the credentials of who asks.

        Raises:
            CannotOccur: it has none of its own.
        """
        raise NotImplementedError

    def half(self, place: Any) -> AbstractContextManager[object]:
        """While it lasts, a listing of `pages` items fails when some of them have been told.

        Raises:
            CannotOccur: it comes whole or not at all.
        """
        raise NotImplementedError

    def repeating(self, place: Any) -> AbstractContextManager[object]:
        """While it lasts, the source names at least one of `pages` items twice.

        Raises:
            CannotOccur: why it never does.
        """
        raise NotImplementedError

    def key(self, place: SourceOfTests, name: str) -> str:
        """The key under which an item is listed that was put there by this name."""
        return name

    def holds(self, content: bytes, given: bytes) -> bool:
        """Whether this is what was put there. Not for sources that give the bytes as they are."""
        return content == given

    async def test_an_empty_source_lists_nothing(self, place: SourceOfTests) -> None:
        assert await listed(place.connector()) == []

    async def test_every_item_is_listed_once_under_the_name_of_the_source(self, place: SourceOfTests) -> None:
        names = ["a.md", "b/a.md", "b/c/a.md", "b.md", "z.txt"]
        for name in names:
            place.put(name, name.encode())
        connector = place.connector()
        refs = await listed(connector)
        assert sorted(ref.key for ref in refs) == sorted(self.key(place, name) for name in names)
        assert {ref.source for ref in refs} == {connector.source}

    async def test_listing_twice_gives_the_same_refs_in_the_same_order(self, place: SourceOfTests) -> None:
        for name in ("b.md", "a/b.md", "a.md", "a b.md", "a-b.md"):
            place.put(name, name.encode())
        assert await listed(place.connector()) == await listed(place.connector())

    async def test_listing_many_items_loses_none(self, place: SourceOfTests) -> None:
        names = [f"{number % 7}/{number}.txt" for number in range(self.many)]
        for name in names:
            place.put(name, b"x")
        keys = sorted(self.key(place, name) for name in names)
        assert sorted(ref.key for ref in await listed(place.connector())) == keys

    async def test_a_changed_item_has_another_version_and_its_neighbours_keep_theirs(
        self, place: SourceOfTests
    ) -> None:
        place.put("a.md", b"first")
        place.put("b.md", b"same")
        before = {ref.key: ref.version for ref in await listed(place.connector())}
        place.put("a.md", b"second")
        after = {ref.key: ref.version for ref in await listed(place.connector())}
        a, b = [self.key(place, name) for name in ("a.md", "b.md")]
        assert before[a] != after[a]
        assert before[b] == after[b]

    async def test_a_dropped_item_is_no_longer_listed(self, place: SourceOfTests) -> None:
        place.put("a.md", b"a")
        place.put("b.md", b"b")
        place.drop("a.md")
        assert [ref.key for ref in await listed(place.connector())] == [self.key(place, "b.md")]

    async def test_loading_gives_the_bytes_of_the_item_that_was_listed(self, place: SourceOfTests) -> None:
        contents = {"a.md": b"# A\r\n\xff\x00", "b/c.txt": b"", "d.bin": bytes(range(256)) * 1000}
        for name, content in contents.items():
            place.put(name, content)
        connector = place.connector()
        loaded = {ref.key: (await connector.load(ref)).content for ref in await listed(connector)}
        assert len(loaded) == len(contents)
        for name, content in contents.items():
            assert self.holds(loaded[self.key(place, name)], content)

    async def test_loading_what_did_not_change_gives_the_very_ref_that_was_listed(
        self, place: SourceOfTests
    ) -> None:
        place.put("a.md", b"a")
        connector = place.connector()
        [ref] = await listed(connector)
        assert (await connector.load(ref)).ref == ref

    async def test_loading_what_changed_after_the_listing_gives_content_and_version_that_belong_together(
        self, place: SourceOfTests
    ) -> None:
        place.put("a.md", b"old")
        connector = place.connector()
        [old] = await listed(connector)
        place.put("a.md", b"newer")
        raw = await connector.load(old)
        [new] = await listed(connector)
        if not self.tells_version:
            assert self.holds(raw.content, b"newer")
            assert raw.ref.version == old.version != new.version
            return
        if self.rereads:
            assert raw.ref.version == new.version != old.version
        assert self.holds(raw.content, b"old" if raw.ref.version == old.version else b"newer")

    async def test_a_vanished_item_is_unreadable_and_its_neighbours_are_not(
        self, place: SourceOfTests
    ) -> None:
        place.put("a.md", b"a")
        place.put("b.md", b"b")
        connector = place.connector()
        refs = {ref.key: ref for ref in await listed(connector)}
        place.drop("a.md")
        if self.rereads:
            with pytest.raises(ItemUnreadable):
                await connector.load(refs[self.key(place, "a.md")])
        assert self.holds((await connector.load(refs[self.key(place, "b.md")])).content, b"b")

    async def test_the_media_type_follows_the_name(self, place: SourceOfTests) -> None:
        place.put("a.md", b"# A")
        place.put("b.html", b"<p>b")
        connector = place.connector()
        assert [(await connector.load(ref)).media_type for ref in await listed(connector)] == [
            "text/markdown",
            "text/html",
        ]

    async def test_odd_keys_are_listed_and_loaded_as_they_are(self, place: SourceOfTests) -> None:
        for name in self.odd_keys:
            place.put(name, name.encode())
        connector = place.connector()
        loaded = {ref.key: (await connector.load(ref)).content for ref in await listed(connector)}
        assert len(loaded) == len(self.odd_keys)
        for name in self.odd_keys:
            assert self.holds(loaded[self.key(place, name)], name.encode())

    async def test_an_empty_item_is_an_item(self, place: SourceOfTests) -> None:
        place.put("empty.md", b"")
        place.put("other.md", b"word")
        connector = place.connector()
        found = {ref.key: await connector.load(ref) for ref in await listed(connector)}
        assert {*found} == {self.key(place, "empty.md"), self.key(place, "other.md")}
        assert self.holds(found[self.key(place, "empty.md")].content, b"")

    async def test_a_huge_item_is_read_or_costs_itself_alone(self, place: SourceOfTests) -> None:
        huge = b" ".join([b"words"] * 500_000)
        place.put("huge.md", huge)
        place.put("other.md", b"word")
        connector = place.connector()
        refs = {ref.key: ref for ref in await listed(connector)}
        try:
            raw = await connector.load(refs[self.key(place, "huge.md")])
        except ItemUnreadable:
            pass
        else:
            assert self.holds(raw.content, huge)
        other = await connector.load(refs[self.key(place, "other.md")])
        assert self.holds(other.content, b"word")

    async def test_a_listing_that_is_left_half_way_can_be_made_again(self, place: SourceOfTests) -> None:
        for number in range(20):
            place.put(f"{number}.md", b"x")
        connector = place.connector()
        items = connector.list_items()
        await anext(items)
        assert isinstance(items, AsyncGenerator)
        await items.aclose()
        assert len(await listed(connector)) == 20

    async def test_items_can_be_loaded_at_the_same_time(self, place: SourceOfTests) -> None:
        contents = {f"{number}.md": f"content {number}!".encode() for number in range(30)}
        for name, content in contents.items():
            place.put(name, content)
        connector = place.connector()
        loaded: dict[str, bytes] = {}

        async def load(ref: ItemRef) -> None:
            loaded[ref.key] = (await connector.load(ref)).content

        refs = await listed(connector)
        async with anyio.create_task_group() as tasks:
            for ref in refs:
                tasks.start_soon(load, ref)
        for name, content in contents.items():
            assert self.holds(loaded[self.key(place, name)], content)

    async def test_an_outage_is_told_as_one_and_passes(self, place: SourceOfTests) -> None:
        place.put("a.md", b"a")
        connector = place.connector()
        refs = await listed(connector)
        with _occurring(self.outage, place):
            with pytest.raises(SourceUnavailable):
                await listed(place.connector())
            if self.rereads:
                with pytest.raises(SourceUnavailable):
                    await connector.load(refs[0])
        connector = place.connector()
        assert await listed(connector) == refs
        assert self.holds((await connector.load(refs[0])).content, b"a")

    async def test_bad_credentials_are_refused_and_not_taken_for_an_empty_source(
        self, place: SourceOfTests
    ) -> None:
        place.put("a.md", b"a")
        with _occurring(self.refusal, place), pytest.raises(SourceRefused):
            await listed(place.connector())
        assert len(await listed(place.connector())) == 1

    async def test_half_a_listing_raises_and_never_ends_early(self, place: SourceOfTests) -> None:
        self._fill(place)
        with _occurring(self.half, place), pytest.raises(self.half_is):
            await listed(place.connector())
        assert len(await listed(place.connector())) == self.pages

    async def test_an_item_that_is_named_twice_is_listed_once_or_refused(self, place: SourceOfTests) -> None:
        names = self._fill(place)
        known = sorted(self.key(place, name) for name in names)
        keys, refusal = known, ""
        with _occurring(self.repeating, place):
            try:
                keys = [ref.key for ref in await listed(place.connector())]
            except SourceRefused as error:
                refusal = str(error)
        assert sorted(keys) == known
        assert not refusal or any(repr(key) in refusal for key in known), "it says which"

    def _fill(self, place: SourceOfTests) -> list[str]:
        names = [f"{number % 7}/{number}.md" for number in range(self.pages)]
        for name in names:
            place.put(name, name.encode())
        return names


def _occurring(
    hook: Callable[[Any], AbstractContextManager[object]], place: object
) -> AbstractContextManager[object]:
    try:
        return hook(place)
    except CannotOccur as reason:
        pytest.skip(f"cannot occur: {reason}")

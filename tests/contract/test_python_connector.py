"""Documents that a function yields: the contract, and what such functions may do wrong."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from types import ModuleType

import anyio
import anyio.lowlevel
import pytest
from pydantic import ValidationError

from connectors.python import PythonConnector, PythonSettings
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from tests.contract.connector_contract import CannotOccur, ConnectorContract, listed

MODULE = "documents_of_a_test"


@dataclass
class Yielding:
    """A module whose function yields what a test puts there."""

    module: ModuleType
    contents: dict[str, bytes] = field(default_factory=dict)

    def connector(self, **settings: object) -> PythonConnector:
        chosen = {"type": "python", "function": f"{MODULE}:documents", **settings}
        return PythonConnector(source="docs", settings=PythonSettings.model_validate(chosen))

    def put(self, key: str, content: bytes) -> None:
        self.contents[key] = content

    def drop(self, key: str) -> None:
        del self.contents[key]

    def documents(self) -> Iterator[dict[str, object]]:
        for key, content in self.contents.items():
            yield {"key": key, "content": content}

    def becomes(self, function: object) -> None:
        self.module.documents = function  # type: ignore[attr-defined]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Yielding:
    module = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    place = Yielding(module)
    place.becomes(place.documents)
    return place


class TestPythonConnector(ConnectorContract):
    """The contract, on a generator."""

    rereads = False

    @contextmanager
    def outage(self, place: Yielding) -> Iterator[None]:
        def documents() -> Iterator[dict[str, object]]:
            raise ConnectionError("the system is down")
            yield

        place.becomes(documents)
        yield
        place.becomes(place.documents)

    def refusal(self, place: Yielding) -> AbstractContextManager[None]:
        raise CannotOccur("what a function may not read, it says by what it raises, as in an outage")

    @contextmanager
    def half(self, place: Yielding) -> Iterator[None]:
        def documents() -> Iterator[dict[str, object]]:
            yield from islice(place.documents(), 7)
            raise ConnectionError("the system is down")

        place.becomes(documents)
        yield
        place.becomes(place.documents)

    @contextmanager
    def repeating(self, place: Yielding) -> Iterator[None]:
        place.becomes(lambda: [*place.documents(), *islice(place.documents(), 2)])
        yield


async def test_all_that_is_yielded_is_given(place: Yielding) -> None:
    given = {"key": "1", "text": "Köln", "version": "7", "title": "One", "url": "https://x/1"}
    place.becomes(lambda: [{**given, "metadata": {"team": "people"}}])
    connector = place.connector()
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    assert (ref.key, ref.version, raw.content.decode()) == ("1", "7", "Köln")
    assert (raw.title, raw.url, raw.media_type) == ("One", "https://x/1", "text/plain")
    assert raw.metadata == {"team": "people"}


async def test_the_function_may_be_async_and_takes_the_arguments_of_the_settings(place: Yielding) -> None:
    async def documents(project: str, count: int) -> AsyncIterator[dict[str, object]]:
        for number in range(count):
            await anyio.lowlevel.checkpoint()
            yield {"key": f"{project}-{number}", "text": "x", "media_type": "text/markdown"}

    place.becomes(documents)
    connector = place.connector(arguments={"project": "fern", "count": 2})
    refs = await listed(connector)
    assert [ref.key for ref in refs] == ["fern-0", "fern-1"]
    assert (await connector.load(refs[0])).media_type == "text/markdown"


async def test_without_a_version_whatever_is_given_makes_another_one(place: Yielding) -> None:
    versions = set()
    for given in (
        {"text": "a"},
        {"text": "b"},
        {"text": "a", "title": "A"},
        {"text": "a", "metadata": {"a": 1}},
    ):
        place.becomes(lambda given=given: [{"key": "1", **given}])
        versions |= {ref.version for ref in await listed(place.connector())}
    assert len(versions) == 4


async def test_a_function_that_raises_half_way_gives_no_listing(place: Yielding) -> None:
    closed = []

    def documents() -> Iterator[dict[str, object]]:
        try:
            yield {"key": "1", "text": "x"}
            raise ConnectionError("the system is down")
        finally:
            closed.append(True)

    place.becomes(documents)
    with pytest.raises(SourceUnavailable, match="raised ConnectionError while it listed: the system is down"):
        await listed(place.connector())
    assert closed


@pytest.mark.parametrize(
    ("yields", "said"),
    [
        ([{"key": "1"}], "must give '1' either text or content"),
        ([{"key": "1", "text": "a", "content": b"a"}], "must give '1' either text or content"),
        ([{"key": "", "text": "a"}], "yields what is no document: key"),
        ([{"key": "1", "text": "a", "tilte": "A"}], "tilte: .* valid: key, text, content"),
        (["just text"], "yields what is no document"),
        ([{"key": "1", "text": "a"}] * 2, "yields the key '1' twice"),
        (7, "gives int: it must yield documents"),
    ],
)
async def test_what_is_no_document_is_refused(place: Yielding, yields: object, said: str) -> None:
    place.becomes(lambda: yields)
    with pytest.raises(SourceRefused, match=said):
        await listed(place.connector())


async def test_a_function_that_is_not_there_or_takes_no_such_arguments_is_refused(place: Yielding) -> None:
    for settings, said in (
        ({"function": "no_such_module:documents"}, "cannot be imported: No module named .*PYTHONPATH"),
        ({"function": f"{MODULE}:dokuments"}, "cannot be imported"),
        ({"arguments": {"nope": 1}}, "cannot be called with these arguments"),
    ):
        with pytest.raises(SourceRefused, match=said):
            await listed(place.connector(**settings))
    with pytest.raises(ValidationError):
        place.connector(function="just_a_name")


async def test_what_is_too_large_costs_itself_alone(place: Yielding) -> None:
    place.put("large.txt", b"x" * 101)
    place.put("small.txt", b"x")
    connector = place.connector(max_bytes=100)
    large, small = await listed(connector)
    with pytest.raises(ItemUnreadable, match=r"101 bytes, more than sources.docs.max_bytes: 100"):
        await connector.load(large)
    assert (await connector.load(small)).content == b"x"


async def test_content_waits_on_disk(place: Yielding) -> None:
    def documents() -> Iterator[dict[str, object]]:
        for number in range(200):
            yield {"key": f"{number}", "content": bytes(100_000)}

    place.becomes(documents)
    connector = place.connector()
    refs = await listed(connector)
    sizes = [len((await connector.load(ref)).content) for ref in refs]
    assert sizes == [100_000] * 200

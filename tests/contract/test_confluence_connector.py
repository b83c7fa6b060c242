"""Pages of Confluence: the contract against both of its APIs, as documented, and what is particular."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from connectors.confluence import ConfluenceConnector, ConfluenceSettings
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from tests.contract.confluence_place import PAGE, Confluence
from tests.contract.connector_contract import ConnectorContract, SourceOfTests, listed
from tests.loopback import Said, failing, hasten, serving


@pytest.fixture(
    params=[(True, False), (False, False), (True, True), (False, True)],
    ids=["cloud", "server", "cloud-permissions", "server-permissions"],
)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Confluence]:
    hasten(monkeypatch)
    cloud, permissions = request.param
    confluence = Confluence(cloud=cloud, permissions=permissions)
    with serving(confluence.answer) as host:
        confluence.host = host
        yield confluence


class TestConfluenceConnector(ConnectorContract):
    """The contract, on the pages of a space."""

    many = 150

    def outage(self, place: Confluence) -> AbstractContextManager[None]:
        return failing(place.fails, "", [Said(status=503)] * 20)

    def refusal(self, place: Confluence) -> AbstractContextManager[None]:
        return failing(place.fails, "", [Said(status=401)] * 20)

    def half(self, place: Confluence) -> AbstractContextManager[None]:
        return failing(place.fails, f" {PAGE}$", [Said(status=503)] * 10)

    @contextmanager
    def repeating(self, place: Confluence) -> Iterator[None]:
        place.shift = 2
        yield

    def key(self, place: SourceOfTests, name: str) -> str:
        assert isinstance(place, Confluence)
        return place.numbers[name]

    def holds(self, content: bytes, given: bytes) -> bool:
        return content.decode() == given.decode("utf-8", "replace")

    async def test_the_media_type_follows_the_name(self, place: Any) -> None:
        place.put("a", b"<p>A")
        connector = place.connector()
        [ref] = await listed(connector)
        assert (await connector.load(ref)).media_type == "text/html"


async def test_title_link_and_time_are_given(place: Confluence) -> None:
    place.put("Leave", b"<p>25 days</p>")
    connector = place.connector()
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    assert (raw.title, raw.url) == ("Leave", f"{place.url}/spaces/HB/pages/{ref.key}")
    assert raw.metadata == {"version": 1, "changed": "2026-01-02T03:04:05.000Z"}


async def test_a_listing_reads_no_page(place: Confluence) -> None:
    for number in range(PAGE + 1):
        place.put(f"{number}", b"x")
    await listed(place.connector())
    assert not any(re.search(r"(pages|content)/\d+$", path) for path in place.asked)


async def test_what_was_archived_after_the_listing_is_unreadable(place: Confluence) -> None:
    place.put("a", b"x")
    connector = place.connector()
    [ref] = await listed(connector)
    place.pages[ref.key]["status"] = "archived"
    with pytest.raises(ItemUnreadable, match="is archived now"):
        await connector.load(ref)


async def test_a_page_of_the_list_that_fails_is_an_error(place: Confluence) -> None:
    for number in range(3 * PAGE):
        place.put(f"{number}", b"x")
    place.fails[f" {PAGE}$"] = [Said(status=503)] * 10
    with pytest.raises(SourceUnavailable, match="503"):
        await listed(place.connector())
    place.fails[f" {PAGE}$"] = [Said(status=503), Said(status=429, headers={"retry-after": "0"})]
    assert len(await listed(place.connector())) == 3 * PAGE


async def test_a_list_goes_on_behind_a_gateway(place: Confluence) -> None:
    place.prefix = "/ex/confluence/11-22"
    for number in range(2 * PAGE + 1):
        place.put(f"{number}", b"x")
    assert len(await listed(place.connector())) == 2 * PAGE + 1


async def test_an_answer_that_is_no_list_is_an_error(place: Confluence) -> None:
    place.put("a", b"x")
    place.fails["pages$|content$"] = [Said(content={"message": "maintenance"})]
    with pytest.raises(SourceUnavailable, match="no list of pages"):
        await listed(place.connector())


async def test_a_space_that_is_not_there_refuses_the_source(place: Confluence) -> None:
    with pytest.raises(SourceRefused, match="'NO'"):
        await listed(place.connector(spaces=["NO"]))


async def test_the_token_is_sent_as_each_api_wants_it(place: Confluence) -> None:
    place.put("a", b"x")
    pair = base64.b64encode(b"ada@example.org:t0ken").decode()
    place.authorization = f"Basic {pair}" if place.cloud else "Bearer t0ken"
    user = {"user": "ada@example.org"} if place.cloud else {}
    chosen = place.connector().settings.model_copy(update={"token": SecretStr("t0ken"), **user})
    assert len(await listed(ConfluenceConnector(source="docs", settings=chosen))) == 1
    wrong = chosen.model_copy(update={"token": SecretStr("wr0ng")})
    with pytest.raises(SourceRefused) as refused:
        await listed(ConfluenceConnector(source="docs", settings=wrong))
    assert "wr0ng" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "cloud"),
    [
        ({"base_url": "https://acme.atlassian.net/wiki"}, True),
        ({"base_url": "https://wiki.acme.org/confluence"}, False),
        ({"base_url": "https://wiki.acme.org", "deployment": "cloud"}, True),
        ({"base_url": "https://atlassian.net.evil.org"}, False),
    ],
)
def test_the_address_tells_which_api_it_is(settings: dict[str, object], *, cloud: bool) -> None:
    chosen = ConfluenceSettings.model_validate({"type": "confluence", "spaces": ["A"], **settings})
    assert chosen.is_cloud is cloud


@pytest.mark.parametrize("settings", [{"base_url": "acme"}, {"user": "ada"}, {"base_url": "https://a:b@c"}])
def test_settings_that_cannot_be_meant(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConfluenceSettings.model_validate(
            {"type": "confluence", "base_url": "https://c", "spaces": ["A"], **settings}
        )

"""Who may read a page of Confluence: labels, what is inherited, and changes at any moment."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from connectors.confluence import ConfluenceSettings
from connectors.confluence.readers import labels, told
from connectors.registry import connect
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from tests.contract.confluence_place import NAMES, PAGE, Confluence
from tests.contract.connector_contract import listed
from tests.loopback import Said, hasten, serving


@pytest.fixture(params=[True, False], ids=["cloud", "server"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Confluence]:
    hasten(monkeypatch)
    confluence = Confluence(cloud=request.param, permissions=True)
    with serving(confluence.answer) as host:
        confluence.host = host
        yield confluence


async def access(place: Confluence) -> dict[str, tuple[str, ...] | None]:
    """The labels of every page, by title; each is the one that was listed."""
    connector = place.connector()
    found = {}
    for ref in await listed(connector):
        raw = await connector.load(ref)
        assert raw.ref == ref
        found[str(raw.title)] = raw.access
    return found


async def versions(place: Confluence) -> dict[str, str]:
    titles = {number: title for title, number in place.numbers.items()}
    return {titles[ref.key]: ref.version for ref in await listed(place.connector())}


async def test_users_and_groups_of_a_restricted_page_are_its_labels(place: Confluence) -> None:
    place.put("open", b"x")
    place.put("board", b"y")
    place.restrict("board", users=["u1"], groups=["directors"])
    assert await access(place) == {"open": None, "board": ("group:directors", "user:u1")}


async def test_what_is_above_restricts_a_page_wherever_the_list_has_it(place: Confluence) -> None:
    for title in ("late", "root"):
        place.put(title, b"x")
    place.put("late", b"x", below="root")
    place.put("leaf", b"x", below="late")
    place.restrict("root", groups=["staff", "board"])
    staff = ("group:board", "group:staff")
    assert await access(place) == {"root": staff, "late": staff, "leaf": staff}


async def test_a_reader_must_pass_every_restriction(place: Confluence) -> None:
    place.put("root", b"x")
    place.put("few", b"x", below="root")
    place.put("none", b"x", below="few")
    place.restrict("root", users=["u1", "u2"], groups=["staff"])
    place.restrict("few", users=["u2", "u3"], groups=["board"])
    place.restrict("none", groups=["staff"])
    found = await access(place)
    assert found["root"] == ("group:staff", "user:u1", "user:u2")
    assert found["few"] == ("user:u2",)
    assert found["none"] == ("undisclosed",)


async def test_a_change_of_restrictions_alone_is_a_new_version_of_all_below(place: Confluence) -> None:
    place.put("root", b"x")
    place.put("leaf", b"x", below="root")
    place.put("other", b"x")
    before = await versions(place)
    assert set(before.values()) == {"1"}, "what nothing restricts has the version that it always had"
    place.restrict("root", groups=["staff"])
    narrowed = await versions(place)
    assert narrowed["root"] == narrowed["leaf"] != before["leaf"]
    assert narrowed["other"] == before["other"]
    place.restrict("root", groups=["staff", "board"])
    assert (await versions(place))["leaf"] not in (narrowed["leaf"], before["leaf"])
    place.restrict("root")
    assert await versions(place) == before


async def test_without_the_setting_nothing_is_asked_and_versions_are_numbers(place: Confluence) -> None:
    place.permissions = False
    place.put("a", b"x")
    place.restrict("a", groups=["staff"])
    connector = place.connector()
    [ref] = await listed(connector)
    assert (ref.version, (await connector.load(ref)).access) == ("1", None)
    assert not any("search" in path or "restriction" in path or "ancestors" in path for path in place.asked)


async def test_a_page_that_was_restricted_after_the_listing_is_loaded_as_restricted(
    place: Confluence,
) -> None:
    place.put("root", b"x")
    place.put("a", b"x", below="root")
    connector = place.connector()
    [_, ref] = await listed(connector)
    place.restrict("root", groups=["staff"])
    raw = await connector.load(ref)
    assert raw.access == ("group:staff",)
    assert raw.ref == (await listed(connector))[1] != ref


@pytest.mark.parametrize("moment", [r"/\d+$", "search$"], ids=["after-the-page", "after-the-labels"])
@pytest.mark.parametrize("closing", [True, False], ids=["closed-then-filled", "emptied-then-opened"])
async def test_what_was_written_for_a_few_never_has_the_labels_of_all(
    place: Confluence, moment: str, *, closing: bool
) -> None:
    def close_and_fill() -> None:
        place.restrict("a", groups=["board"])
        place.put("a", b"secret")

    def empty_and_open() -> None:
        place.put("a", b"nothing")
        place.restrict("a")

    place.put("a", b"nothing" if closing else b"secret")
    place.restrict("a", groups=[] if closing else ["board"])
    connector = place.connector()
    [ref] = await listed(connector)
    place.meanwhile = {moment: [close_and_fill if closing else empty_and_open]}
    raw = await connector.load(ref)
    assert raw.access == ("group:board",) or raw.content == b"nothing"
    [now] = await listed(connector)
    assert raw.ref in (ref, now), "it is one or the other, and no mixture"
    assert await connector.load(now) == await connector.load(ref)


async def test_a_page_whose_restrictions_change_all_the_time_is_unreadable(place: Confluence) -> None:
    place.put("a", b"x")
    connector = place.connector()
    [ref] = await listed(connector)
    changes = [["a"], ["b"], ["c"], ["d"]]
    place.restrict("a", groups=["z"])
    place.meanwhile = {rf"/{ref.key}$": [lambda: place.restrict("a", groups=changes.pop())] * 4}
    with pytest.raises(ItemUnreadable, match="its restrictions changed each time it was read"):
        await connector.load(ref)


@pytest.mark.parametrize("forgetful", [False, True], ids=["", "forgetful"])
async def test_a_listing_asks_for_no_page_by_itself(place: Confluence, *, forgetful: bool) -> None:
    place.forgetful = forgetful
    place.put("root", b"x")
    for number in range(2 * PAGE):
        place.put(f"{number}", b"x", below="root")
    place.restrict("root", groups=["staff"])
    refs = await listed(place.connector())
    assert len(refs) == 2 * PAGE + 1
    assert len({ref.version for ref in refs}) == 1, "all are for the staff"
    assert len(place.asked) == (1 + 3 + 3 if place.cloud else 3)


async def test_a_page_is_loaded_by_so_many_requests(place: Confluence) -> None:
    place.put("root", b"x")
    place.put("middle", b"x", below="root")
    place.put("leaf", b"x", below="middle")
    place.restrict("root", groups=["staff"])
    connector = place.connector()
    [*_, leaf] = await listed(connector)
    place.asked.clear()
    await connector.load(leaf)
    assert len(place.asked) == (3 if place.cloud else 1)


async def test_many_names_are_all_labels(place: Confluence) -> None:
    users = [f"u{number}" for number in range(3 * NAMES)]
    groups = [f"g{number}" for number in range(NAMES + 1)]
    place.put("root", b"x")
    place.put("leaf", b"x", below="root")
    place.restrict("root", users=users, groups=groups)
    found = await access(place)
    assert {*(found["leaf"] or ())} == {f"user:{one}" for one in users} | {f"group:{one}" for one in groups}


async def test_what_confluence_does_not_tell_is_for_nobody(place: Confluence) -> None:
    place.put("root", b"x")
    place.put("leaf", b"x", below="root")
    place.put("other", b"x")
    place.silent = {place.numbers["root"]}
    assert await access(place) == {"root": ("undisclosed",), "leaf": ("undisclosed",), "other": None}
    place.restrict("leaf", groups=["staff"])
    assert (await access(place))["leaf"] == ("undisclosed",), "a page is not wider than what is above it"


async def test_a_restriction_that_names_none_of_those_it_counts_is_for_nobody(place: Confluence) -> None:
    for title in ("closed", "open"):
        place.put(title, b"x")
    place.restrict("closed", users=["u1"])
    place.unnamed = {*place.pages}
    assert await access(place) == {"closed": ("undisclosed",), "open": None}


async def test_a_page_below_what_nobody_may_see_is_for_nobody(place: Confluence) -> None:
    place.put("draft", b"x")
    place.put("leaf", b"x", below="draft")
    place.drop("draft")
    expected = ("undisclosed",) if place.cloud else None  # a server names no ancestor that is not there
    assert await access(place) == {"leaf": expected}


@pytest.mark.parametrize("permissions", [True, False])
async def test_what_a_macro_takes_from_another_page_is_not_stored_with_labels_of_this_one(
    place: Confluence, *, permissions: bool
) -> None:
    place.permissions = permissions
    place.put("board", b"<p>the secret</p>")
    place.restrict("board", groups=["directors"])
    include = (
        '<ac:structured-macro ac:name="include"><ac:parameter ac:name=""><ac:link>'
        '<ri:page ri:content-title="board" /></ac:link></ac:parameter></ac:structured-macro>'
    )
    place.put("open", f"<p>own words</p>{include}".encode())
    connector = place.connector()
    found = {raw.title: raw for ref in await listed(connector) for raw in [await connector.load(ref)]}
    secret = b"" if permissions else b"<p>the secret</p>"
    assert found["open"].content == b"<p>own words</p>" + secret
    assert found["open"].access is None
    assert found["board"].content == b"<p>the secret</p>"


async def test_pages_that_nobody_sees_are_told_once_a_listing(
    place: Confluence, caplog: pytest.LogCaptureFixture
) -> None:
    for title in ("root", "leaf", "other"):
        place.put(title, b"words of the page", below="root" if title == "leaf" else None)
    await listed(place.connector())
    assert not caplog.records
    place.silent = {place.numbers["root"]}
    await listed(place.connector())
    [record] = caplog.records
    assert "sources.docs: 2 of 3 pages have the label 'undisclosed'" in record.getMessage()
    assert record.getMessage().endswith(f": {place.numbers['root']}, {place.numbers['leaf']}")


async def test_an_outage_while_restrictions_are_told_fails_the_listing(place: Confluence) -> None:
    for number in range(PAGE + 1):
        place.put(f"{number}", b"x")
    where = rf"search {PAGE}$" if place.cloud else rf"content {PAGE}$"
    place.fails[where] = [Said(status=503)] * 10
    with pytest.raises(SourceUnavailable, match="503"):
        await listed(place.connector())


async def test_restrictions_that_the_token_may_not_ask_for_fail_the_listing(place: Confluence) -> None:
    place.put("a", b"x")
    place.silent = {place.numbers["a"]}
    place.unindexed = {*place.pages}
    place.fails["byOperation"] = [Said(status=403)]
    with pytest.raises(SourceRefused):
        await listed(place.connector())


class TestCloud:
    """What only the cloud has: folders, and a search that finds a page a little late."""

    @pytest.fixture(params=[True], ids=["cloud"])
    def place(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Confluence]:
        hasten(monkeypatch)
        confluence = Confluence(cloud=request.param, permissions=True)
        with serving(confluence.answer) as host:
            confluence.host = host
            yield confluence

    async def test_a_folder_restricts_what_is_in_it_and_is_asked_once(self, place: Confluence) -> None:
        place.put("root", b"x")
        place.folder("outer", below="root")
        place.folder("inner", below="outer")
        for number in range(5):
            place.put(f"{number}", b"x", below="inner")
        place.restrict("outer", groups=["staff"])
        assert await versions(place) == {"root": "1"} | {
            f"{number}": (await versions(place))["0"] for number in range(5)
        }
        place.asked.clear()
        await listed(place.connector())
        folders = [path for path in place.asked if re.search("folders|byOperation", path)]
        assert len(folders) == 3, "what is above the inner one, and the restriction of each"
        assert set((await access(place)).values()) == {None, ("group:staff",)}

    async def test_a_page_that_the_search_does_not_know_is_asked_for_by_itself(
        self, place: Confluence
    ) -> None:
        for title in ("a", "b", "new"):
            place.put(title, b"x")
        place.restrict("new", groups=["staff"])
        place.unindexed = {place.numbers["new"]}
        assert (await access(place))["new"] == ("group:staff",)
        place.asked.clear()
        await listed(place.connector())
        assert sum("byOperation" in path for path in place.asked) == 1

    async def test_a_search_that_stumbles_costs_requests_and_no_label(self, place: Confluence) -> None:
        for title in ("a", "b"):
            place.put(title, b"x")
        place.restrict("b", groups=["staff"])
        before = await versions(place)
        place.fails["search"] = [Said(status=404)]
        assert await versions(place) == before

    async def test_a_page_below_something_unheard_of_is_for_nobody(self, place: Confluence) -> None:
        place.put("a", b"x")
        place.parents[place.numbers["a"]] = "9999"
        place.kind = lambda number: "hologram"  # type: ignore[method-assign] - what the API may bring
        [ref] = await listed(place.connector())
        assert ref.version.startswith("1 ")

    async def test_a_page_of_which_it_is_not_told_what_is_above_is_for_nobody(
        self, place: Confluence
    ) -> None:
        place.put("root", b"x")
        place.put("leaf", b"x", below="root")
        place.put("other", b"x")
        place.mute = {place.numbers["root"]}
        hidden = ("undisclosed",)
        refs = {ref.key: ref.version for ref in await listed(place.connector())}
        assert [" " in refs[place.numbers[title]] for title in ("root", "leaf", "other")] == [
            *(True, True, False)
        ]
        place.mute = {*place.pages}
        assert await access(place) == {"root": hidden, "leaf": hidden, "other": hidden}

    async def test_pages_above_one_another_are_for_nobody(self, place: Confluence) -> None:
        """Two answers of a list between which somebody moved them."""
        for title in ("a", "b"):
            place.put(title, b"x")
        place.parents = {place.numbers["a"]: place.numbers["b"], place.numbers["b"]: place.numbers["a"]}
        assert all(" " in version for version in (await versions(place)).values())


async def test_settings_hold_for_what_nothing_restricts(place: Confluence) -> None:
    place.put("open", b"x")
    place.put("board", b"x")
    place.restrict("board", groups=["directors"])
    connector = connect("docs", place.connector(access=["staff"]).settings)
    found = {raw.title: raw.access for ref in await listed(connector) for raw in [await connector.load(ref)]}
    assert found == {"open": ("staff",), "board": ("group:directors",)}


def test_who_reads_the_spaces_must_be_said() -> None:
    given = {"type": "confluence", "base_url": "https://c", "spaces": ["A"], "permissions": True}
    with pytest.raises(ValidationError, match="`permissions: true` needs `access`"):
        ConfluenceSettings.model_validate(given)
    assert ConfluenceSettings.model_validate({**given, "access": []}).permissions


def test_a_user_is_labelled_by_address_and_by_id() -> None:
    users = [
        {"type": "known", "accountId": "5b10:ac", "email": "Ada@Example.org"},
        {"type": "known", "accountId": "7c", "email": ""},
        {"type": "known", "username": "bob", "userKey": "ff80"},
        {"type": "known", "userKey": "ff81"},
        {"type": "unknown"},
    ]
    groups = [{"type": "group", "name": "Site Admins", "id": "1-2"}, {"type": "group"}]
    assert labels([{"results": users}, {"results": groups}]) == {
        *("ada@example.org", "user:5b10:ac", "user:7c", "user:bob", "user:ff81", "undisclosed"),
        "group:Site Admins",
    }


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"restrictions": {}},
        {"restrictions": {"read": {"_expandable": {}}}},
        {"restrictions": {"read": {"restrictions": {"user": {"results": []}}}}},
        {"restrictions": {"read": {"restrictions": {"user": {"results": []}, "group": {"results": None}}}}},
        {"restrictions": None},
    ],
)
def test_what_is_not_there_is_not_taken_for_open(content: dict[str, object]) -> None:
    assert told(content) is None

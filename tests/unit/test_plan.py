from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SourceError
from pipeline.plan import Change, RemovalGuard, decide, survey
from pipeline.records import DocumentState, ItemRef, Prepared

versions = st.dictionaries(st.text(max_size=3), st.sampled_from(["1", "2"]), max_size=8)


def refs(listing: dict[str, str]) -> list[ItemRef]:
    return [ItemRef(source="s", key=key, version=version) for key, version in listing.items()]


@given(versions, versions, st.sampled_from(["old", "new"]))
def test_every_listed_key_is_owed_or_unchanged_and_every_other_stored_key_is_removed(
    listing: dict[str, str], stored: dict[str, str], recipe: str
) -> None:
    marks = {key: (version, "old") for key, version in stored.items()}
    found = survey(refs(listing), marks, recipe, RemovalGuard())
    owed = {ref.key for ref in found.owed}
    assert owed == {key for key in listing if marks.get(key) != (listing[key], recipe)}
    assert found.unchanged == len(listing) - len(owed)
    assert set(found.removed) == set(stored) - set(listing)


@given(versions)
def test_what_was_just_stored_is_not_owed(listing: dict[str, str]) -> None:
    found = survey(refs(listing), {key: (v, "r") for key, v in listing.items()}, "r", RemovalGuard())
    assert (found.owed, found.removed, found.unchanged) == ((), (), len(listing))


def test_a_key_listed_twice_is_an_error_that_names_it() -> None:
    with pytest.raises(SourceError, match=r"'s' lists the key 'a.md' twice"):
        survey([*refs({"a.md": "1"}), *refs({"a.md": "2"})], {}, "r", RemovalGuard())


def state(key: str = "a", group_keys: tuple[str, ...] = ("g1",), row_key: str = "r1") -> DocumentState:
    return DocumentState(
        source="s", key=key, version="1", recipe="x", content_key="c", group_keys=group_keys, row_key=row_key
    )


def prepared(now: DocumentState) -> Prepared:
    return Prepared(state=now, title="T", url=None, media_type="text/plain", metadata={}, groups=())


@pytest.mark.parametrize(
    ("before", "now", "gone", "change"),
    [
        (None, state(), {}, Change.ADDED),
        (None, state("b"), {("g1",): "a"}, Change.RENAMED),
        (None, state("b", ("g2",)), {("g1",): "a"}, Change.ADDED),
        (None, state("b", ()), {}, Change.ADDED),
        (state(), state(), {}, Change.TOUCHED),
        (state(), state(row_key="r2"), {}, Change.REWRITTEN),
        (state(), state(group_keys=("g2",)), {}, Change.CHANGED),
        (state(), state(group_keys=("g2",)), {("g2",): "z"}, Change.CHANGED),
        (state(group_keys=("g1", "g2")), state(group_keys=("g1",)), {}, Change.CHANGED),
        (state(), state(group_keys=()), {}, Change.CHANGED),
    ],
)
def test_a_document_is_decided_by_its_marks(
    before: DocumentState | None, now: DocumentState, gone: dict[tuple[str, ...], str], change: Change
) -> None:
    assert decide(prepared(now), before, gone) is change


@pytest.mark.parametrize(
    ("removed", "stored", "approved", "withheld"),
    [
        (10, 12, None, False),  # so many may always go
        (11, 12, None, True),
        (11, 110, None, False),  # a tenth may always go
        (12, 110, None, True),
        (500, 500, 499, True),  # an approval is a ceiling
        (500, 500, 500, False),
        (0, 0, None, False),
    ],
)
def test_removals_above_a_number_and_a_share_are_withheld(
    removed: int, stored: int, approved: int | None, *, withheld: bool
) -> None:
    assert RemovalGuard(approved=approved).withholds(removed, stored) is withheld

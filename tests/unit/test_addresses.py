"""Addresses as they may be shown: `flows.addresses`."""

from __future__ import annotations

import pytest

from flows.addresses import bare, without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://me:pass@prefect:4200/api: no", "at http://prefect:4200/api: no"),
        ("at http://me:p@ss@prefect/api", "at http://prefect/api"),
        ("http://prefect/api?by=me@example.org", "http://prefect/api?by=me@example.org"),
        ("http://prefect/people/@me and me@example.org", "http://prefect/people/@me and me@example.org"),
        ("http://a:b@one/ http://c:d@two/", "http://one/ http://two/"),
    ],
)
def test_what_stands_before_a_host_is_not_shown(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_of_an_address_nothing_is_shown_that_may_open_it() -> None:
    assert bare("https://me:p@ss@wiki/space?token=abc#here") == "https://wiki/space"

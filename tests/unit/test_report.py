from __future__ import annotations

from pipeline.errors import ParseError
from pipeline.report import SourceReport


def test_the_report_of_two_tries_counts_what_both_did_and_paid() -> None:
    first = SourceReport(
        source="s", listed=10, unchanged=2, owed=8, added=3, changed=1, tokens=400, cost_usd=0.4, requests=4
    )
    first.fail("broken.pdf", ParseError("it is broken"))
    second = SourceReport(
        source="s", listed=10, unchanged=6, owed=4, added=3, tokens=300, cost_usd=0.3, requests=3, retries=1
    )
    second.fail("broken.pdf", ParseError("it is broken"))
    both = second.after(first)
    assert (both.listed, both.unchanged, both.owed, both.done) == (10, 2, 8, 8)
    assert (both.added, both.changed, both.tokens, both.requests, both.retries) == (6, 1, 700, 7, 1)
    assert both.cost_usd == 0.7
    assert [failure.key for failure in both.failures] == ["broken.pdf"]

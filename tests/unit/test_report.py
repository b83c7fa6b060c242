from __future__ import annotations

import pytest

from pipeline import report as report_module
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


def test_seconds_that_several_spend_in_a_stage_at_the_same_time_count_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(report_module.time, "monotonic", lambda: now[0])
    told = SourceReport(source="s")
    with told.timed("embedding"):
        now[0] = 2.0
        with told.timed("embedding"), told.timed("writing"):
            now[0] = 5.0
        now[0] = 6.0
    now[0] = 10.0
    with told.timed("embedding"):
        now[0] = 11.0
    assert told.stages == {"writing": 3.0, "embedding": 7.0}
    again = SourceReport(source="s", stages={"embedding": 1.0, "listing": 0.5})
    assert again.after(told).stages == {"writing": 3.0, "embedding": 8.0, "listing": 0.5}
    assert again.stages == {"embedding": 1.0, "listing": 0.5}
    assert "_going" not in told.as_json()


def test_a_stage_that_fails_is_counted_too() -> None:
    told = SourceReport(source="s")
    with pytest.raises(ValueError, match="no"), told.timed("reading"):
        raise ValueError("no")
    assert list(told.stages) == ["reading"]


def test_a_run_that_stopped_for_its_budget_has_not_succeeded_and_one_that_failed_at_a_document_has() -> None:
    stopped = SourceReport(source="s", left=3).latest(None)
    assert (stopped.error, stopped.succeeded_at, stopped.counts["left"]) == (None, None, 3)
    whole = SourceReport(source="s")
    whole.fail("broken.pdf", ParseError("it is broken"))
    ended = whole.latest(None)
    assert ended.succeeded_at == ended.at
    assert stopped.following(ended).succeeded_at == ended.at
    assert SourceReport(source="s").latest("no connection").succeeded_at is None

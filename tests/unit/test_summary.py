"""What the scheduler's page says of a source."""

from __future__ import annotations

import pytest

from flows import summary
from pipeline.errors import ParseError, ServiceUnavailable
from pipeline.report import SourceReport


def report() -> SourceReport:
    return SourceReport(source="wiki", listed=5, stored=40, added=2, unchanged=2, chunks=9, seconds=3.21)


def test_a_page_leaves_out_what_did_not_happen() -> None:
    page = summary.markdown(report(), None)
    assert "| documents listed | 5 |" in page
    assert "| added | 2 |" in page
    assert "removed" not in page
    assert "Seconds in each stage" not in page


def test_a_page_tells_the_stages_in_the_order_in_which_documents_go_through_them() -> None:
    told = report()
    told.stages = {"writing": 2.0, "listing": 0.25, "embedding": 12.0}
    page = summary.markdown(told, None)
    assert "| listing | embedding | writing |" in page
    assert "| 0.2 | 12.0 | 2.0 |" in page


def test_a_failed_document_leads_to_where_it_is() -> None:
    told = report()
    told.fail("a [b].pdf", ParseError("broken"), "https://wiki.example/a (b)|c]?x=1&y=2")
    told.fail("local.pdf", ParseError("broken"), "file:///srv/local.pdf")
    page = summary.markdown(told, None)
    assert (
        r"| [a \[b&#93;.pdf](https://wiki.example/a%20%28b%29%7Cc%5D?x=1&y=2) | ParseError | broken |" in page
    )
    assert "| local.pdf | ParseError | broken |" in page


def test_what_is_shown_of_very_many_failures_is_bounded() -> None:
    told = report()
    for number in range(5_000):
        told.fail(f"{number}.pdf", ParseError("x" * 5_000))
    page = summary.markdown(told, None)
    assert len(page) < 50_000
    assert "and 4,900 more" in page
    assert len(str(summary.counts(told))) < 600_000


def test_withheld_documents_are_told_by_name_and_known_by_a_mark() -> None:
    told, other = report(), report()
    told.withhold([f"{number}.md" for number in range(30)])
    other.withhold([f"{number}.md" for number in reversed(range(30))])
    counts = summary.counts(told)
    assert (counts["withheld"], len(counts["withheld_keys"])) == (30, summary.SHOWN_WITHHELD)  # type: ignore[arg-type]
    assert counts["withheld_mark"] == summary.counts(other)["withheld_mark"], "in whatever order"
    other.withhold(["one more.md"])
    assert counts["withheld_mark"] != summary.counts(other)["withheld_mark"]
    page = summary.markdown(told, None)
    assert "- 0.md" in page
    assert "- and 20 more" in page


@pytest.mark.parametrize("key", ["a|b", "a\nb", "[a](http://x)", "<b>", "`a`"])
def test_a_key_is_not_taken_for_markup(key: str) -> None:
    told = report()
    told.fail(key, ParseError("broken"))
    [line] = [line for line in summary.markdown(told, None).splitlines() if "ParseError" in line]
    assert line.count("|") - line.count("\\|") == 4
    assert "](" not in line or "\\[" in line


def test_a_page_of_a_source_that_failed_says_why() -> None:
    assert "**Failed: ServiceUnavailable.** no answer" in summary.markdown(
        report(), ServiceUnavailable("no answer")
    )

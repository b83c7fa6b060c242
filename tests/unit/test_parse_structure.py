from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.parse.structure import headings, sections_of
from pipeline.parse.title import title_of


def outline(text: str) -> list[tuple[int, str]]:
    return [(heading.level, heading.text) for heading in headings(text)]


def sections(text: str) -> list[tuple[tuple[str, ...], str]]:
    found = sections_of(text, list(headings(text)))
    return [(section.heading_path, text[section.start : section.end]) for section in found]


def test_sections_carry_the_headings_above_them() -> None:
    text = "Intro\n\n# A\n\na\n\n## B\n\nb\n\n### C\n\nc\n\n## D\n\n# E\n"

    assert sections(text) == [
        ((), "Intro\n\n"),
        (("A",), "# A\n\na\n\n"),
        (("A", "B"), "## B\n\nb\n\n"),
        (("A", "B", "C"), "### C\n\nc\n\n"),
        (("A", "D"), "## D\n\n"),
        (("E",), "# E\n"),
    ]


def test_a_level_may_be_skipped() -> None:
    assert [path for path, _ in sections("## B\n\n#### D\n\n### C\n\n# A")] == [
        ("B",),
        ("B", "D"),
        ("B", "C"),
        ("A",),
    ]


def test_blank_lines_before_the_first_heading_belong_to_its_section() -> None:
    assert sections("\n\n# A\ntext") == [(("A",), "\n\n# A\ntext")]


def test_a_text_without_headings_is_one_section_and_no_text_is_none() -> None:
    assert sections("just text") == [((), "just text")]
    assert sections("") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A", [(1, "A")]),
        ("   ###### F", [(6, "F")]),
        ("#\tTab", [(1, "Tab")]),
        ("#hashtag", []),
        ("####### seven", []),
        ("    # indented code", []),
        ("\\# escaped", []),
        ("#\n##   \n# #", []),
        ("# A #", [(1, "A")]),
        ("## C#", [(2, "C#")]),
        ("# A ###   \nb", [(1, "A")]),
        ("text\n# A\ntext", [(1, "A")]),
        ("> # quoted\n\n- # listed", []),
    ],
)
def test_atx_headings_are_commonmarks(text: str, expected: list[tuple[int, str]]) -> None:
    assert outline(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Title\n=====\n\nSub\n---", [(1, "Title"), (2, "Sub")]),
        ("Title\n=", [(1, "Title")]),
        ("\n---\n\ntext", []),
        ("- item\n---", []),
        ("1. item\n---", []),
        ("> quote\n---", []),
        ("| a | b |\n---", []),
        ("a | b\n--- | ---\n1 | 2", []),
        ("# A\n---", [(1, "A")]),
        ("# A\nB\n---", [(1, "A"), (2, "B")]),
        ("a paragraph\nof two lines\n---\n", []),
        ("    code\n---", []),
        ("---\n", []),
    ],
)
def test_setext_headings_are_one_line_of_a_paragraph(text: str, expected: list[tuple[int, str]]) -> None:
    assert outline(text) == expected


@pytest.mark.parametrize(
    "block",
    [
        "```\n# no\n```",
        "```python\n# no\n\n# no\n```",
        "~~~~\n```\n# no\n~~~\n# no\n~~~~",
        "````\n```\n# no\n```\n# no\n````",
        "  ```\n# no\n     ```",
        "```\n# no\n    ```\n# still code\n```",
        "<!-- \n# no\n\n# no\n-->",
        "<pre>\n# no\n\n# no\n</pre>",
        "<SCRIPT src=x>\n# no\n</Script>",
    ],
)
def test_code_comments_and_raw_html_hold_no_headings(block: str) -> None:
    assert outline(f"# Before\n\n{block}\n\n# After\n") == [(1, "Before"), (1, "After")]


def test_an_unclosed_fence_runs_to_the_end() -> None:
    assert outline("# A\n```\n# no\n") == [(1, "A")]


def test_inline_code_that_starts_a_line_opens_no_fence() -> None:
    assert outline("```code``` in a line\n\n# A") == [(1, "A")]


def test_front_matter_holds_no_headings_but_a_rule_at_the_start_is_none() -> None:
    assert outline("---\n# comment\ntitle: x\n---\n# A") == [(1, "A")]
    assert outline("---\ntitle: x\n\n# comment\nauthor: y\n---\n# A") == [(1, "A")]
    assert outline("---\n\n# A\n\ntext\n\n---\n") == [(1, "A")]


@pytest.mark.parametrize(
    ("markup", "spoken"),
    [
        ("**Bold** and *light* and __strong__", "Bold and light and strong"),
        ("snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"),
        ("The `*args` of `f`", "The *args of f"),
        ("[Link](<a b> 'why') x [y](z \"why\")", "Link x y"),
        ("[Link](https://a.b/c_(d)) and [ref][1]", "Link and ref"),
        ("![logo](a.png) Name", "logo Name"),
        ("[![badge](b.svg)](https://x.y) Name", "badge Name"),
        ("Name {#anchor}", "Name"),
        ('<a name="x"></a>Name <br/>', "Name"),
        ("Vec<T> &amp; you", "Vec & you"),
        ("`Vec<T>` &amp; you", "Vec<T> & you"),
        ("a \\* b \\# c", "a * b # c"),
        ("***Both***", "Both"),
        ("~~Old~~ New", "Old New"),
        ("Heading [¶](#heading)", "Heading"),
        ('[§](#a-b(c))Heading [#](#x "Link to this")', "Heading"),
    ],
)
def test_a_heading_is_what_it_says_without_its_markup(markup: str, spoken: str) -> None:
    assert outline(f"# {markup}") == [(1, spoken)]


def test_a_long_heading_is_cut() -> None:
    [(_, text)] = outline("# " + "word " * 1000)

    assert len(text) <= 200
    assert text.endswith("…")


def test_a_heading_that_says_nothing_begins_no_section() -> None:
    assert sections("text\n# ![](a.png)\nmore") == [((), "text\n# ![](a.png)\nmore")]


LINES = """
# A
## B `c`
### #
Title
===
---
```
````py
~~~
    ```
<!--
-->
<pre>
</pre>
- item
> q
| a |
title: x
#
# ![]()
\t# t
*
\x0b# v
\u2028# w
"""
line = st.one_of(st.sampled_from(LINES.split("\n")), st.text(max_size=12))


@given(st.one_of(st.text(), st.lists(line, max_size=30).map("\n".join)))
def test_sections_cover_any_text_exactly_and_in_order(text: str) -> None:
    found = list(headings(text))
    covering = sections_of(text, found)

    assert "".join(text[section.start : section.end] for section in covering) == text
    position = 0
    for section in covering:
        assert section.start == position
        assert section.end > section.start
        position = section.end
    assert position == len(text)
    assert all(heading.text.strip() and 1 <= heading.level <= 6 for heading in found)
    assert [heading.start for heading in found] == sorted({heading.start for heading in found})
    assert all(heading.start == 0 or text[heading.start - 1] == "\n" for heading in found)


@pytest.mark.parametrize(
    "unit",
    [
        "#",
        "# a\n",
        "`",
        "`` ` ",
        "=",
        "a\n=\n",
        "<!--",
        "[",
        "![](",
        "*",
        "_a",
        "<a ",
        "\\",
        "---\na:",
        "~~~ \n",
        "&",
    ],
)
def test_the_scan_is_linear_in_hostile_texts(unit: str) -> None:
    text = "# " + unit * (500_000 // len(unit))

    start = time.process_time()
    sections_of(text, list(headings(text)))

    assert time.process_time() - start < 10, "it takes a second, and minutes where it is quadratic"


def title(key: str = "a/leave-policy.md", *, syntax: str = "markdown", **known: str) -> str:
    text = known.get("text", "")
    return title_of(
        key=key, given=known.get("given"), own=known.get("own"), found=list(headings(text)), syntax=syntax
    )


def test_a_title_is_the_best_of_what_is_known() -> None:
    text = "## Second\n\n# First"

    assert title(given=" The  source's ", own="Own", text=text) == "The source's"
    assert title(given=" ", own="Own\n title", text=text) == "Own title"
    assert title(text=text) == "First"
    assert title(text="## Second") == "Second"
    assert title() == "Leave policy"


@pytest.mark.parametrize(
    "own",
    [
        "Microsoft Word - offer.doc",
        "PowerPoint Presentation",
        "Document1",
        "untitled",
        "draft.docx",
        "- 1 -",
        " ",
    ],
)
def test_what_programs_write_is_no_title(own: str) -> None:
    assert title(own=own) == "Leave policy"


@pytest.mark.parametrize(
    ("key", "syntax", "expected"),
    [
        ("docs/on_call__guide.txt", "plain", "On call guide"),
        ("README.md", "markdown", "README"),
        ("docs/v1.2-Notes.md", "markdown", "v1.2 Notes"),
        ("src/worker_pool.py", "python", "worker_pool.py"),
        ("Übersicht", "plain", "Übersicht"),
        ("_", "plain", "_"),
        ("minutes-2025-03-04.txt", "plain", "Minutes 2025-03-04"),
    ],
)
def test_a_file_name_is_made_readable(key: str, syntax: str, expected: str) -> None:
    assert title(key, syntax=syntax) == expected

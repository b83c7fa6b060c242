from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chunk import Chunker
from pipeline.parse.structure import headings, sections_of
from pipeline.records import Chunk, Document, ItemRef, Page, Section
from pipeline.tokens import count

SENTENCE = "The valve on the north side closes when the pressure falls below the mark. "


def document(
    text: str,
    *,
    syntax: str = "markdown",
    media_type: str = "text/markdown",
    sections: tuple[Section, ...] | None = None,
    pages: tuple[Page, ...] = (),
) -> Document:
    if sections is None:
        sections = sections_of(text, list(headings(text)) if syntax == "markdown" else [])
    return Document(
        ref=ItemRef(source="test", key="a.md", version="1"),
        text=text,
        title="A",
        media_type=media_type,
        syntax=syntax,
        sections=sections,
        pages=pages,
    )


def chunks(text: str, *, max_tokens: int = 512, syntax: str = "markdown") -> tuple[Chunk, ...]:
    return Chunker(max_tokens=max_tokens).chunk(document(text, syntax=syntax))


def paragraphs(number: int, sentences: int = 5) -> str:
    return "\n\n".join(f"Note {n}. " + (SENTENCE * sentences).strip() for n in range(number))


# What holds for every document.


def assert_sound(doc: Document, cut: tuple[Chunk, ...], max_tokens: int) -> None:
    position = 0
    for ordinal, chunk in enumerate(cut):
        assert chunk.ordinal == ordinal
        assert chunk.text == doc.text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert chunk.tokens == count(chunk.text) <= max_tokens
        assert chunk.start >= position
        assert not doc.text[position : chunk.start].strip()
        position = chunk.end
        sections = [
            section for section in doc.sections if section.start < chunk.end and chunk.start < section.end
        ]
        assert chunk.heading_path in [section.heading_path for section in sections]
        pages = [page.number for page in doc.pages if page.start <= chunk.start < page.end]
        assert chunk.page == (pages[0] if pages else None)
    assert not doc.text[position:].strip()


BLOCKS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "# One",
            "## Two",
            "### Three",
            "Above\n=====",
            "[anchor]: #anchor",
            "```python\n# no heading\n\nprint(1)\n```",
            "~~~\nnever closed",
            "1. ```\n   x\n   ```",
            "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
            "- one\n- two\n  - three",
            "For example:",
            "今天天气很好。我们去公园玩吧！" * 5,
            "👩‍👩‍👧‍👦" * 20,
            "e\u0301\u0316" * 30,
            "\U0001d160" * 20,
            "a" * 900,
            " " * 700,
            "QmFzZTY0" * 90,
            "\x02\x03\x04",
            "<|endoftext|>",
            "---",
            "\r\n",
            "\x1c\x85\u2028",
            SENTENCE * 12,
            SENTENCE,
        ]
    ),
)
TEXTS = st.lists(st.tuples(BLOCKS, st.sampled_from(["\n", "\n\n", " ", ""]))).map(
    lambda pairs: "".join(block + end for block, end in pairs)
)
SYNTAXES = st.sampled_from(["markdown", "plain", "python", "html", "latex", "no such language"])
MAX_TOKENS = st.sampled_from([16, 40, 128, 512])


def cut_at(text: str, fractions: list[float]) -> list[tuple[int, int]]:
    inner = sorted({int(fraction * len(text)) for fraction in fractions} - {0, len(text)})
    return list(pairwise([0, *inner, len(text)]))


@given(TEXTS, SYNTAXES, MAX_TOKENS)
@settings(max_examples=300, deadline=None)
def test_chunks_cover_the_text_in_order_within_the_limit(text: str, syntax: str, max_tokens: int) -> None:
    doc = document(text, syntax=syntax)
    cut = Chunker(max_tokens=max_tokens, merge_below=min(48, max_tokens)).chunk(doc)
    assert_sound(doc, cut, max_tokens)


@given(
    TEXTS.filter(bool),
    st.lists(st.tuples(st.floats(0, 1), st.lists(st.sampled_from("abc"), max_size=3)), max_size=8),
    st.lists(st.floats(0, 1), max_size=8),
    st.sampled_from(["application/pdf", "application/vnd.ms-powerpoint"]),
    MAX_TOKENS,
)
@settings(max_examples=200, deadline=None)
def test_sections_and_pages_may_lie_anywhere(
    text: str,
    starts: list[tuple[float, list[str]]],
    page_ends: list[float],
    media_type: str,
    max_tokens: int,
) -> None:
    paths = [tuple(path) for _, path in starts] + [()]
    borders = cut_at(text, [fraction for fraction, _ in starts])
    sections = tuple(
        Section(start=start, end=end, heading_path=path)
        for (start, end), path in zip(borders, paths, strict=False)
    )
    pages = tuple(
        Page(start=start, end=end, number=number)
        for number, (start, end) in enumerate(cut_at(text, page_ends), 1)
    )
    doc = document(text, sections=sections, pages=pages, media_type=media_type)
    assert_sound(doc, Chunker(max_tokens=max_tokens, merge_below=16).chunk(doc), max_tokens)


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_the_same_document_gives_the_same_chunks(text: str) -> None:
    assert Chunker(max_tokens=64).chunk(document(text)) == Chunker(max_tokens=64).chunk(document(text))


# Sections.


def test_a_small_document_is_one_chunk() -> None:
    text = "# tar\n\n> Archive.\n\n- Create:\n\n`tar cf x`\n"
    (chunk,) = chunks(text)
    assert chunk.text == text.rstrip()
    assert (chunk.start, chunk.ordinal, chunk.heading_path, chunk.page) == (0, 0, ("tar",), None)


@pytest.mark.parametrize("text", ["", " \n\n\t", "\u2028\u00a0"])
def test_a_blank_document_has_no_chunks(text: str) -> None:
    assert chunks(text) == ()


def test_a_chunk_keeps_to_its_section() -> None:
    text = f"# Valves\n\n{paragraphs(1)}\n\n## Pumps\n\n{paragraphs(1)}\n"
    assert [(chunk.heading_path, chunk.text.split("\n")[0]) for chunk in chunks(text)] == [
        (("Valves",), "# Valves"),
        (("Valves", "Pumps"), "## Pumps"),
    ]


def test_a_small_section_goes_with_the_one_that_follows() -> None:
    text = f"## Drawbacks\n\nNone.\n\n## Alternatives\n\n{paragraphs(1)}\n\n## Questions\n\n{paragraphs(1)}\n"
    first, second = chunks(text)
    assert first.text.startswith("## Drawbacks\n\nNone.\n\n## Alternatives\n\nNote")
    assert first.heading_path == ("Alternatives",)
    assert second.heading_path == ("Questions",)


def test_a_small_section_at_the_end_of_a_chapter_stays_in_its_chapter() -> None:
    text = f"# One\n\n## Body\n\n{paragraphs(1)}\n\n## Coda\n\nDone.\n\n# Two\n\n{paragraphs(1)}\n"
    first, second = chunks(text)
    assert first.text.endswith("## Coda\n\nDone.")
    assert first.heading_path == ("One", "Body")
    assert second.heading_path == ("Two",)


def test_a_small_last_section_goes_with_the_end_of_a_long_one() -> None:
    text = f"# Long\n\n{paragraphs(8)}\n\n# Licence\n\nCC0.\n"
    cut = chunks(text)
    assert len(cut) > 1
    assert cut[-1].text.endswith("# Licence\n\nCC0.")
    assert cut[-1].heading_path == ("Long",)


def test_small_sections_are_not_packed_up_to_the_limit() -> None:
    entry = "## Entry {}\n\n" + SENTENCE * 2 + "\n\n"
    text = "".join(entry.format(n) for n in range(20))
    cut = chunks(text)
    assert len(cut) == 10
    assert max(chunk.tokens for chunk in cut) < 2 * 48


def test_sections_that_do_not_fit_into_one_chunk_are_not_joined() -> None:
    long = f"## Long\n\n{paragraphs(6)}\n\n{SENTENCE}\n"
    text = f"## Short\n\n{SENTENCE * 2}\n\n{long}"
    assert count(long) <= 512 < count(text)
    assert [chunk.heading_path for chunk in chunks(text)] == [("Short",), ("Long",)]


@pytest.mark.parametrize(
    "heading",
    ["## Design", "Design\n------", "## Design\n[design]: #design", "# Part\n\n## Design"],
    ids=["hashes", "underline", "anchor", "two headings"],
)
@pytest.mark.parametrize(
    "body",
    [
        (SENTENCE * 60).strip(),
        "```rust\n" + "let x = valve.pressure();\n" * 72 + "```",
        "```rust\n" + "let x = valve.pressure();\n" * 300 + "```",
        "- " + "\n- ".join([SENTENCE.strip()] * 60),
    ],
    ids=["paragraph", "fence that just fits", "long fence", "list"],
)
def test_a_heading_is_never_cut_off_from_its_text(heading: str, body: str) -> None:
    text = f"{paragraphs(1)}\n\n{heading}\n\n{body}\n\nThe end of it.\n"
    (chunk,) = (chunk for chunk in chunks(text) if "Design" in chunk.text)
    after = text[text.index(heading) + len(heading) : chunk.end]
    assert count(after) >= 48


# Cuts.


def test_a_fence_that_fits_is_not_cut() -> None:
    fence = "```python\n" + "def valve():\n\n    # heading?\n    return close()\n\n" * 12 + "```"
    assert count(fence) < 300
    text = "# Code\n\n" + "\n\n".join(
        [paragraphs(1, 4), fence, paragraphs(2, 4), fence, fence, paragraphs(1)]
    )
    cut = chunks(text)
    assert sum(chunk.text.count(fence) for chunk in cut) == 3


def test_a_fence_that_does_not_fit_is_cut_between_its_functions() -> None:
    function = "fn valve() {\n    let pressure = read();\n    close(pressure);\n}"
    text = "```rust\n" + "\n\n".join([function] * 60) + "\n```\n"
    cut = chunks(text)
    assert len(cut) > 1
    for chunk in cut[1:]:
        assert chunk.text.startswith("fn valve")


def test_what_leads_to_a_code_block_stays_with_it() -> None:
    fence = "```\n" + "close the valve\n" * 60 + "```"
    text = f"# Code\n\n{paragraphs(5)}\n\nConsider the following example:\n\n{fence}\n"
    (chunk,) = (chunk for chunk in chunks(text) if "Consider" in chunk.text)
    assert fence in chunk.text


def test_a_table_is_cut_between_its_rows() -> None:
    rows = [f"| valve {n} | opens at {n} bar | closes below {n} bar |" for n in range(100)]
    head = "| name | opens | closes |\n| --- | --- | --- |"
    cut = chunks("# Table\n\n" + "\n".join([head, *rows]))
    assert len(cut) > 2
    assert cut[0].text.startswith(f"# Table\n\n{head}\n{rows[0]}")
    assert [line for chunk in cut for line in chunk.text.split("\n")][4:] == rows


def test_no_orphan_is_left_at_the_end_of_a_section() -> None:
    for sentences in range(1, 8):
        for number in range(4, 14):
            text = f"# Long\n\n{paragraphs(number, sentences)}\n\nThree last words.\n"
            assert min(chunk.tokens for chunk in chunks(text)) >= min(48, count(text.strip()))


def test_code_is_cut_between_its_functions_and_keeps_its_indentation() -> None:
    function = "def valve(pressure):\n" + "    close(pressure)\n" * 20
    cut = chunks("\n\n".join(["    # indented", *[function] * 12]), syntax="python")
    assert len(cut) > 1
    assert cut[0].text.startswith("    # indented")
    assert all(chunk.text.startswith("def valve") for chunk in cut[1:])


@pytest.mark.parametrize("run", ["x" * 100_000, " " * 100_000 + "x", "QmFzZTY0" * 10_000, "汉" * 50_000])
@pytest.mark.parametrize("syntax", ["markdown", "plain", "python"])
def test_a_run_without_a_seam_is_cut_at_the_limit(run: str, syntax: str) -> None:
    doc = document(run, syntax=syntax)
    cut = Chunker().chunk(doc)
    assert_sound(doc, cut, 512)
    assert len(cut) <= count(run.strip()) // 300 + 1


def test_text_without_blanks_is_cut_between_sentences() -> None:
    cut = chunks("今天天气很好我们去公园玩吧。" * 300, syntax="plain")
    assert len(cut) > 1
    assert all(chunk.text.endswith("。") for chunk in cut)


# Pages.


def paged(texts: list[str]) -> tuple[str, tuple[Page, ...]]:
    text = ""
    pages = []
    for number, part in enumerate(texts, 1):
        pages.append(Page(start=len(text), end=len(text) + len(part), number=number))
        text += part
    return text, tuple(pages)


def test_a_chunk_is_on_the_page_in_which_it_starts() -> None:
    text, pages = paged([paragraphs(4) + "\n\n"] * 5)
    cut = Chunker().chunk(document(text, syntax="plain", media_type="application/pdf", pages=pages))
    assert [chunk.page for chunk in cut] == [1, 2, 4, 5]
    assert cut[0].end > pages[0].end, "running text may go on over the end of a page"


def test_slides_are_chunks_of_their_own() -> None:
    text, pages = paged([paragraphs(1) + "\n\n"] * 3)
    slides = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    cut = Chunker().chunk(document(text, media_type=slides, pages=pages))
    assert [(chunk.page, chunk.start) for chunk in cut] == [(page.number, page.start) for page in pages]


# Settings.


def test_the_recipe_names_all_that_chunks_depend_on() -> None:
    recipe = Chunker().recipe
    assert recipe == Chunker(max_tokens=512, merge_below=48).recipe
    assert len({recipe, Chunker(max_tokens=256).recipe, Chunker(merge_below=0).recipe}) == 3
    for word in ("chunk 1", "langchain-text-splitters 1.", "qwen"):
        assert word in recipe


@pytest.mark.parametrize(
    ("max_tokens", "merge_below", "said"),
    [
        (15, 0, "max_tokens is 15; it must be 16 or more"),
        (64, 65, "from 0 to max_tokens (64)"),
        (64, -1, "is -1"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(max_tokens: int, merge_below: int, said: str) -> None:
    with pytest.raises(ValueError, match=r"must be") as refusal:
        Chunker(max_tokens=max_tokens, merge_below=merge_below)
    assert said in str(refusal.value)


def test_nothing_heavy_is_imported_until_a_document_must_be_cut() -> None:
    program = """
import sys
from pipeline.chunk import Chunker
Chunker().recipe
assert not {"tiktoken", "langchain_core", "langchain_text_splitters"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

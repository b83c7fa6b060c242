r"""Where the headings of a Markdown text stand, and the sections between them.

One scan over the lines that can matter, after CommonMark's rules for leaf blocks
(https://spec.commonmark.org/0.31.2/#leaf-blocks): ATX and setext headings, but none inside fenced code, HTML
comments, `<pre>`, `<script>`, `<style>`, `<textarea>` or front matter. Headings inside block quotes and list
items belong to what is quoted or listed, and begin no section; nor does a setext heading of several lines,
which is most often a paragraph with a rule below it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.records import Section

_LONGEST_HEADING = 200

# A text is scanned with a line feed put before it, so that a match starts at the line feed before a line:
# `re` finds these at memory speed, and the match's start is the line's own start in the text. A look at the
# line's first character spares most lines the alternatives.
_CANDIDATE = re.compile(
    r"""\n(?=[\ \#`~<=-])(?P<indent>[ ]{0,3})(?:
        (?P<hashes>\#{1,6})(?:[ \t]+(?P<atx>[^\n]*))?(?=\n|\Z)
      | (?P<fence>`{3,}(?=[^`\n]*(?:\n|\Z))|~{3,})[^\n]*
      | (?P<comment><!--)
      | <(?P<raw>pre|script|style|textarea)(?=[\s>]|\Z)
      | (?P<underline>=+|-+)[ \t]*(?=\n|\Z)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_FRONT_MATTER = re.compile(
    r"\A\n---[ \t]*\n(?:[ \t]*#[^\n]*\n)*[ \t]*[\w\"'-]+[ \t]*:.*?\n(?:---|\.\.\.)[ \t]*(?=\n|\Z)", re.DOTALL
)
# What may stand above a setext underline: a paragraph's line, so none that opens another block.
_NO_PARAGRAPH = re.compile(
    r"[ ]{4}|[ ]{0,3}(?:\t|>|\#{1,6}(?:[ \t]|\Z)|[-*+][ \t]|\d{1,9}[.)][ \t]|\||<|```|~~~)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading: where its first line starts, its level from 1 to 6, and what it says without markup."""

    start: int
    level: int
    text: str


def headings(text: str) -> Iterator[Heading]:
    """The headings of a Markdown text, in order. Those that say nothing are left out."""
    lines = "\n" + text
    front = _FRONT_MATTER.match(lines)
    position = front.end() if front else 0
    while match := _CANDIDATE.search(lines, position):
        position = match.end()
        if match["hashes"]:
            if spoken := _plain(_without_closing_hashes(match["atx"] or "")):
                yield Heading(start=match.start(), level=len(match["hashes"]), text=spoken)
        elif match["underline"]:
            if above := _paragraph_above(lines, match.start()):
                start, spoken = above
                yield Heading(start=start, level=1 if match["underline"][0] == "=" else 2, text=spoken)
        else:
            position = _end_of_block(lines, match)


def sections_of(text: str, found: list[Heading]) -> tuple[Section, ...]:
    """Sections that cover the text from 0 to its end, each from one heading to the next."""
    if not text:
        return ()
    starts = [heading.start for heading in found]
    paths = list(_paths(found))
    if not starts or text[: starts[0]].strip():
        starts.insert(0, 0)
        paths.insert(0, ())
    starts[0] = 0
    ends = [*starts[1:], len(text)]
    return tuple(
        Section(start=start, end=end, heading_path=path)
        for start, end, path in zip(starts, ends, paths, strict=True)
    )


def _paths(found: list[Heading]) -> Iterator[tuple[str, ...]]:
    open_headings: list[Heading] = []
    for heading in found:
        while open_headings and open_headings[-1].level >= heading.level:
            open_headings.pop()
        open_headings.append(heading)
        yield tuple(above.text for above in open_headings)


def _end_of_block(lines: str, opening: re.Match[str]) -> int:
    """Where the code, the comment or the raw HTML ends that a line opens. An unclosed one runs to the end."""
    if fence := opening["fence"]:
        # Up to three more spaces than the opening: the block may stand in a list item, which we do not track.
        closing = (
            rf"\n {{0,{len(opening['indent']) + 3}}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*(?=\n|\Z)"
        )
        end = re.compile(closing).search(lines, opening.end())
        return end.end() if end else len(lines)
    mark = "-->" if opening["comment"] else f"</{opening['raw'].lower()}>"
    end = re.compile(re.escape(mark), re.IGNORECASE).search(lines, opening.end())
    return end.end() if end else len(lines)


def _paragraph_above(lines: str, underline: int) -> tuple[int, str] | None:
    """Start and words of the one-line paragraph above a setext underline, if there is one."""
    line_start = lines.rfind("\n", 0, underline)
    if line_start < 0:
        return None
    line = lines[line_start + 1 : underline]
    if not line.strip() or len(line) > 2 * _LONGEST_HEADING or _NO_PARAGRAPH.match(line):
        return None
    before = lines[lines.rfind("\n", 0, line_start) + 1 : line_start] if line_start > 0 else ""
    if before.strip() and not re.match(r" {0,3}#{1,6}[ \t]", before):
        return None
    spoken = _plain(line)
    return (line_start, spoken) if spoken else None


_TARGET = (
    r"(?:\((?:<[^<>]*>|[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:[ \t]+(?:\"[^\"]*\"|'[^']*'))?\)|\[[^\[\]]*\])"
)
_IMAGE = re.compile(r"!\[([^\[\]]*)\]" + _TARGET)
_LINK = re.compile(r"\[([^\[\]]*)\]" + _TARGET)
_ANCHOR = re.compile(r"\[[¶§#🔗]?\]\(#[^()\s]*(?:\([^()]*\))*(?:[ \t]+\"[^\"]*\")?\)")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]+)>")
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>")
_ATTRIBUTES = re.compile(r"[ \t]*\{:?[ \t]*[#.][^{}]*\}\Z")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_STARS = re.compile(r"(\*{1,3}|~~)(?=\S)(.+?)(?<=\S)\1")
_UNDERSCORES = re.compile(r"(?<!\w)(_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_KEPT = "\ue000{}\ue001"  # private use: stands in for what no markup is to be looked for in
_KEPT_AT = re.compile("\ue000(\\d+)\ue001")


def _without_closing_hashes(heading: str) -> str:
    heading = heading.rstrip()
    bare = heading.rstrip("#")
    return bare if bare != heading and (not bare or bare[-1] in " \t") else heading


def _plain(markup: str) -> str:
    """What a heading says, without its inline markup."""
    markup = markup.strip()[: 4 * _LONGEST_HEADING]
    if not any(mark in markup for mark in "`*_[<&\\{~"):
        return _shortened(markup)
    kept: list[str] = []

    def keep(match: re.Match[str], group: int) -> str:
        kept.append(match[group].strip() if group == 2 else match[group])
        return _KEPT.format(len(kept) - 1)

    spoken = markup.replace("\ue000", "").replace("\ue001", "")
    spoken = _CODE.sub(lambda match: keep(match, 2), spoken)
    spoken = _ESCAPE.sub(lambda match: keep(match, 1), spoken)
    spoken = _AUTOLINK.sub(lambda match: keep(match, 1), spoken)
    spoken = _LINK.sub(r"\1", _IMAGE.sub(r"\1", _ANCHOR.sub("", spoken)))
    spoken = _ATTRIBUTES.sub("", _TAG.sub("", spoken))
    for emphasis in (_STARS, _UNDERSCORES, _STARS):
        spoken = emphasis.sub(r"\2", spoken)
    spoken = html.unescape(spoken)
    return _shortened(_KEPT_AT.sub(lambda match: kept[int(match[1])], spoken))


def _shortened(spoken: str) -> str:
    spoken = " ".join(spoken.split())
    return spoken if len(spoken) <= _LONGEST_HEADING else spoken[: _LONGEST_HEADING - 1].rstrip() + "…"

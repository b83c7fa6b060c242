"""Where a text may be cut: langchain's recursive splitter, with its separators and a few of ours.

What should not be torn apart (a heading and its text, the lines of a code block, the head of a table) is
glued before the splitter sees it: its line feeds are replaced, one character for one, by control characters
that are separators of a later resort, or none. So every piece is as long as what it stands for.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from pipeline.records import Document
from pipeline.tokens import count

if TYPE_CHECKING:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

HEADING = re.compile(  # with its underline, and with the anchors that some write below it
    r"\s*\S[^\n]*(?:\n[ ]{0,3}(?:=+|-+)[ \t]*(?=\n|\Z))?\s*(?:\[[^\]\n]+\]:[ \t]*#[^\n]*\s*)*"
)
"""The heading at the start of a section, and what is blank below it."""

_PROSE = ("markdown", "plain")
_REMEMBERED_CHARS = 2048  # longer pieces are measured once or twice only, and would hold memory

# These stand for a line feed in what the splitter sees. In a text that holds them itself they do no harm: a
# piece may then be measured wrongly, but what becomes a chunk is counted again as it is.
_IN_HEADING = "\x02"  # between a heading and its text: never a separator
_IN_LEAD = "\x03"  # after "for example:", and within the head of a table
_IN_FENCE = "\x04"

_FENCE = re.compile(
    r"^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(?P<mark>`{3,}(?![^\n]*`)|~{3,})[^\n]*\n"
    r"(?:[^\n]*\n)*?(?:[ \t>]*(?P=mark)[`~]*[ \t]*$|[^\n]*\Z)",
    re.MULTILINE,
)
_LEAD = re.compile(r":[*_]*[ \t]*\n(?:[ \t]*\n)?(?=[ \t]*\S)")
_TABLE_HEAD = re.compile(r"\n[ \t]{0,8}\|?[ \t]{0,8}:?-{2,}[-:| \t]*\n")

_ITEM = r"\n(?=[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t])"
_BLANK_LINE_IN_FENCE = rf"{_IN_FENCE}(?=[ \t]*{_IN_FENCE})"
_SENTENCE = r"(?<=[.!?]) |(?<=[。！？])"
_BLANKS = " +"  # langchain has " ": the same seams, but a run of a million blanks would be a million pieces
_WALL = ".{48}"  # a run without blanks is measured in stretches: letter by letter would count far too many
_ANYWHERE = ["\n", _BLANKS, _WALL, ""]


def splitter(syntax: str, max_tokens: int) -> RecursiveCharacterTextSplitter:
    """Cuts glued text into pieces of `max_tokens`, rarely a few more, that follow each other without a gap.

    By the syntax's separators; by those of plain text where langchain does not know the syntax.
    """
    # Half a second, which a search and an ingest that finds nothing to do should not pay.
    from langchain_text_splitters import RecursiveCharacterTextSplitter  # noqa: PLC0415

    return RecursiveCharacterTextSplitter(
        separators=_separators(syntax),
        is_separator_regex=True,
        keep_separator=True,
        chunk_size=max_tokens,
        chunk_overlap=0,
        length_function=_length,
        strip_whitespace=False,
    )


def glued(document: Document) -> str:
    """The document's text as the splitter is to see it: of the same length, some line feeds replaced."""
    text = document.text
    if document.syntax not in _PROSE:
        return text
    if document.syntax == "markdown" and ("```" in text or "~~~" in text):
        text = _FENCE.sub(lambda fence: fence[0].replace("\n", _IN_FENCE), text)
    done = []
    position = 0
    for section in document.sections:
        if section.heading_path and (heading := HEADING.match(text, section.start, section.end)):
            done += [text[position : heading.start()], heading[0].replace("\n", _IN_HEADING)]
            position = heading.end()
    text = "".join([*done, text[position:]])
    for lead in (_LEAD, _TABLE_HEAD):
        text = lead.sub(lambda found: found[0].replace("\n", _IN_LEAD), text)
    return text


@functools.lru_cache
def _separators(syntax: str) -> list[str]:
    """Regular expressions, the best place for a cut first."""
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter  # noqa: PLC0415 - as above

    languages = RecursiveCharacterTextSplitter.get_separators_for_language
    if syntax == "markdown":
        # The rules alone. The sections have seen to the headings, and to what only looks like one in a code
        # block; and the end of a code block would come to stand at the start of the next chunk.
        rules = [
            known for known in languages(Language.MARKDOWN) if known.strip() and not set("#`") & set(known)
        ]
        return [*rules, *_separators("plain")]
    if syntax != "plain":
        try:
            known = languages(Language(syntax))
        except ValueError:  # no language of langchain's, or one without separators
            return _separators("plain")
        return [*(separator for separator in known if separator.strip(" ") not in {"", "\n"}), *_ANYWHERE]
    glue = [_IN_LEAD, _BLANK_LINE_IN_FENCE, _IN_FENCE]
    return ["\n\n", _ITEM, "\n", *glue, _SENTENCE, *_ANYWHERE[1:]]


def _length(piece: str) -> int:
    """Tokens of what the splitter sees, the short ones remembered: it asks for each several times."""
    return _remembered_length(piece) if len(piece) <= _REMEMBERED_CHARS else _true_length(piece)


def _true_length(piece: str) -> int:
    for glue in (_IN_HEADING, _IN_LEAD, _IN_FENCE):
        piece = piece.replace(glue, "\n")
    return count(piece)


_remembered_length = functools.lru_cache(maxsize=8192)(_true_length)

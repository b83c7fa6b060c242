"""What a document is called."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from pipeline.parse.structure import Heading

_LONGEST_TITLE = 300
# What programs write into a title when nobody does.
_NO_TITLE = re.compile(
    r"""(?:microsoft\ (?:word|powerpoint|excel)\s*-.*
      | (?:(?:powerpoint\ )?presentation|document|book|workbook|slide)\s*\d*
      | untitled.* | (?:no\ )?title
      | .*\.(?:docx?|pptx?|xlsx?|pdf|odt|rtf|tex|dvi|indd|qxd|html?|txt)
      | [\W\d_]*
    )""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def title_of(*, key: str, given: str | None, own: str | None, found: list[Heading], syntax: str) -> str:
    """The best of what we have: the source's, the format's own, the first heading, the file's name."""
    heading = _heading(found)
    if own and (_NO_TITLE.fullmatch(own.strip()) or (heading and _with_site(own.strip(), heading))):
        own = None
    for candidate in (given, own, heading):
        if candidate and (title := " ".join(candidate.split())):
            return title[:_LONGEST_TITLE]
    return _file_name(key, syntax)


def _with_site(own: str, heading: str) -> bool:
    """Whether a web page's title is its heading and, behind a sign, the name of the site."""
    rest = own.removeprefix(heading).lstrip()
    return rest != own and rest[:1] in {"", "|", "-", "–", "—", "·", "»", ":"}


def _heading(found: list[Heading]) -> str | None:
    """The heading over all others.

    Of several on one level ("Summary", "Motivation") none is the title, unless the text begins with it.
    """
    highest = min((heading.level for heading in found), default=1)
    above_all = [heading for heading in found if heading.level == highest]
    if len(above_all) == 1 or (above_all and highest == 1 and above_all[0].start == 0):
        return above_all[0].text
    return None


def _file_name(key: str, syntax: str) -> str:
    """The file's name as a reader would say it; code is known by its file's name as it stands."""
    path = PurePosixPath(key)
    if syntax not in {"markdown", "plain"}:
        return path.name or key
    words = " ".join(re.sub(r"_|(?<!\d)-|-(?!\d)", " ", path.stem).split()) or key  # dates keep their hyphens
    return words[0].upper() + words[1:] if words.islower() else words

"""What is sent of a group, and how what cannot be sent is written instead. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.errors import InputRefused
from pipeline.records import EmbedGroup

VERSION = "texts-1"
"""Names in recipes how texts are written: raised when the same group is sent as other strings."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SPECIAL = re.compile(r"<\|(\w+)\|>")
"""The form of the special tokens of the Qwen family, on which these models are built:
<|endoftext|>, <|im_start|>, <|fim_prefix|>, <|repo_name|> and others."""


def sendable(text: str) -> str:
    """The text without what a tokenizer takes for a command, or JSON and servers do not take at all.

    A literal `<|endoftext|>` would end the chunk for a contextual model, and shift every vector after it;
    control characters and lone surrogates do not pass through every server. All are replaced by what reads
    alike, by about as many tokens, and nothing that is not blank becomes blank. What is stored keeps them.
    """
    if "<|" in text:
        text = _SPECIAL.sub(r"<| \1 |>", text)
    text = _CONTROL.sub(_visible, text)
    if text.isascii():
        return text
    # There and back: pairs of surrogates become their character, lone ones U+FFFD.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def document(group: EmbedGroup) -> list[str]:
    """The texts of one document for a contextual model: the lead if there is one, then all that is seen."""
    lead = [group.lead] if group.lead.strip() else []
    return [sendable(text) for text in (*lead, *(chunk.text for chunk in group.seen))]


def kept(group: EmbedGroup) -> slice:
    """Which of `document` the vectors are kept of."""
    first = len(group.before) + bool(group.lead.strip())
    return slice(first, first + len(group.chunks))


def alone(group: EmbedGroup) -> list[str]:
    """The chunks for a model without context, each by itself with the lead in front of it."""
    lead = f"{group.lead}\n\n" if group.lead.strip() else ""
    return [sendable(f"{lead}{chunk.text}") for chunk in group.chunks]


def check(group: EmbedGroup) -> None:
    """Refuse what no service embeds.

    Raises:
        InputRefused: a chunk is blank, or there is none.
    """
    if not group.chunks:
        raise InputRefused(f"{group.title!r} has a group without chunks: there is nothing to embed")
    for ordinal in _blank(group):
        raise InputRefused(f"chunk {ordinal} of {group.title!r} is blank: there is nothing to embed")


def _blank(group: EmbedGroup) -> Iterator[int]:
    return (chunk.ordinal for chunk in group.seen if not chunk.text.strip())


def _visible(control: re.Match[str]) -> str:
    if control[0] in "\x0b\x0c":  # vertical tab and form feed
        return "\n"
    return " " if control[0].isspace() else "\ufffd"

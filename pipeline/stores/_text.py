"""Text as it can be stored."""

from __future__ import annotations


def well_formed(text: str) -> str:
    """Lone surrogates stand in no UTF-8: U+FFFD takes their place."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text

"""HTML to Markdown. For a worker process."""

from __future__ import annotations

import html
import re

from pipeline.parse.decode import clean, decode
from pipeline.parse.extract import Extract, Part, Unreadable

_DECLARED_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_MAIN = re.compile(r"<main\b[^>]*>.*?</main\s*>", re.IGNORECASE | re.DOTALL)
_HEAD_CHARS = 100_000
# Beside what the library takes for navigation: footers, what says by its role what it is, and the "¶" that
# documentation generators put behind each heading. It knows no combinators: "body > footer" matches nothing.
_NOT_CONTENT = ["footer", "[role=navigation]", "[role=banner]", "[role=contentinfo]", "a.headerlink"]


def read(content: bytes) -> Extract:
    """The page's main content: its `<main>`, or all but navigation, header and footer.

    The whole page where that leaves nothing.
    """
    from html_to_markdown import ConversionOptions, PreprocessingOptions, convert  # noqa: PLC0415  in the worker only

    declared = _DECLARED_CHARSET.search(content[:4096])
    page = clean(decode(content, declared=declared[1].decode("ascii") if declared else None))

    def markdown(markup: str, *, whole: bool) -> str:
        # Forms stay: some generators put a whole page into one.
        preprocessing = PreprocessingOptions(
            preset="minimal" if whole else "standard", remove_navigation=not whole, remove_forms=False
        )
        options = ConversionOptions(
            preprocessing=preprocessing,
            exclude_selectors=[] if whole else _NOT_CONTENT,
            extract_metadata=False,
            compact_tables=True,
            inline_data_media="alt_text_only",
        )
        result = convert(markup, options)
        if any("depth" in str(warning.kind).lower() for warning in result.warnings):
            raise Unreadable("has elements nested more than 1,024 deep")
        return result.content or ""

    main = _MAIN.findall(page)
    text = markdown(main[0] if len(main) == 1 else page, whole=False)
    if not text.strip():
        text = markdown(page, whole=True)
    title = _TITLE.search(page[:_HEAD_CHARS])
    return Extract(parts=(Part(text=text),), title=html.unescape(title[1]) if title else None)

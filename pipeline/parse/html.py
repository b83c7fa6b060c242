"""HTML to Markdown. For a worker process."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from pipeline.parse.decode import clean, decode
from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.parse.properties import about
from pipeline.records import JsonValue

_DECLARED_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_MAIN_TAG = re.compile(r"<(/?)main\b[^>]*>", re.IGNORECASE)
_HEAD_CHARS = 100_000
_TAG = re.compile(r"<(html|meta|link)\b([^<>]{0,2000})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
# Beside what the library takes for navigation: what says by its role that it is no content, and what
# makers of sites and their generators call so. It knows no combinators: "body > footer" matches nothing.
_NOT_CONTENT = [
    *("footer", "dialog", "template", "button", "[hidden]", "[aria-hidden=true]"),
    *("[role=navigation]", "[role=banner]", "[role=contentinfo]", "[role=search]", "[role=dialog]"),
    *("a.headerlink", "a.permalink", "a.anchor", "a.skip-link", "a.skip-to-content", ".mw-editsection"),
    *("#sidebar", "#navbar", "#nav", "#menu", "#footer", "#site-header", "#site-footer", "#cookie-banner"),
    *(".sidebar", ".navbar", ".breadcrumb", ".breadcrumbs", ".site-header", ".site-footer", ".site-nav"),
    *(".cookie-banner", ".cookie-notice", ".cookie-consent", ".sphinxsidebar", ".md-sidebar"),
    *(".navheader", ".navfooter", ".noprint", ".printfooter", ".catlinks"),
]
_ASIDE = ["aside", "[role=complementary]"]  # inside the main content, an aside is a note on it
_SAID = {
    # What pages say of themselves in <meta>, the likeliest first.
    "author": ("author", "article:author", "dc.creator"),
    "description": ("description", "og:description"),
    "published": ("article:published_time", "date", "dc.date", "dc.date.issued"),
    "modified": ("article:modified_time", "last-modified", "og:updated_time"),
    "keywords": ("keywords",),
}


def read(content: bytes, *, charset: str = "") -> Extract:
    """The page's main content: its `<main>`, or all but navigation, header, footer and what stands aside.

    The whole page where that leaves nothing.
    """
    declared = _DECLARED_CHARSET.search(content[:4096])
    page = clean(decode(content, declared=charset or (declared[1].decode("ascii") if declared else None)))
    main = _main(page)
    text = to_markdown(main, left_out=_NOT_CONTENT) if main else ""
    if not text.strip():
        text = to_markdown(page, left_out=[*_NOT_CONTENT, *_ASIDE])
    if not text.strip():
        text = to_markdown(page)
    head = page[:_HEAD_CHARS]
    title = _TITLE.search(head)
    metadata, language = _about(head)
    return Extract(
        parts=(Part(text=text),),
        title=html.unescape(title[1]) if title else None,
        metadata=metadata,
        language=language,
    )


def _main(page: str) -> str:
    """The one `<main>` element; empty where there is none, or several."""
    tags = list(_MAIN_TAG.finditer(page))
    if [tag[1] for tag in tags] != ["", "/"]:
        return ""
    return page[tags[0].start() : tags[1].end()]


def to_markdown(markup: str, *, left_out: Sequence[str] = ()) -> str:
    """The markup as Markdown, without scripts and styles.

    `left_out` are CSS selectors of what else is no content; where there are any, navigation goes too.

    Raises:
        Unreadable: it is nested too deeply.
    """
    from html_to_markdown import ConversionOptions, PreprocessingOptions, convert  # noqa: PLC0415  in the worker only

    # Forms stay: some generators put a whole page into one.
    preprocessing = PreprocessingOptions(
        preset="standard" if left_out else "minimal", remove_navigation=bool(left_out), remove_forms=False
    )
    options = ConversionOptions(
        preprocessing=preprocessing,
        exclude_selectors=list(left_out),
        extract_metadata=False,
        compact_tables=True,
        inline_data_media="alt_text_only",
    )
    result = convert(markup, options)
    if any("depth" in str(warning.kind).lower() for warning in result.warnings):
        raise Unreadable("has elements nested more than 1,024 deep")
    return result.content or ""


def _about(head: str) -> tuple[dict[str, JsonValue], str | None]:
    """What the page says of itself, and the language that it declares."""
    said: dict[str, str] = {}
    canonical = language = None
    for tag in _TAG.finditer(head):
        found = {
            name.lower(): html.unescape(one or other or bare).strip()
            for name, one, other, bare in _ATTRIBUTE.findall(tag[2])
        }
        match tag[1].lower():
            case "html":
                language = language or found.get("lang") or found.get("xml:lang")
            case "link" if "canonical" in found.get("rel", "").lower().split():
                canonical = canonical or found.get("href")
            case "meta" if found.get("content"):
                name = found.get("name") or found.get("property") or found.get("http-equiv") or ""
                said.setdefault(name.lower(), found["content"])
    named = {
        name: next((said[alias] for alias in aliases if alias in said), None)
        for name, aliases in _SAID.items()
    }
    absolute = canonical if canonical and canonical.startswith(("http://", "https://")) else None
    return about(canonical=absolute, **named), language

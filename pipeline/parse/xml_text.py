"""XML to Markdown that reads: sections by their titles, records by their fields. For a worker process.

No entity of another file is ever fetched, and none that stands for others is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pyexpat import ExpatError, ParserCreate, XMLParserType
from xml.etree.ElementTree import Element, TreeBuilder

from pipeline.parse.decode import clean, decode
from pipeline.parse.delimited import rows
from pipeline.parse.extract import Extract, Part, Unreadable

_DEEPEST = 200
_SHORT = 80
_LONGEST_CELL = 300
_LONGEST_ENTITY = 1_000
_MOST_COLUMNS = 30
_TITLES = {"title", "head", "heading", "headline", "subject"}
_STYLES = {"class", "style", "lang", "role"}
_CODE = {"programlisting", "screen", "codeblock", "literallayout", "code", "pre"}
_DECLARED = re.compile(r"""\A\s*<\?xml[^>]*?\?>""")
_ENCODING = re.compile(rb"""\A[^<]{0,4}<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{1,40})""")


def read(content: bytes, *, charset: str = "") -> Extract:
    """The elements in order; a title makes a heading of the depth at which it stands."""
    root = tree(content, charset=charset)
    title = next((_words(child) for child in root if _tag(child) in _TITLES and _words(child)), None)
    written = "\n\n".join(block for block in _blocks(root, 1) if block.strip())
    language = root.get("{http://www.w3.org/XML/1998/namespace}lang") or root.get("lang")
    return Extract(parts=(Part(text=written),), title=title, language=language)


def tree(content: bytes, *, charset: str = "") -> Element:
    """The root of a document.

    Raises:
        Unreadable: it is nested too deeply, or declares entities that stand for others.
        ValueError: it is not well-formed.
    """
    declared = _ENCODING.match(content)
    text = clean(decode(content, declared=declared[1].decode("ascii") if declared else charset))
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise Unreadable(f"has elements nested more than {_DEEPEST} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser = ParserCreate("utf-8", "}")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    _refuse_bombs(parser)
    try:
        parser.Parse(_DECLARED.sub("", text).encode("utf-8", "replace"), True)  # noqa: FBT003  expat knows no names
    except ExpatError as error:
        raise ValueError(f"no well-formed XML: {error}") from error
    return builder.close()


def _refuse_bombs(parser: XMLParserType) -> None:
    def declared(
        name: str,
        _is_parameter: bool,  # noqa: FBT001  expat says so
        value: str | None,
        _base: str | None,
        _system_id: str | None,
        _public_id: str | None,
        _notation: str | None,
    ) -> None:
        # One of another file has no value; as there is no handler for it, it is not read.
        if value is not None and ("&" in value or "%" in value or len(value) > _LONGEST_ENTITY):
            raise Unreadable(f"declares the entity {name[:40]!r}, which stands for others or for much text")

    parser.EntityDeclHandler = declared


def _blocks(element: Element, depth: int) -> Iterator[str]:
    """What an element says: a paragraph, a field, or what its children do."""
    if _tag(element) in _CODE and _words(element):
        yield f"```\n{''.join(element.itertext()).strip(chr(10))}\n```"
    elif _is_mixed(element):
        yield _words(element)
    elif len(element) == 0:
        yield _field(element)
    else:
        yield _attributes_line(element)
        yield from _children(element, depth)


def _children(element: Element, depth: int) -> Iterator[str]:
    fields: list[str] = []
    for child in _runs(element):
        if isinstance(child, str):
            yield "  \n".join(filter(None, fields))
            fields = []
            yield child
            continue
        if len(child) == 0 and _tag(child) not in _TITLES | _CODE and len(child.text or "") <= _SHORT:
            fields.append(_field(child))
            continue
        yield "  \n".join(filter(None, fields))
        fields = []
        if _tag(child) in _TITLES and (words := _words(child)):
            yield f"{'#' * min(depth, 6)} {words}"
        else:
            yield from _blocks(child, depth + 1)
    yield "  \n".join(filter(None, fields))


def _runs(element: Element) -> Iterator[Element | str]:
    """The children; of several like ones after each other, if they are records, their table."""
    for tag, run in groupby(element, key=lambda child: child.tag):
        like = list(run)
        if local(tag) not in _TITLES | _CODE and (table := _table(like)):
            yield table
        else:
            yield from like


def _table(like: list[Element]) -> str:
    """The Markdown table of elements that hold but short fields; empty where they are no such thing."""
    if len(like) < 2:
        return ""
    records = [_record(child) for child in like]
    if any(record is None for record in records):
        return ""
    found = [record for record in records if record]
    columns = list(dict.fromkeys(name for record in found for name in record))
    filled = sum(map(len, found))
    if not 1 < len(columns) <= _MOST_COLUMNS or filled * 2 < len(columns) * len(records):
        return ""
    return "".join(rows([columns, *([record.get(name, "") for name in columns] for record in found)]))


def _record(element: Element) -> dict[str, str] | None:
    """The fields of an element, by name; None where it has more than fields."""
    if _is_mixed(element) and len(element):
        return None
    record = {local(name): value for name, value in element.attrib.items()}
    if len(element) == 0 and (element.text or "").strip():
        record[_tag(element)] = _words(element)
    for child in element:
        name = _tag(child)
        if len(child) or child.attrib or name in record or name in _CODE:
            return None
        record[name] = _words(child)
    return record if all(len(value) <= _LONGEST_CELL for value in record.values()) else None


def _field(element: Element) -> str:
    words = _words(element)
    attributes = _attributes(element)
    name = f"{_tag(element)} ({attributes})" if attributes and words else _tag(element)
    return f"{name}: {words or attributes}" if words or attributes else ""


def _attributes_line(element: Element) -> str:
    attributes = _attributes(element)
    return f"{_tag(element)}: {attributes}" if attributes else ""


def _attributes(element: Element) -> str:
    return ", ".join(
        f"{name}={value}"
        for name, value in element.attrib.items()
        if value and "}" not in name and name not in _STYLES
    )


def _is_mixed(element: Element) -> bool:
    """Whether text stands between the element's children, or it is a paragraph of its own."""
    if len(element) == 0:
        return len(element.text or "") > _SHORT
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in element)


def _words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def _tag(element: Element) -> str:
    return local(element.tag)


def local(name: str) -> str:
    """The name without its namespace."""
    return name.rpartition("}")[2]

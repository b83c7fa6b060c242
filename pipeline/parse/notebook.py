"""Jupyter notebooks to Markdown. For a worker process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from pipeline.parse.decode import clean, decode
from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.parse.properties import about
from pipeline.records import JsonValue

Object: TypeAlias = Mapping[str, JsonValue]

_LONGEST_OUTPUT = 4_000
_COLOURS = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
_FENCE = re.compile("`{3,}")


def read(content: bytes, *, charset: str = "") -> Extract:
    """The cells in order: text as it stands, code in fences, and what it printed, as far as that is text."""
    try:
        notebook = json.loads(clean(decode(content, declared=charset)))
    except RecursionError as error:
        raise Unreadable("is nested too deeply") from error
    if not isinstance(notebook, dict):
        raise Unreadable("is no notebook: there is no object at its top")
    said = _object(notebook.get("metadata"))
    language = _language(said)
    cells = [_object(cell) for cell in _list(notebook.get("cells")) or _old_cells(notebook)]
    blocks = [block for cell in cells for block in _cell(cell, language) if block.strip()]
    authors = [str(_object(author).get("name") or "") for author in _list(said.get("authors"))]
    title = said.get("title")
    return Extract(
        parts=(Part(text="\n\n".join(blocks)),),
        title=title if isinstance(title, str) else None,
        metadata=about(author=", ".join(filter(None, authors)), kernel=language),
    )


def _cell(cell: Object, language: str) -> Iterator[str]:
    source = _text(cell.get("source", cell.get("input")))
    match cell.get("cell_type"):
        case "markdown":
            yield source.strip()
        case "heading":  # of notebooks of before 2014
            yield f"{'#' * min(6, int(str(cell.get('level') or 1)))} {source.strip()}"
        case "code":
            if source.strip():
                yield fenced(source.rstrip(), language)
            for output in _list(cell.get("outputs")):
                yield _output(_object(output))
        case _:
            yield source.strip()


def _output(output: Object) -> str:
    """What a cell printed, gave or raised; pictures leave no trace."""
    data = _object(output["data"]) if "data" in output else output
    if output.get("output_type") in {"error", "pyerr"}:
        return fenced(f"{output.get('ename')}: {output.get('evalue')}"[:_LONGEST_OUTPUT])
    if markdown := _text(data.get("text/markdown")):
        return markdown[:_LONGEST_OUTPUT]
    page = _text(data.get("text/html"))
    if "<table" in page.lower():
        from pipeline.parse.html import to_markdown  # noqa: PLC0415  few notebooks have one

        return to_markdown(page)[:_LONGEST_OUTPUT]
    printed = _COLOURS.sub("", _text(data.get("text/plain", data.get("text")))).strip("\n")
    return fenced(printed[:_LONGEST_OUTPUT]) if printed.strip() else ""


def fenced(text: str, language: str = "") -> str:
    """A code block, whatever fences stand in it."""
    fence = "`" * max([2, *(len(found) for found in _FENCE.findall(text))])
    fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def _language(said: Object) -> str:
    for where, name in (("kernelspec", "language"), ("language_info", "name")):
        found = _object(said.get(where)).get(name)
        if isinstance(found, str) and re.fullmatch(r"[\w+#-]{1,30}", found):
            return found
    return ""


def _old_cells(notebook: Object) -> list[JsonValue]:
    """Those of the third version of the format, which had worksheets."""
    return [
        cell for sheet in _list(notebook.get("worksheets")) for cell in _list(_object(sheet).get("cells"))
    ]


def _object(value: JsonValue) -> Object:
    return value if isinstance(value, dict) else {}


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _text(value: JsonValue) -> str:
    """A text, or the lines that it is written as."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""

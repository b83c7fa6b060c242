"""How fast documents are parsed, by format.

    python benchmarks/parsing.py [FOLDER]

FOLDER: its Markdown files are parsed too. The others are generated: ten pages, slides, sheets or chapters
each. As many are in flight as there are worker processes, one a core; their start is not counted.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import docx
import fpdf
import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pptx

from pipeline.parse import DocumentParser
from pipeline.records import ItemRef, RawDocument

ROUNDS = 3
SENTENCE = "The device is charged with its own cable, and it may not be left alone while it does so. "
CHAPTERS = [(f"Chapter {number}", SENTENCE * 8) for number in range(1, 11)]


def html() -> bytes:
    body = "".join(
        f"<h2>{title}</h2><p>{text}</p><table><tr><td>1</td></tr></table>" for title, text in CHAPTERS
    )
    return f"<html><head><title>Manual</title></head><body><main>{body}</main></body></html>".encode()


def pdf() -> bytes:
    file = fpdf.FPDF()
    for title, text in CHAPTERS:
        file.add_page()
        file.set_font("helvetica", size=20, style="B")
        file.cell(0, 12, title, new_x="LMARGIN", new_y="NEXT")
        file.set_font("helvetica", size=11)
        file.multi_cell(0, 6, text)
    return bytes(file.output())


def office_docx() -> bytes:
    file = docx.Document()
    for title, text in CHAPTERS:
        file.add_heading(title, 1)
        file.add_paragraph(text)
    out = io.BytesIO()
    file.save(out)
    return out.getvalue()


def office_pptx() -> bytes:
    file = pptx.Presentation()
    for title, text in CHAPTERS:
        slide = file.slides.add_slide(file.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = text
    out = io.BytesIO()
    file.save(out)
    return out.getvalue()


def office_xlsx() -> bytes:
    file = openpyxl.Workbook()
    for title, _ in CHAPTERS:
        sheet = file.create_sheet(title)
        for row in range(100):
            sheet.append([row, "part", row * 1.5, SENTENCE[:30]])
    out = io.BytesIO()
    file.save(out)
    return out.getvalue()


def csv() -> bytes:
    return b"number,name,price,note\n" + b"".join(b'%d,part,12.50,"a, b"\n' % row for row in range(2000))


GENERATED: dict[str, tuple[str, Callable[[], bytes], int]] = {
    "CSV": ("a.csv", csv, 200),
    "HTML": ("a.html", html, 500),
    "PDF": ("a.pdf", pdf, 60),
    "DOCX": ("a.docx", office_docx, 200),
    "PPTX": ("a.pptx", office_pptx, 200),
    "XLSX": ("a.xlsx", office_xlsx, 100),
}


def raw(key: str, content: bytes) -> RawDocument:
    return RawDocument(ref=ItemRef(source="bench", key=key, version="1"), content=content, media_type="")


def markdown_in(folder: Path) -> list[RawDocument]:
    return [raw(path.name, path.read_bytes()) for path in sorted(folder.rglob("*.md"))]


async def seconds(parser: DocumentParser, documents: Sequence[RawDocument], at_once: int) -> float:
    waiting = iter(documents)

    async def work() -> None:
        for document in waiting:
            await parser.parse(document)

    started = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(work)
    return time.perf_counter() - started


async def measure(name: str, documents: Sequence[RawDocument], processes: int) -> None:
    parser = DocumentParser(processes=processes)
    await seconds(parser, documents[:processes], processes)
    best = min([await seconds(parser, documents, processes) for _ in range(ROUNDS)])
    megabytes = sum(len(document.content) for document in documents) / 1e6
    print(
        f"| {name} | {len(documents):,} | {megabytes / best:.1f} | {len(documents) / best:,.0f} |", flush=True
    )


async def main() -> None:
    processes = os.cpu_count() or 1
    print("| format | files | MB/s | docs/s |\n| --- | --- | --- | --- |")
    if len(sys.argv) > 1:
        await measure("Markdown", markdown_in(Path(sys.argv[1])), processes)
    for name, (key, make, count) in GENERATED.items():
        await measure(name, [raw(key, make())] * count, processes)


if __name__ == "__main__":
    anyio.run(main)

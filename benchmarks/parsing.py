"""How fast documents are parsed, by format, beside the library that reads them and beside markitdown.

    python benchmarks/parsing.py [FOLDER] [--chapters N] [--markitdown PYTHON]

FOLDER: its Markdown files are parsed too. The others are generated: ten pages, slides, sheets or
chapters each, or N. One document after the other, in one worker process whose start is not counted;
documents a second of processor time, this process's and the worker's together: the best of several rounds.
"Alone" is the library's own call in this process. PYTHON: the interpreter of an environment that has
markitdown, which reads the same files.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import docx
import fpdf
import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pptx
import psutil  # type: ignore[import-untyped]  # it ships no types
from anyio import to_thread

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.parse import DocumentParser, formats
from pipeline.parse.native import extracted
from pipeline.records import ItemRef, RawDocument
from tests import documents

ROUNDS = 6
SENTENCE = "The device is charged with its own cable, and it may not be left alone while it does so. "


def chapters(count: int) -> list[tuple[str, str]]:
    return [(f"Chapter {number}", SENTENCE * 8) for number in range(1, count + 1)]


CHAPTERS = chapters(10)


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


def long(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """A file of the tests, with as much text and as long a table as the others here."""

    def made() -> bytes:
        kept = documents.WORDS, documents.TABLE
        rows = [[f"City {row}", f"{row}.5"] for row in range(20 * len(CHAPTERS))]
        documents.WORDS, documents.TABLE = SENTENCE * 8 * len(CHAPTERS), [kept[1][0], *rows]
        try:
            return make()
        finally:
            documents.WORDS, documents.TABLE = kept

    return made


def letter() -> bytes:
    return documents.mail(text=f"Hello Bo,\n\n{SENTENCE * 80}")


GENERATED: dict[str, tuple[str, Callable[[], bytes], int]] = {
    "HTML": ("a.html", html, 40),
    "PDF": ("a.pdf", pdf, 15),
    "DOCX": ("a.docx", office_docx, 40),
    "PPTX": ("a.pptx", office_pptx, 40),
    "XLSX": ("a.xlsx", office_xlsx, 20),
    "XLS": ("a.xls", long(documents.old_sheets), 40),
    "ODT": ("a.odt", long(documents.open_text), 40),
    "ODS": ("a.ods", long(documents.open_sheets), 40),
    "ODP": ("a.odp", long(documents.open_slides), 40),
    "RTF": ("a.rtf", long(documents.rtf), 40),
    "EPUB": ("a.epub", long(documents.epub), 40),
    "reStructuredText": ("a.rst", long(documents.rst), 60),
    "AsciiDoc": ("a.adoc", long(documents.asciidoc), 60),
    "CSV": ("a.csv", csv, 60),
    "JSON": ("a.json", long(documents.json_object), 60),
    "XML": ("a.xml", long(documents.xml), 60),
    "notebooks": ("a.ipynb", long(documents.notebook), 60),
    "EML": ("a.eml", letter, 60),
}


def by_html(content: bytes) -> None:
    from html_to_markdown import convert

    convert(content.decode())


def by_liteparse(content: bytes) -> None:
    from liteparse import LiteParse

    LiteParse(output_format="markdown", image_mode="off", ocr_enabled=False, quiet=True).parse(content)


def alone(key: str) -> Callable[[bytes], None] | None:
    """What the library does by itself; None where the reader is our own."""
    kind = formats.format_of("", key) or formats.PLAIN
    if kind is formats.HTML:
        return by_html
    if kind is formats.PDF:
        return by_liteparse
    own = {formats.RST: "text/prs.fallenstein.rst"}
    if kind in (formats.RST, formats.ASCIIDOC) or any("office" in reader for reader in kind.readers):
        return lambda content: void(extracted(content, own.get(kind, kind.media_type)))
    return None


def void(_value: object) -> None:
    return None


MARKITDOWN = """
import io, sys, time
from markitdown import MarkItDown, StreamInfo
reader, rounds = MarkItDown(), 3
for line in sys.stdin:
    path, suffix, count = line.split()
    content = open(path, "rb").read()
    best = 1e9
    try:
        reader.convert_stream(io.BytesIO(content), stream_info=StreamInfo(extension=suffix))
        for _ in range(rounds):
            started = time.process_time()
            for _ in range(int(count)):
                reader.convert_stream(io.BytesIO(content), stream_info=StreamInfo(extension=suffix))
            best = min(best, time.process_time() - started)
        print(int(count) / best, flush=True)
    except Exception as error:
        print(0, flush=True)
"""


def raw(key: str, content: bytes) -> RawDocument:
    return RawDocument(ref=ItemRef(source="bench", key=key, version="1"), content=content, media_type="")


def markdown_in(folder: Path) -> list[RawDocument]:
    return [raw(path.name, path.read_bytes()) for path in sorted(folder.rglob("*.md"))]


def spent(parser: DocumentParser) -> float:
    """Processor seconds of this process and of its workers, so far."""
    alive = [psutil.Process(worker._process.pid).cpu_times() for worker in parser._workers._idle]  # noqa: SLF001
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        time.process_time()
        + (ended.ru_utime + ended.ru_stime)
        + sum(worker.user + worker.system for worker in alive)
    )


async def rates(
    parser: DocumentParser, files: Sequence[RawDocument], read: Callable[[bytes], None] | None
) -> tuple[float, float]:
    """Documents a second, ours and by the library alone (0: there is none): the best of rounds by turns."""
    best = [float("inf"), float("inf")]
    for document in files[:10]:
        await parser.parse(document)
    for _ in range(ROUNDS):
        started = spent(parser)
        for document in files:
            await parser.parse(document)
        best[0] = min(best[0], spent(parser) - started)
        if read:
            best[1] = min(best[1], await to_thread.run_sync(seconds_alone, read, files))
    return len(files) / best[0], len(files) / best[1]


def seconds_alone(read: Callable[[bytes], None], files: Sequence[RawDocument]) -> float:
    started = time.process_time()
    for file in files:
        read(file.content)
    return time.process_time() - started


class Markitdown:
    """A process that reads the same files with markitdown."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, "-c", MARKITDOWN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def rate(self, key: str, content: bytes, count: int) -> float:
        if self._process.stdin is None or self._process.stdout is None:
            return 0.0
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            self._process.stdin.write(f"{file.name} {Path(key).suffix} {count}\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline() or 0)


async def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", nargs="?", type=Path)
    options.add_argument("--markitdown", metavar="PYTHON")
    options.add_argument("--chapters", type=int, default=10)
    chosen = options.parse_args()
    CHAPTERS[:] = chapters(chosen.chapters)
    other = Markitdown(chosen.markitdown) if chosen.markitdown else None
    parser = DocumentParser(processes=1)
    print("| format | KB | docs/s | library alone | overhead | markitdown |")
    print("| --- | --- | --- | --- | --- | --- |")
    if chosen.folder:
        files = markdown_in(chosen.folder)
        size = sum(len(file.content) for file in files) / len(files) / 1e3
        ours, _ = await rates(parser, files, None)
        print(f"| Markdown | {size:.1f} | {ours:,.0f} | – | – | – |")
    for name, (key, make, count) in GENERATED.items():
        content = make()
        ours, its = await rates(parser, [raw(key, content)] * count, alone(key))
        beside = [f"{its:,.0f}", f"{its / ours - 1:.0%}"] if its else ["–", "–"]
        theirs = other.rate(key, content, max(3, count // 20)) if other else 0
        cells = [
            name,
            f"{len(content) / 1e3:.1f}",
            f"{ours:,.0f}",
            *beside,
            f"{theirs:,.1f}" if theirs else "–",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    anyio.run(main)

"""How fast documents are parsed, by format, beside the library that reads them and beside markitdown.

    python benchmarks/parsing.py [FOLDER] [--chapters N] [--only NAME,NAME] [--markitdown PYTHON]

FOLDER: its Markdown files are parsed too. The others are generated: ten chapters of 2,900 characters (a
page, a slide or a sheet each), or N. Documents a second: one worker process, whose start is not counted, is
kept busy with as many documents as an ingest reads at a time (`prepare.READERS`); the library has one
process, too. The best of many rounds of 64 (of slow ones fewer), by us and by the library by turns.
"Processor" is how much more processor time (of both our processes) a document takes than in the same job. It
wants two cores that have nothing else to do.

"Library alone" is its own call in this process. "Same job" is that call with the options that make it do what
we have of it, and with its text taken: for HTML the main content alone, and what the page says of itself; for
PDF the latter; for sheets and slides the text of each page. PYTHON: the interpreter of an environment that
has markitdown, which reads the same files.
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import docx
import fpdf
import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pptx
import psutil  # type: ignore[import-untyped]  # it ships no types
from anyio import to_thread

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.parse import DocumentParser, formats, native
from pipeline.prepare import READERS
from pipeline.records import ItemRef, RawDocument
from tests import documents

SECONDS = 2.0  # for each of what is compared
ROUND, FEW = 64, 8  # documents: at most, and at least
ROUND_SECONDS = 0.5
SENTENCE = "The device is charged with its own cable, and it may not be left alone while it does so. "
PAGE = SENTENCE * 32


def chapters(count: int) -> list[tuple[str, str]]:
    return [(f"Chapter {number}", PAGE) for number in range(1, count + 1)]


CHAPTERS = chapters(10)


def html() -> bytes:
    """A page of a manual as sites' generators make them: links, lists, tables, code, and menus all around."""
    about = "".join(
        f'<meta name="{name}" content="{said}">'
        for name, said in (("description", SENTENCE), ("author", "A. Bee"), ("keywords", "device, cable"))
    )
    menu = "".join(
        f'<li class="entry"><a href="/manual/{number}.html">Entry {number}</a></li>' for number in range(60)
    )
    body = "".join(
        f'<section id="c{number}"><h2>{title}<a class="headerlink" href="#c{number}">#</a></h2>'
        + f'<p>{SENTENCE * 7}See <a href="/manual/{number}.html#more">more of <em>this</em></a>.</p>' * 4
        + "<ul>"
        + "<li><p>Charge it with <code>charge --now</code>, and wait.</p></li>" * 4
        + "</ul><table><thead><tr><th>Part</th><th>Price</th></tr></thead><tbody>"
        + f"<tr><td>cable</td><td>{number}.50</td></tr>" * 4
        + f'</tbody></table><pre><code class="language-sh">charge --now {number}\n</code></pre></section>'
        for number, (title, _) in enumerate(CHAPTERS)
    )
    return f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Manual | Devices</title>
    {about}<link rel="canonical" href="https://example.org/manual/"><style>{"p {margin: 0}" * 50}</style>
    <script>{"window.loaded = true;" * 50}</script></head><body><header><nav><ul>{menu}</ul></nav></header>
    <div class="sidebar"><ul>{menu}</ul></div><main><h1>Manual</h1>{body}</main>
    <footer><ul>{menu}</ul></footer></body></html>""".encode()


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
        documents.WORDS, documents.TABLE = PAGE * len(CHAPTERS), [kept[1][0], *rows]
        try:
            return make()
        finally:
            documents.WORDS, documents.TABLE = kept

    return made


def letter() -> bytes:
    return documents.mail(text=f"Hello Bo,\n\n{PAGE * len(CHAPTERS)}")


GENERATED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "HTML": ("a.html", html),
    "PDF": ("a.pdf", pdf),
    "DOCX": ("a.docx", office_docx),
    "PPTX": ("a.pptx", office_pptx),
    "XLSX": ("a.xlsx", office_xlsx),
    "XLS": ("a.xls", long(documents.old_sheets)),
    "ODT": ("a.odt", long(documents.open_text)),
    "ODS": ("a.ods", long(documents.open_sheets)),
    "ODP": ("a.odp", long(documents.open_slides)),
    "RTF": ("a.rtf", long(documents.rtf)),
    "EPUB": ("a.epub", long(documents.epub)),
    "reStructuredText": ("a.rst", long(documents.rst)),
    "AsciiDoc": ("a.adoc", long(documents.asciidoc)),
    "CSV": ("a.csv", csv),
    "JSON": ("a.json", long(documents.json_object)),
    "XML": ("a.xml", long(documents.xml)),
    "notebooks": ("a.ipynb", long(documents.notebook)),
    "EML": ("a.eml", letter),
}


def by_html(content: bytes) -> None:
    from html_to_markdown import convert

    convert(content.decode())


def by_html_as_we_do(content: bytes) -> None:
    from html_to_markdown import ConversionOptions, PreprocessingOptions, convert

    from pipeline.parse import html

    options = ConversionOptions(
        preprocessing=PreprocessingOptions(preset="standard", remove_forms=False),
        exclude_selectors=[*html._NOT_CONTENT, *html._ASIDE],  # noqa: SLF001
        extract_metadata=True,
        compact_tables=True,
        inline_data_media="alt_text_only",
    )
    convert(content.decode(), options)


def by_liteparse(content: bytes, *, metadata: bool = False) -> None:
    from liteparse import LiteParse

    LiteParse(
        output_format="markdown",
        image_mode="off",
        ocr_enabled=False,
        quiet=True,
        extract_document_metadata=metadata,
    ).parse(content)


def by_library(key: str) -> list[Callable[[bytes], object]]:
    """What the library does by itself, and with the options that we need; none where the reader is ours."""
    kind = formats.format_of("", key) or formats.PLAIN
    if kind is formats.HTML:
        return [by_html, by_html_as_we_do]
    if kind is formats.PDF:
        return [by_liteparse, lambda content: by_liteparse(content, metadata=True)]
    if kind in (formats.RST, formats.ASCIIDOC) or any("office" in reader for reader in kind.readers):
        media_type = {formats.RST: "text/prs.fallenstein.rst"}.get(kind, kind.media_type)
        by_pages = kind in (*formats.SHEETS, formats.PPTX)
        return [
            partial(by_xberg, media_type=media_type),
            partial(by_xberg, media_type=media_type, take=by_pages),
        ]
    return []


def by_xberg(content: bytes, *, media_type: str, take: bool | None = None) -> list[str]:
    """`take`: the text that it found, by pages or not; None: it is left where it is."""
    import xberg

    document = xberg.ExtractInput(kind="bytes", bytes=content, mime_type=media_type)
    found = native.loop().run_until_complete(xberg.extract(document, native.settings())).results[0]
    if take is None:
        return []
    return [page.content for page in found.pages or []] if take else [found.content]


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
    return time.process_time() + sum(
        seconds_of(worker._process.pid)  # noqa: SLF001
        for worker in parser._workers._idle  # noqa: SLF001
    )


def seconds_of(process: int) -> float:
    try:
        return time.clock_gettime(~process << 3 | 2)  # Linux: the process's own clock, in nanoseconds
    except (AttributeError, OSError):
        used = psutil.Process(process).cpu_times()  # in hundredths of a second
        return float(used.user + used.system)


@dataclass(slots=True)
class Spent:
    """The least seconds that a round took: by the clock, and of processors."""

    clock: float = float("inf")
    processor: float = float("inf")

    def count(self, clock: float, processor: float) -> None:
        self.clock = min(self.clock, clock)
        self.processor = min(self.processor, processor)


async def compare(
    parser: DocumentParser, files: list[RawDocument], libraries: Sequence[Callable[[bytes], object]]
) -> list[Spent]:
    """Seconds for each document, of us and of each way to call the library: the best of rounds by turns."""
    best = [Spent() for _ in range(1 + len(libraries))]
    await read_all(parser, few := (files * FEW)[: max(FEW, len(files))])  # starts the worker
    started = time.perf_counter()
    await read_all(parser, few)
    quick = ROUND_SECONDS * len(few) / (time.perf_counter() - started)
    files = files * math.ceil(min(ROUND, max(FEW, quick)) / len(files))
    ends = time.monotonic() + SECONDS * len(best)
    turns = itertools.cycle(list(zip(best[1:], libraries, strict=True)) or [None])
    while time.monotonic() < ends or not math.isfinite(best[0].clock):
        started, spent_before = time.perf_counter(), spent(parser)
        await read_all(parser, files)
        took = time.perf_counter() - started
        if (processor := spent(parser) - spent_before) > 0:  # else a worker was replaced meanwhile
            best[0].count(took, processor)
        if other := next(turns):  # one of them, lest only the later ones find their caches warm
            its, read = other
            its.count(*await to_thread.run_sync(alone, read, files))
    return [Spent(its.clock / len(files), its.processor / len(files)) for its in best]


async def read_all(parser: DocumentParser, files: Sequence[RawDocument]) -> None:
    """As an ingest has them read: so many at a time."""
    rest = iter(files)

    async def read() -> None:
        for document in rest:
            await parser.parse(document)

    async with anyio.create_task_group() as tasks:
        for _ in range(READERS):
            tasks.start_soon(read)


def alone(read: Callable[[bytes], object], files: Sequence[RawDocument]) -> tuple[float, float]:
    """Seconds that the library takes, by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    for file in files:
        read(file.content)
    return time.perf_counter() - clock, time.process_time() - processor


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


def row(name: str, size: float, found: Sequence[Spent], theirs: float) -> str:
    ours, *libraries = found
    cells = [name, f"{size / 1e3:.1f}", f"{1 / ours.clock:,.0f}"]
    for its in libraries or [None, None]:
        cells += [f"{1 / its.clock:,.0f}", f"{ours.clock / its.clock - 1:.0%}"] if its else ["–", "–"]
    cells += [f"{ours.processor / libraries[-1].processor - 1:.0%}" if libraries else "–"]
    return f"| {' | '.join([*cells, f'{theirs:,.1f}' if theirs else '–'])} |"


async def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", nargs="?", type=Path)
    options.add_argument("--markitdown", metavar="PYTHON")
    options.add_argument("--chapters", type=int, default=10)
    options.add_argument("--only", metavar="NAMES", default="", help="of formats, separated by commas")
    chosen = options.parse_args()
    CHAPTERS[:] = chapters(chosen.chapters)
    other = Markitdown(chosen.markitdown) if chosen.markitdown else None
    parser = DocumentParser(processes=1)
    print("| format | KB | docs/s | library alone | over it | same job | over it | processor | markitdown |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    if chosen.folder:
        files = markdown_in(chosen.folder)
        size = sum(len(file.content) for file in files) / len(files)
        print(row("Markdown", size, await compare(parser, files, []), 0), flush=True)
    for name, (key, make) in GENERATED.items():
        if not chosen.only or name in chosen.only.split(","):
            content = make()
            found = await compare(parser, [raw(key, content)], by_library(key))
            theirs = other.rate(key, content, 3) if other else 0
            print(row(name, len(content), found, theirs), flush=True)


if __name__ == "__main__":
    anyio.run(main)

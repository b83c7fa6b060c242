"""Blocks to PDF: A4 pages with headings, an outline, tables, a running head and page numbers."""

from __future__ import annotations

from datetime import UTC, datetime

from blocks import Block, Heading, Items, Paragraph, Table, title_of
from fpdf import FPDF
from fpdf.fonts import FontFace

_LINE = 5.2
_HEADING_POINTS = {1: 20, 2: 14, 3: 11.5}


class _Handbook(FPDF):
    """A page of the handbook. Its built-in fonts know Latin-1 only, which the sources keep to."""

    def __init__(self, title: str, created: datetime) -> None:
        super().__init__(format="A4")
        self._running_head = f"Lathhouse Instruments - {title}"
        self.set_compression(compress=False)  # zlib's output differs between its builds; the text does not
        self.set_title(title)
        self.set_author("Lathhouse Instruments")
        self.set_producer("examples/build.py")
        self.set_creation_date(created)
        self.set_margin(22)
        self.set_auto_page_break(auto=True, margin=24)
        self.add_page()

    def header(self) -> None:
        if self.page_no() > 1:
            self.set_font("helvetica", size=8)
            self.cell(w=0, h=8, text=self._running_head, align="R", new_x="LMARGIN", new_y="NEXT")

    def footer(self) -> None:
        self.set_y(-16)
        self.set_font("helvetica", size=8)
        self.cell(w=0, h=8, text=f"Page {self.page_no()}", align="C")

    def lines(self, text: str, *, gap: float, indent: float = 0, height: float = _LINE) -> None:
        self.set_x(self.l_margin + indent)
        self.multi_cell(w=0, h=height, text=text, align="L", new_x="LMARGIN", new_y="NEXT")
        self.ln(gap)


def pdf_of(blocks: list[Block], created: datetime) -> bytes:
    """The bytes of a PDF, the same for the same blocks and date."""
    page = _Handbook(title_of(blocks), created.astimezone(UTC))
    for block in blocks:
        _draw(page, block)
    return bytes(page.output())


def _draw(page: _Handbook, block: Block) -> None:
    page.set_font("helvetica", size=10)
    match block:
        case Heading(level=level, text=text):
            if level > 1 and page.will_page_break(30):
                page.add_page()
            page.start_section(text, level=level - 1)
            page.set_font("helvetica", style="B", size=_HEADING_POINTS[level])
            page.ln(2)
            page.lines(text, gap=2, height=_HEADING_POINTS[level] * 0.5)
        case Paragraph(text=text):
            page.lines(text, gap=2)
        case Items(texts=texts, numbered=numbered):
            for number, text in enumerate(texts, 1):
                page.lines(f"{number}. {text}" if numbered else f"- {text}", gap=0.6, indent=5)
            page.ln(2)
        case Table(rows=rows):
            page.set_font("helvetica", size=9)
            bold = FontFace(emphasis="BOLD")
            with page.table(rows, line_height=_LINE, headings_style=bold, text_align="LEFT"):
                pass  # drawn on the way out
            page.ln(3)
        case _:
            raise ValueError(f"a PDF has no place for {type(block).__name__}")

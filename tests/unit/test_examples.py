from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TypedDict

import docx
import openpyxl  # type: ignore[import-untyped]
import pptx
import pypdf
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
HANDBOOK = EXAMPLES / "handbook"
KEYS = sorted(path.relative_to(HANDBOOK).as_posix() for path in HANDBOOK.rglob("*") if path.is_file())


class Question(TypedDict):
    question: str
    key: str
    phrase: str
    subject: str | None


QUESTIONS: list[Question] = json.loads((EXAMPLES / "questions.json").read_text(encoding="utf-8"))
IN_NEED_OF_CONTEXT = [asked for asked in QUESTIONS if asked["subject"]]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))


def build(examples: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", str(examples / "build.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def bytes_of(examples: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in sorted((examples / "handbook").rglob("*")) if path.is_file()
    }


def joined(text: str) -> str:
    return " ".join(text.split())


def read_back(key: str) -> str:
    """A document's text, by the library that knows its format."""
    path = HANDBOOK / key
    match path.suffix:
        case ".pdf":
            return "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
        case ".docx":
            paper = docx.Document(str(path))
            cells = [cell.text for table in paper.tables for row in table.rows for cell in row.cells]
            return "\n".join([paragraph.text for paragraph in paper.paragraphs] + cells)
        case ".pptx":
            return "\n".join(pptx_lines(path))
        case ".xlsx":
            rows = [
                row for sheet in openpyxl.load_workbook(path) for row in sheet.iter_rows(values_only=True)
            ]
            return "\n".join(str(value) for row in rows for value in row if value is not None)
        case ".html":
            return html.unescape(re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8")))
        case _:
            return path.read_text(encoding="utf-8")


def pptx_lines(path: Path) -> list[str]:
    lines: list[str] = []
    for slide in pptx.Presentation(str(path)).slides:
        for shape in slide.shapes:
            if shape.has_text_frame:
                lines.append(shape.text_frame.text)
            if shape.has_table:
                lines.extend(cell.text for row in shape.table.rows for cell in row.cells)
        lines.append(slide.notes_slide.notes_text_frame.text)
    return lines


def passage(asked: Question) -> str:
    """The section, without its heading, in which the answer stands."""
    source = EXAMPLES / "sources" / f"{asked['key']}.md"
    path = source if source.exists() else HANDBOOK / asked["key"]
    heading = {".html": r"<h\d>.*?</h\d>", ".txt": r"\n\s*\n"}.get(path.suffix, r"(?m)^#+ .*$")
    found = [
        part
        for part in re.split(heading, path.read_text(encoding="utf-8"))
        if asked["phrase"] in joined(part)
    ]
    assert len(found) == 1, f"{asked['phrase']!r} stands in {len(found)} sections of {asked['key']}"
    return joined(found[0])


def test_the_committed_documents_are_what_their_sources_make(copy: Path) -> None:
    checked = build(copy, "--check")

    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_changed_a_missing_and_a_foreign_document_fail_the_check(copy: Path) -> None:
    source = copy / "sources/devices/sorrel.pdf.md"
    source.write_text(source.read_text(encoding="utf-8") + "\nOne more line.\n", encoding="utf-8")
    (copy / "handbook/finance/budget-2025.xlsx").unlink()
    shutil.copy(copy / "handbook/people/welcome.pptx", copy / "handbook/people/other.pptx")

    checked = build(copy, "--check")

    assert checked.returncode == 1
    assert checked.stderr.splitlines()[:3] == [
        "devices/sorrel.pdf differs from its source",
        "finance/budget-2025.xlsx is missing",
        "people/other.pptx has no source",
    ]


def test_building_twice_gives_the_same_bytes(copy: Path) -> None:
    for made in (copy / "handbook").rglob("*.*"):
        if made.suffix in {".pdf", ".docx", ".pptx", ".xlsx"}:
            made.unlink()
    assert build(copy).returncode == 0
    first = bytes_of(copy)

    assert build(copy).returncode == 0
    assert bytes_of(copy) == first
    assert len(first) == len(KEYS)


def test_the_handbook_has_every_format() -> None:
    assert Counter(Path(key).suffix for key in KEYS) == {
        ".md": 17, ".html": 4, ".txt": 3, ".pdf": 3, ".docx": 3, ".pptx": 2, ".xlsx": 2, ".csv": 2,
    }  # fmt: skip


def test_no_document_is_large() -> None:
    assert max((HANDBOOK / key).stat().st_size for key in KEYS) < 60_000


@pytest.mark.parametrize("key", [key for key in KEYS if (EXAMPLES / "sources" / f"{key}.md").exists()])
def test_a_binary_document_holds_every_word_of_its_source(key: str) -> None:
    source = (EXAMPLES / "sources" / f"{key}.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[A-Za-z]{4,}", source))
    if key.endswith(".xlsx"):  # its title is a property, and its headings are the sheets' names
        words = set(re.findall(r"[A-Za-z]{4,}", re.sub(r"(?m)^#+ .*$", "", source)))

    assert words <= set(re.findall(r"[A-Za-z]{4,}", read_back(key)))


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked["key"])
def test_the_answer_stands_in_the_document(asked: Question) -> None:
    assert asked["phrase"] in joined(read_back(asked["key"]))


@pytest.mark.parametrize("asked", IN_NEED_OF_CONTEXT, ids=lambda asked: asked["key"])
def test_the_answering_passage_does_not_name_its_subject(asked: Question) -> None:
    assert asked["subject"] is not None
    assert asked["subject"].casefold() not in passage(asked).casefold()


def test_most_questions_need_context() -> None:
    assert len(QUESTIONS) == 20
    assert len(IN_NEED_OF_CONTEXT) >= 12

"""Makes the handbook's binary documents (PDF, DOCX, PPTX, XLSX) from the texts in `sources/`.

    python examples/build.py           write them
    python examples/build.py --check   write nothing; exit 1 when a committed file differs from its source

`sources/devices/sorrel.pdf.md` becomes `handbook/devices/sorrel.pdf`. The same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from blocks import read_blocks
from office import docx_of, members, pptx_of, xlsx_of
from pdf import pdf_of

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "sources"
HANDBOOK = HERE / "handbook"
CREATED = datetime(2025, 4, 1, 9, tzinfo=UTC)
WRITERS = {".pdf": pdf_of, ".docx": docx_of, ".pptx": pptx_of, ".xlsx": xlsx_of}


def made() -> Iterator[tuple[Path, bytes]]:
    """Every binary document: where it belongs, and what it must hold."""
    for source in sorted(SOURCES.rglob("*.md")):
        target = HANDBOOK / source.relative_to(SOURCES).with_suffix("")
        yield target, WRITERS[target.suffix](read_blocks(source.read_text(encoding="utf-8")), CREATED)


def faults() -> Iterator[str]:
    """What is wrong with the committed documents, a line each."""
    wanted = dict(made())
    for target, content in wanted.items():
        name = target.relative_to(HANDBOOK).as_posix()
        if not target.exists():
            yield f"{name} is missing"
        elif not same(target.read_bytes(), content):
            yield f"{name} differs from its source"
    for found in sorted(HANDBOOK.rglob("*")):
        if found.suffix in WRITERS and found not in wanted:
            yield f"{found.relative_to(HANDBOOK).as_posix()} has no source"


def same(committed: bytes, content: bytes) -> bool:
    """Whether two documents hold the same; builds of zlib may compress an archive's members differently."""
    if committed == content:
        return True
    return all(one.startswith(b"PK") for one in (committed, content)) and members(committed) == members(
        content
    )


def main() -> int:
    """Write the documents, or check them."""
    parser = argparse.ArgumentParser(description="Make the handbook's binary documents from their sources.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    if parser.parse_args().check:
        found = [*faults()]
        for fault in found:
            print(fault, file=sys.stderr)
        if found:
            print("run: python examples/build.py", file=sys.stderr)
        return bool(found)
    for target, content in made():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        print(f"{target.relative_to(HANDBOOK).as_posix()}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

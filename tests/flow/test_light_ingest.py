"""What an ingest and upkeep leave unloaded: `import lancedb` alone costs them a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = """
import asyncio, sys
from pathlib import Path
from config.build import build_pipeline, connectors, maintain
from config.load import load_settings
from pipeline.ingest import ingest_source
from pipeline.stores import _maintenance, _upkeep

_upkeep.UNINDEXED_ROWS = 2  # so that little is enough to be tended
_maintenance.SPARE_FRAGMENTS = 1

async def main():
    settings = load_settings(Path(sys.argv[1]))
    async with build_pipeline(settings) as pipeline, pipeline.store.lease("ingesting notes"):
        [(connector, metadata)] = connectors(settings)
        report = await ingest_source(connector, pipeline, metadata=metadata)
        indexes = await (await pipeline.store._opened.find("chunks")).list_indices()
        uncovered = max(index.num_unindexed_rows for index in indexes)
    tended = {one.table: one for one in await maintain(settings, tell=lambda _: None)}
    print(report.added, report.changed, report.removed, len(report.failures))
    print(uncovered, tended["documents"].compacted)
    print([name for name in ("lancedb", "prefect", "langchain_core") if name in sys.modules])

asyncio.run(main())
"""


def ingest(settings: Path) -> list[str]:
    command = [sys.executable, "-c", RUN, str(settings)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_an_ingest_with_an_edit_its_upkeep_and_maintenance_do_not_import_the_lancedb_package(
    tmp_path: Path,
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(3):
        (notes / f"{number}.md").write_text(f"# Note {number}\n\nA sentence.\n")
    settings = tmp_path / "docweave.yaml"
    settings.write_text("store: {uri: db}\nsources:\n  notes: {type: files, path: notes}\n")
    assert ingest(settings) == ["3 0 0 0", "0 False", "[]"]
    (notes / "1.md").write_text("---\nyear: 2024\n---\n# Note 1\n\nAnother sentence.\n")
    (notes / "2.md").unlink()
    with settings.open("a") as more:
        more.write("columns:\n  year: {type: integer}\n")
    assert ingest(settings) == ["0 1 1 0", "0 True", "[]"]

"""What an ingest asks of object storage: requests and objects, counted by an S3 emulator (moto).

    python benchmarks/object_storage.py [--documents 10 100 1000]

A document has two passages. At AWS a PUT, POST or LIST costs some twelve times what a GET does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.s3 import Bucket, new_bucket, serving

METHODS = ("PUT", "POST", "LIST", "GET", "HEAD", "DELETE")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, nargs="+", default=[10, 100, 1000], metavar="N")
    chosen = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    print(f"{'':44}{''.join(f'{method:>8}' for method in METHODS)}{'objects':>9}{'MB':>7}{'s':>7}")
    with serving() as endpoint, tempfile.TemporaryDirectory() as folder:
        for documents in chosen.documents:
            asyncio.run(measure(new_bucket(endpoint, f"bucket-{documents}"), Path(folder), documents))


async def measure(bucket: Bucket, folder: Path, documents: int) -> None:
    from apps import tables
    from config.build import build_pipeline, connectors, open_reader
    from config.load import load_settings
    from pipeline.ingest import ingest_source
    from pipeline.query import Mode, Question

    settings = load_settings(written(bucket, folder / str(documents), documents))

    async def ingest() -> None:
        async with build_pipeline(settings) as pipeline, pipeline.store.lease("measuring"):
            for connector, metadata in connectors(settings):
                await ingest_source(connector, pipeline, metadata=metadata)

    async def search() -> None:
        question = Question(text="who says word7?", mode=Mode("hybrid"), limit=5)
        if not await tables.search(settings, question):
            raise SystemExit("nothing was found")

    await counted(bucket, f"{documents:,} new documents", ingest)
    await counted(bucket, "  again, without a change", ingest)
    (folder / str(documents) / "documents" / "0.md").write_text("# Edited\n\nIt says something else.")
    await counted(bucket, "  again, one of them edited", ingest)
    await counted(bucket, "  a search in a process of its own", search)
    reader = await open_reader(settings)
    await reader.space()
    await counted(bucket, "  counting the documents with an open reader", reader.counts)


async def counted(bucket: Bucket, what: str, work: Callable[[], Awaitable[object]]) -> None:
    before, began = bucket.requests(), time.monotonic()
    await work()
    seconds = time.monotonic() - began
    made = Counter(bucket.requests())
    made.subtract(before)
    objects = bucket.objects()
    print(
        f"{what:44}{''.join(f'{made[method]:>8,}' for method in METHODS)}{len(objects):>9,}"
        f"{sum(objects.values()) / 1e6:>7.1f}{seconds:>7.1f}",
        flush=True,
    )


def written(bucket: Bucket, folder: Path, documents: int) -> Path:
    """Settings over so many documents of two passages each."""
    (folder / "documents").mkdir(parents=True)
    for number in range(documents):
        parts = (f"## Part {n}\n\n" + f"Sentence of part {n} says word{number * n}. " * 40 for n in range(2))
        (folder / "documents" / f"{number}.md").write_text("\n\n".join([f"# Note {number}", *parts]))
    options = dict(bucket.options)
    for secret in ("aws_access_key_id", "aws_secret_access_key"):
        (folder / secret).write_text(options[secret])
        options[secret] = f"file:{secret}"
    path = folder / "docweave.yaml"
    source = {"type": "files", "path": "documents"}
    path.write_text(
        json.dumps({"store": {"uri": bucket.uri, "options": options}, "sources": {"notes": source}})
    )
    return path


if __name__ == "__main__":
    main()

"""How fast documents become chunks, beside langchain's splitter as it comes.

    python benchmarks/chunking.py FOLDER [--rounds 3] [--max-tokens 512]

Reads the Markdown files below FOLDER and prints a Markdown table. Times are processor seconds of this
process, the best of the rounds, and cover the splitting only: reading and parsing are done before.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import tiktoken
from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

from pipeline import splitter
from pipeline.chunk import Chunker
from pipeline.parse import DocumentParser
from pipeline.records import Document, ItemRef, RawDocument
from pipeline.tokens import count, encoding

Cut = Callable[[Document], list[str]]


@dataclass(slots=True, kw_only=True)
class Way:
    name: str
    cut: Cut
    seconds: float = float("inf")
    chunks: int = 0
    over: int = 0


def main() -> None:
    arguments = argparse.ArgumentParser(description="Chunking speed, as a Markdown table.")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--max-tokens", type=int, default=512)
    chosen = arguments.parse_args()
    documents = anyio.run(parse, read(chosen.folder))
    if not documents:
        raise SystemExit(f"no Markdown files below {chosen.folder}")
    ways = contenders(chosen.max_tokens)
    for _ in range(chosen.rounds):
        for way in ways:
            measure(way, documents, chosen.max_tokens)
    print_table(ways, documents)


def read(folder: Path) -> list[RawDocument]:
    return [
        RawDocument(
            ref=ItemRef(source="benchmark", key=path.relative_to(folder).as_posix(), version="1"),
            content=path.read_bytes(),
            media_type="text/markdown",
        )
        for path in sorted(folder.rglob("*.md"))
    ]


async def parse(found: list[RawDocument]) -> list[Document]:
    parser = DocumentParser()
    return [await parser.parse(raw) for raw in found]


def contenders(max_tokens: int) -> list[Way]:
    chunker = Chunker(max_tokens=max_tokens)
    ways = [
        Way(name="docweave", cut=lambda document: [chunk.text for chunk in chunker.chunk(document)]),
        Way(name="langchain, Markdown separators", cut=stock(encoding(), max_tokens, Language.MARKDOWN)),
        Way(name="langchain, default separators", cut=stock(encoding(), max_tokens, None)),
    ]
    if cl100k_is_here():
        stock_cut = stock(tiktoken.get_encoding("cl100k_base"), max_tokens, Language.MARKDOWN)
        ways.append(Way(name="langchain, Markdown separators, cl100k", cut=stock_cut))
    return ways


def stock(vocabulary: tiktoken.Encoding, max_tokens: int, language: Language | None) -> Cut:
    """What `from_tiktoken_encoder` builds, for a vocabulary that tiktoken has no name for.

    Its own length function too, but for `disallowed_special`: as it comes, it raises where a text says
    `<|endoftext|>`.
    """
    separators = RecursiveCharacterTextSplitter.get_separators_for_language(language) if language else None
    splits = RecursiveCharacterTextSplitter(
        separators=separators,
        is_separator_regex=language is not None,
        chunk_size=max_tokens,
        chunk_overlap=0,
        length_function=lambda text: len(
            vocabulary.encode(text, allowed_special=set(), disallowed_special=())
        ),
    )
    return lambda document: splits.split_text(document.text)


def cl100k_is_here() -> bool:
    """Whether tiktoken's cache holds it: it would be downloaded otherwise."""
    address = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    default = Path(tempfile.gettempdir()) / "data-gym-cache"
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR") or default
    return (Path(folder) / hashlib.sha1(address.encode()).hexdigest()).exists()  # noqa: S324 - tiktoken's naming


def measure(way: Way, documents: list[Document], max_tokens: int) -> None:
    splitter._remembered_length.cache_clear()  # noqa: SLF001 - no round may find the counts of another
    start = time.process_time()
    chunks = [way.cut(document) for document in documents]
    way.seconds = min(way.seconds, time.process_time() - start)
    texts = [text for each in chunks for text in each]
    way.chunks = len(texts)
    way.over = sum(count(text) > max_tokens for text in texts)


def print_table(ways: list[Way], documents: list[Document]) -> None:
    megabytes = sum(len(document.text.encode()) for document in documents) / 1e6
    print(f"{len(documents):,} documents, {megabytes:.1f} MB; tokens of {encoding().name}\n")
    print("| way | MB/s | documents/s | chunks | over the limit | docweave is |")
    print("|---|---:|---:|---:|---:|---:|")
    for way in ways:
        speed = f"{megabytes / way.seconds:.1f} | {len(documents) / way.seconds:,.0f}"
        ratio = "" if way is ways[0] else f"{way.seconds / ways[0].seconds:.1f} × as fast"
        print(f"| {way.name} | {speed} | {way.chunks:,} | {way.over:,} | {ratio} |")


if __name__ == "__main__":
    main()

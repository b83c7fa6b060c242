"""A chat over your documents, in the terminal, with citations.

    python examples/chat.py --config docweave.yaml
    python examples/chat.py --config docweave.yaml --base-url https://api.openai.com/v1 --model gpt-5-mini

Without --base-url nothing is asked of a model: each answer is the passages that answer best. With it, any
server answers that speaks OpenAI's chat completions (its key is in OPENAI_API_KEY, if it asks for one); it is
given the passages, and told to cite them. Ends with an empty line, or Ctrl-D.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator

import httpx

from docweave import Context, DocweaveError, Index

TOKENS = 3_000
"""Of the passages that a model is given."""
SHOWN = 3
"""Passages, where there is no model."""
REMEMBERED = 6
"""Questions and answers before this one that a model is told."""
INSTRUCTIONS = """\
Answer from the numbered passages alone, in the language of the question, and in a few sentences. Cite every
passage that you use by its number, as [1]. If they do not hold the answer, say so."""

Answerer = Callable[[str, Context], Iterator[str]]
"""A question and what is known of it to the pieces of an answer."""


def passages(_question: str, context: Context) -> Iterator[str]:
    """What answers best itself, for whoever has no model: nothing is made up, and nothing is summed up."""
    if not context.passages:
        yield "Nothing is known of that."
    answers = [(hit, passage.number) for passage in context.passages for hit in passage.answers]
    answers.sort(key=lambda answer: -answer[0].score)
    for hit, number in answers[:SHOWN]:
        yield f"{' '.join(hit.text.split())[:400]} [{number}]\n\n"


class Model:
    """A model behind OpenAI's chat completions."""

    def __init__(self, base_url: str, model: str) -> None:
        key = os.environ.get("OPENAI_API_KEY", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=base_url.rstrip("/"), headers=headers, timeout=120)
        self._model = model
        self._said: list[dict[str, str]] = []

    def __call__(self, question: str, context: Context) -> Iterator[str]:
        """The answer, piece by piece as it comes."""
        asked = {"role": "user", "content": f"{context.text}\n\nQuestion: {question}"}
        system = {"role": "system", "content": INSTRUCTIONS}
        body = {"model": self._model, "stream": True, "messages": [system, *self._said, asked]}
        answer = ""
        with self._http.stream("POST", "/chat/completions", json=body) as reply:
            if reply.is_error:
                reply.read()
                raise SystemExit(f"{self._http.base_url} answers {reply.status_code}: {reply.text[:300]}")
            for line in reply.iter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                for choice in json.loads(data).get("choices", []):
                    piece = choice.get("delta", {}).get("content") or ""
                    answer += piece
                    yield piece
        self._said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        self._said = self._said[-2 * REMEMBERED :]


def citations(answer: str, context: Context) -> list[str]:
    """A line for each passage that the answer cites: number, heading and where it stands."""
    return [
        f"[{passage.number}] {passage.heading}\n    {passage.where}"
        for passage in context.passages
        if f"[{passage.number}]" in answer
    ]


def chat(index: Index, answerer: Answerer, questions: Iterator[str]) -> None:
    """Answer until there are no more questions."""
    for question in questions:
        if not question.strip():
            return
        try:
            context = index.context(question, tokens=TOKENS)
        except DocweaveError as error:
            print(error)
            continue
        answer = ""
        for piece in answerer(question, context):
            answer += piece
            print(piece, end="", flush=True)
        print("\n" if not answer.endswith("\n") else "")
        print("\n".join(citations(answer, context)), end="\n\n")


def asked() -> Iterator[str]:
    """What somebody types, a line at a time."""
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            return


def main() -> None:
    """Read the options, and chat."""
    about, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="docweave.yaml", help="the YAML settings")
    parser.add_argument("--base-url", help="of a server that speaks OpenAI's chat completions")
    parser.add_argument("--model", help="that it is asked for")
    options = parser.parse_args()
    if bool(options.base_url) != bool(options.model):
        parser.error("--base-url and --model belong together")
    answerer = Model(options.base_url, options.model) if options.base_url else passages
    try:
        index = Index.open(options.config)
    except DocweaveError as error:
        raise SystemExit(str(error)) from None
    with index:
        chat(index, answerer, asked())


if __name__ == "__main__":
    main()
